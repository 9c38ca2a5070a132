"""No text may drive a terminal, and what is harmless stays as it is."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.screen.safe import LONGEST, encodable, fenced, harmless_json, safe

OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(
    st.sampled_from(
        "\x00\x07\x1b\x7f\x85\x9b\x9d\xad\u061c\u200b\u200d\u202e\u2028\u2069\ufeff\U000e0041a\u0301\n\r\t"
    )
)


@given(ANY_TEXT)
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    """Neither controls nor formats nor line ends; joiners and number signs, which are spelling, stay."""
    shown = safe(text)
    left = {c for c in shown if unicodedata.category(c) in OBEYED}
    assert left <= set("\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2")
    assert len(shown.splitlines()) <= 1
    assert safe(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["turn on the crane", "你好，世界", "Grüße, naïve café", "शुक्रिया", "می‌خواهم", "👩‍🚒 ok", "C:\\new"],
)
def test_words_stay_words(text: str) -> None:
    """Every script, emoji, and a backslash that is just one."""
    assert safe(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\U000e0041", "\\U000e0041"),
        ("a\u2028b", "a\\u2028b"),
    ],
)
def test_what_is_harmful_is_seen(text: str, shown: str) -> None:
    """As an escape."""
    assert safe(text) == shown


def test_too_long_a_text_is_cut_and_says_so() -> None:
    """A message may hold megabytes."""
    assert safe("x" * 100_000) == "x" * LONGEST + "..."


def test_marks_do_not_grow_over_the_lines_above() -> None:
    """Six upon one letter, no more."""
    assert safe("z" + "\u0301" * 500 + "y") == "z" + "\u0301" * 6 + "y"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_harmless_json_has_the_same_value(value: object) -> None:
    """Escapes are part of JSON."""
    document = harmless_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(document) == value
    assert len(document.splitlines()) == 1
    assert not any(unicodedata.category(c) == "Cc" for c in document)
    assert "\u202e" not in document


@given(st.text(), st.sampled_from(["ascii", "big5", "latin-1"]))
def test_a_poorer_character_set_loses_nothing_silently(text: str, charset: str) -> None:
    """What it lacks is escaped."""
    encodable(text, charset).encode(charset)
    assert encodable("你", "ascii") == "\\u4f60"


def test_right_to_left_words_keep_their_direction_to_themselves() -> None:
    """A mark of no width on both sides; other text is left alone."""
    assert fenced("שלום") == "\u200eשלום\u200e"
    assert fenced("hello 你好") == "hello 你好"
