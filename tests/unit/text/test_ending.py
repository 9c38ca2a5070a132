"""Does it look like a whole sentence?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.text.ending import ending


@pytest.mark.parametrize(
    ("text", "language", "looks"),
    [
        ("Turn on the crane.", "en", "finished"),
        ('He said "stop!"', "en", "finished"),
        ("turn on the crane", "en", "unknown"),
        ("Turn the light on.", "en", "finished"),
        ("Turn on the.", "en", "open"),
        ("Turn it on, and", "en-GB", "open"),
        ("First of all,", "en", "open"),
        ("I would like to...", "en", "open"),
        ("Schalte das Licht ein.", "de", "finished"),
        ("Schalte das Licht ein und", "de", "open"),
        ("Allume la lumière dans la.", "fr", "open"),
        ("請打開電燈。", "zh", "finished"),
        ("請打開電燈", "zh", "unknown"),
        ("因為他今天沒來，所以", "zh", "open"),
        ("電気を", "ja", "open"),
        ("電気をつけます。", "ja", "finished"),
        ("", "en", "unknown"),
        (".", "en", "finished"),
    ],
)
def test_the_end_tells(text: str, language: str, looks: str) -> None:
    """Punctuation, but the last word before it: whole sentences do not end in an article."""
    assert ending(text, language) == looks


@given(st.text(), st.sampled_from(["en", "zh", "ja", "xx", ""]))
def test_any_text_has_an_ending(text: str, language: str) -> None:
    """No text makes it fall over."""
    assert ending(text, language) in {"finished", "open", "unknown"}
