"""Text from elsewhere, made harmless for a terminal. Pure.

A device, or whoever may publish as one, chooses what is in its messages. Shown as they came, they could
clear the screen, set its title, move the cursor over another line, or make a line look like one of ours:
by escape sequences (ESC and the C1 controls), by newlines, by direction overrides (the "Trojan Source"
characters), by heaps of combining marks that grow over the lines above. What could do so is shown as an
escape (`\\x1b`), so that it is seen and does nothing.
"""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"
"""Persian, the scripts of India and emoji are spelled with them; they cannot move anything."""
_NUMBER_SIGNS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2")
"""Format characters by category, but visible: they stand under the digits that follow."""
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MOST_MARKS = 6
"""Combining marks upon one letter; no language needs more."""
LONGEST = 4000
"""Characters of one text that are shown: some minutes of speech."""


def safe(text: str, longest: int = LONGEST, *, charset: str = "utf-8") -> str:
    """The text in one line, with an escape for all that a terminal would obey instead of show.

    Args:
        text: from anywhere.
        longest: characters that are kept.
        charset: of the terminal; what it lacks is escaped too.
    """
    text = encodable(text, charset) if charset != "utf-8" else text
    cut = len(text) > longest
    text = text[:longest]
    if not (text.isascii() and text.isprintable()):
        text = _escaped(text)
    return text + "..." if cut else text


def _escaped(text: str) -> str:
    shown: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        if marks > _MOST_MARKS:
            continue
        shown.append(_escape(character) if _is_harmful(character, category) else character)
    return "".join(shown)


def harmless_json(document: str) -> str:
    """A JSON document with escapes inside its strings: the same value, and nothing a terminal obeys.

    Args:
        document: JSON on one line, as `json.dumps` writes it: outside of strings there is only ASCII.
    """
    if document.isascii() and document.isprintable():
        return document
    return "".join(
        _json_escape(character) if _is_harmful(character, unicodedata.category(character)) else character
        for character in document
    )


def encodable(text: str, charset: str) -> str:
    """The text with an escape for what the terminal's character set lacks."""
    if text.isascii():
        return text
    return text.encode(charset, "backslashreplace").decode(charset)


def fenced(text: str) -> str:
    """Text that keeps its direction to itself.

    Words written from right to left would take the figures behind them along to their side; a mark of
    direction before and behind them, which has no width, stops that.
    """
    if text.isascii() or not any(unicodedata.bidirectional(c) in {"R", "AL", "AN"} for c in text):
        return text
    return f"\u200e{text}\u200e"


def _is_harmful(character: str, category: str) -> bool:
    return category in _HARMFUL and character not in _JOINERS and character not in _NUMBER_SIGNS


def _escape(character: str) -> str:
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if known is not None:
        return known
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
