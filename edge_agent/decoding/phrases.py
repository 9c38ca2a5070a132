"""Sentences Whisper writes where nobody speaks: credits and thanks of the subtitles it was trained on. Pure.

They are rejected only together with other doubt; people do say some of them.
"""

from __future__ import annotations

import re
import unicodedata

_ANYWHERE = (
    # Parts nobody dictates to a device.
    r"amara\.?\s?org",
    r"subtitles? by",
    r"untertitel(ung)? (von|der|im auftrag)",
    r"sous-?titr\w* (par|réalisés|société|st['’])",
    r"subt[ií]tulos? (por|realizados|de la comunidad)",
    r"legendas? (por|pela)",
    r"sottotitoli (e revisione|creati|a cura)",
    r"(请|請)?不吝(点赞|點贊|點讚)",
    r"(字幕|中文字幕)(由|志愿者|志願者|製作|制作|by|：|:)",
    r"(订阅|訂閱).{0,4}(转发|轉發|打赏|打賞)",
    r"明(镜|鏡).{0,3}(点点|點點)",
    r"자막 (제공|by)",
    r"字幕視聴",
)
_WHOLE = {
    "en": (
        "thank you",
        "thanks",
        "thank you very much",
        "thank you for watching",
        "thanks for watching",
        "thank you so much for watching",
        "please subscribe",
        "subscribe",
        "you",
        "bye",
        "bye bye",
        "the end",
        "okay",
        "oh",
        "so",
        "i'm sorry",
        "silence",
        "music",
        "applause",
    ),
    "de": ("vielen dank", "danke", "vielen dank fürs zuschauen", "bis zum nächsten mal", "tschüss"),
    "fr": ("merci", "merci beaucoup", "merci d'avoir regardé cette vidéo", "au revoir"),
    "es": ("gracias", "muchas gracias", "gracias por ver el video", "adiós", "suscríbete"),
    "it": ("grazie", "grazie a tutti", "grazie per la visione"),
    "pt": ("obrigado", "obrigada", "obrigado por assistir", "e aí"),
    "zh": ("谢谢", "謝謝", "谢谢大家", "謝謝大家", "谢谢观看", "謝謝觀看", "多谢收看", "多謝收看", "字幕"),
    "ja": ("ありがとうございました", "ご視聴ありがとうございました", "おやすみなさい"),
    "ko": ("감사합니다", "시청해주셔서 감사합니다", "고맙습니다"),
}
_PATTERN = re.compile("|".join(_ANYWHERE), re.IGNORECASE)
_PHRASES = frozenset(phrase for phrases in _WHOLE.values() for phrase in phrases)


def is_stock_phrase(text: str, language: str) -> bool:
    """The whole text is such a phrase (of its language or English), or holds a credit."""
    if _PATTERN.search(text):
        return True
    bare = _bare(text)
    return bare in _PHRASES and (bare in _WHOLE.get(language, ()) or bare in _WHOLE["en"])


def _bare(text: str) -> str:
    """Lower case, without signs at the ends, spaces single."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(" .,!?…。！？，、♪~-\"'")
