"""Lines break where words end, never exceed the width, and lose nothing but spaces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.screen.glyphs import ASCII, UNICODE, bar, level_meter
from edge_agent.screen.safe import safe
from edge_agent.screen.spans import Line, Span, clip, clip_line, line, line_width, width, wrap, written
from edge_agent.screen.terminal import Terminal, charset_of

SPANS = st.lists(
    st.builds(
        lambda text, style: Span(text=safe(text), style=style),
        st.text(st.sampled_from("ab 你好éשל\u0301👩‍🚒 \x1b")) | st.text(max_size=30),
        st.sampled_from(["plain", "bold", "dim", "bad"]),
    ),
    max_size=5,
).map(lambda spans: line(*spans))


def texts(lines: list[Line]) -> list[str]:
    return ["".join(span.text for span in one) for one in lines]


@given(SPANS, st.integers(2, 40), st.integers(0, 9))
def test_wrapped_lines_fit_and_hold_everything(spans: Line, cells: int, indent: int) -> None:
    """Only spaces are lost, where a line ends; the styles stay with their characters."""
    lines = wrap(spans, cells, indent=indent)
    assert all(line_width(one) <= cells for one in lines)
    kept = [(c, span.style) for one in lines for span in one for c in span.text if c != " "]
    assert kept == [(c, span.style) for span in spans for c in span.text if c != " "]


@given(SPANS, st.integers(1, 40))
def test_clipped_lines_fit(spans: Line, cells: int) -> None:
    """And are whole when they fit as they are."""
    clipped = clip_line(spans, cells, "…")
    assert line_width(clipped) <= cells
    if line_width(spans) <= cells:
        assert clipped == spans
    text = "".join(span.text for span in spans)
    assert width(clip(text, cells, "…")) <= cells


def test_lines_break_at_spaces_and_between_wide_characters() -> None:
    """A word is only broken when it is longer than a line."""
    assert texts(wrap(line("turn on the crane"), 8, indent=2)) == ["turn on", "  the", "  crane"]
    assert texts(wrap(line("你好世界"), 5)) == ["你好", "世界"]
    assert texts(wrap(line("abcdefgh"), 3)) == ["abc", "def", "gh"]
    assert texts(wrap(line(""), 3)) == [""]


def test_styles_are_colours_weights_or_nothing() -> None:
    """By what the terminal can do."""
    words = line("a", Span(text="b", style="dim"), Span(text="c", style="good"))
    assert (
        written(words, Terminal(is_tty=True, colour=True, movable=True)) == "a\x1b[2mb\x1b[0m\x1b[32mc\x1b[0m"
    )
    assert written(words, Terminal(is_tty=True, colour=False, movable=True)) == "a\x1b[2mb\x1b[0mc"
    assert written(words, Terminal(is_tty=True)) == written(words, Terminal(is_tty=False)) == "abc"


@pytest.mark.parametrize(
    ("rms", "peak", "meter"),
    [
        (-60, -60, "··········"),
        (-30, -12, "#####··|··"),
        (0, 0, "##########"),
        (12, 12, "##########"),
        (-120, -30, "····|·····"),
        (-31, -30.5, "#####·····"),
    ],
)
def test_level_meter(rms: float, peak: float, meter: str) -> None:
    """60 dB, the mean filled, the peak marked; nothing leaves the scale."""
    for signs in (ASCII, UNICODE):
        drawn = texts([level_meter(rms, peak, 10, signs)])[0]
        same = drawn.replace(signs.full, "#").replace(signs.empty, "·").replace(signs.peak, "|")
        assert same == meter


@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.integers(1, 30))
def test_meters_have_their_width(rms: float, peak: float, cells: int) -> None:
    """Whatever is measured."""
    assert line_width(level_meter(rms, peak, cells, ASCII)) == cells
    assert line_width(bar(rms, cells, "good", ASCII)) == cells


@pytest.mark.parametrize(
    ("environment", "coerced", "charset"),
    [
        ({"LANG": "de_DE.UTF-8"}, False, "utf-8"),
        ({"LANG": "C.utf8"}, False, "utf-8"),
        ({"LC_CTYPE": "UTF-8"}, False, "utf-8"),
        ({"LANG": "C"}, False, "ascii"),
        ({}, False, "ascii"),
        ({"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, False, "ascii"),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True, "ascii"),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False, "utf-8"),
        ({"LANG": "de_DE.ISO-8859-1@euro"}, False, "iso8859-1"),
        ({"LANG": "zh_TW.Big5"}, False, "big5"),
        ({"LANG": "xx.no-such-thing"}, False, "ascii"),
    ],
)
def test_character_set_of_the_locale(environment: dict[str, str], coerced: bool, charset: str) -> None:
    """The first of LC_ALL, LC_CTYPE, LANG; what Python set by itself does not count."""
    assert charset_of(environment, coerced=coerced) == charset
