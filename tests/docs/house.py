"""The picture of the house: who hands sound and words to whom. One SVG for each language."""

from __future__ import annotations

from html import escape
from pathlib import Path

from tests.docs.pages import REPOSITORY, Language
from tests.docs.tables import said

_ROOMS = (
    ("ears", "ALSA thread"),
    ("ring", "8 s of sound in memory"),
    ("cutter", "voice activity, endpoint"),
    ("scribe", "Whisper on CPU or GPU"),
    ("outbox", "SQLite, fsync"),
    ("courier", "MQTT 5, TLS"),
)
_TITLE = "From the microphone to the broker"
_TEXT = (
    "On the device, from left to right: ears, ring, cutter and scribe handle sound in memory only; the outbox"
    " keeps words on disk until courier has an acknowledgement from the MQTT broker, which passes them to"
    " subscribers. Commands come back the same way."
)
_STYLE = (
    "text{font-family:system-ui,'Noto Sans TC',sans-serif;fill:#1f2328}.n{font-size:15px;font-weight:600}"
    ".s{font-size:11px}.l{font-size:12px;fill:#57606a}rect{stroke:#57606a}path{stroke:#57606a;fill:none}"
)
_ABOUT = 'role="img" aria-labelledby="t d"'
_HEAD = (
    '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z" style="fill:#57606a"/></marker></defs>'
)
_WIDTH, _BOX, _STEP, _TOP = 1010, 104, 120, 62


def path(language: Language) -> Path:
    """The file."""
    return REPOSITORY / f"provisioning/docs/house{'' if language == 'en' else '.zh-TW'}.svg"


def svg(language: Language) -> str:
    """The picture, readable on light and dark pages; title and description are for those who hear it."""
    tag = "en" if language == "en" else "zh-TW"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} 180" {_ABOUT} lang="{tag}">',
        f'<title id="t">{escape(said(_TITLE, language))}</title>',
        f'<desc id="d">{escape(said(_TEXT, language))}</desc>',
        f"<style>{_STYLE}</style>",
        _HEAD,
        f'<rect x="1" y="1" width="{_WIDTH - 2}" height="178" rx="10" fill="#ffffff"/>',
        '<rect x="84" y="14" width="732" height="152" rx="8" fill="#f6f8fa"/>',
        _label(96, 36, "the device", language),
        f'<rect x="94" y="46" width="{3 * _STEP + _BOX + 8}" height="86" rx="6" fill="#ddf4ff"/>',
        _label(102, 151, "sound: in memory only, never written or sent", language),
        _label(590, 151, "words: on disk until acknowledged", language),
        _label(12, 86, "microphone", language),
        _label(840, 78, "MQTT broker", language),
        _label(840, 98, "and subscribers", language),
        _arrow(74, 92, 96, 92),
    ]
    for number, (name, what) in enumerate(_ROOMS):
        left = 98 + number * _STEP
        fill = "#ffffff" if number < 4 else "#dafbe1"
        parts.append(f'<rect x="{left}" y="{_TOP}" width="{_BOX}" height="58" rx="6" fill="{fill}"/>')
        middle = left + _BOX / 2
        parts.append(f'<text class="n" x="{middle:g}" y="{_TOP + 22}" text-anchor="middle">{name}</text>')
        parts += _lines(middle, said(what, language), language)
        if number:
            parts.append(_arrow(left - _STEP + _BOX, 92, left - 1, 92))
    parts.append(_arrow(98 + 5 * _STEP + _BOX, 80, 834, 80))
    parts.append(_arrow(834, 104, 98 + 5 * _STEP + _BOX + 1, 104))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _label(x: float, y: float, text: str, language: Language) -> str:
    return f'<text class="l" x="{x:g}" y="{y:g}">{escape(said(text, language))}</text>'


def _lines(middle: float, text: str, language: Language) -> list[str]:
    """A caption in one or two lines."""
    gap = " " if language == "en" else "、"
    words = text.split(gap)
    lines, longest = [words[0]], 15 if language == "en" else 9
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 1 <= longest:
            lines[-1] += gap + word
        else:
            lines.append(word)
    top = _TOP + 37
    return [
        f'<text class="s" x="{middle:g}" y="{top + 13 * row}" text-anchor="middle">{escape(line)}</text>'
        for row, line in enumerate(lines[:2])
    ]


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:g} {y1:g} {x2:g} {y2:g}" marker-end="url(#a)"/>'
