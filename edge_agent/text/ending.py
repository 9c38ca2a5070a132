"""Whether words look like a whole sentence, so that a silence after them may be short. Pure.

Whisper ends nearly everything with a full stop, also what breaks off; the last word is the better witness:
nobody ends a sentence with an article or a conjunction.
"""

from __future__ import annotations

from edge_agent.types import Ending

_FINAL = frozenset(".!?。！？｡؟।")
_CARRIES_ON = ("...", "…", ",", "，", "、", "-", "–", "—", ":", ";", "；", "：")
_CLOSING = "\"'”’»)）」』"
_UNSPACED = frozenset({"zh", "yue", "ja"})

_OPEN_WORDS = {
    "en": "a an the and or but because if when while which who whose of from at into than my your"
    " our their um uh er erm",
    "de": "der die das den dem des eine einen einem einer eines und oder aber weil wenn dass ob als"
    " wie von bei für auf mein dein unser äh ähm",
    "fr": "le la les un une des du de et ou mais parce que qui dont quand si à au aux dans sur pour"
    " par avec mon ma mes ton ta tes son sa ses notre votre leur euh",
    "es": "el la los las un una unos unas y e o u pero porque que si cuando de del a al en con por"
    " para sin mi tu su nuestro eh",
    "it": "il lo la i gli le un uno una e o ma perché che se quando di del della a al alla in nel"
    " con per da ehm",
    "pt": "o a os as um uma e ou mas porque que se quando de do da em no na com por para sem meu seu",
    "nl": "de het een en of maar omdat als dat die van mijn jouw eh",
    "zh": "和 跟 與 与 或 但是 可是 因為 因为 所以 如果 然後 然后 而且 把 被",
    "yue": "同 同埋 但係 因為 所以 如果 跟住",
    "ja": "は が を に で と",
}
"""Words no sentence ends with. Not here: words that end one as well ("turn it on", "schalte es ein")."""
_OPEN = {language: tuple(words.split()) for language, words in _OPEN_WORDS.items()}


def ending(text: str, language: str) -> Ending:
    """How `text` looks at its end; "unknown" without punctuation and without a telling word."""
    primary = language.partition("-")[0].lower()
    bare = text.rstrip().rstrip(_CLOSING)
    if not bare:
        return "unknown"
    if bare.endswith(_CARRIES_ON):
        return "open"
    words = bare.rstrip("".join(_FINAL))
    last = words if primary in _UNSPACED else " ".join(words.split()[-1:]).casefold()
    known = _OPEN.get(primary, ())
    if last.endswith(known) if primary in _UNSPACED else last in known:
        return "open"
    return "finished" if bare[-1] in _FINAL else "unknown"
