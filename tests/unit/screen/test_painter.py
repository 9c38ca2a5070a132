"""The region stays one region, whatever is printed above it."""

from __future__ import annotations

import io

import pyte
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.screen.painter import Painter

WORDS = st.lists(st.text("abc ", max_size=39), max_size=6)
FRAMES = st.lists(st.tuples(WORDS, WORDS.filter(bool)), min_size=1, max_size=8)


class Emulated(io.StringIO):
    """A file that a terminal of 40 × 12 reads; newline comes with carriage return, as a tty does it."""

    def __init__(self) -> None:
        super().__init__()
        self.screen = pyte.HistoryScreen(40, 12, history=1000, ratio=0.5)
        self._stream = pyte.Stream(self.screen)

    def write(self, text: str) -> int:
        self._stream.feed(text.replace("\n", "\r\n"))
        return len(text)

    @property
    def lines(self) -> list[str]:
        history = ["".join(line[x].data for x in range(40)).rstrip() for line in self.screen.history.top]
        shown = history + [line.rstrip() for line in self.screen.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown


def without_end(lines: list[str]) -> list[str]:
    lines = [line.rstrip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines


@given(FRAMES)
def test_what_is_told_stays_and_the_region_changes(
    frames: list[tuple[list[str], list[str]]],
) -> None:
    """All lines above, in their order, then the last region, and nothing of the regions before it."""
    terminal = Emulated()
    painter = Painter(terminal)
    painter.enter()
    told: list[str] = []
    for above, region in frames:
        painter.paint(above, region)
        told += above
        assert terminal.lines == without_end(told + region)
    assert terminal.screen.cursor.hidden
    painter.leave()
    assert terminal.lines == without_end(told)
    assert not terminal.screen.cursor.hidden


def test_the_same_again_costs_nothing() -> None:
    """Over SSH a quiet view is a quiet line."""
    written = io.StringIO()
    painter = Painter(written)
    painter.paint([], ["a", "b"])
    once = written.getvalue()
    painter.paint([], ["a", "b"])
    assert written.getvalue() == once


def test_a_line_of_the_whole_width_and_more_moves_nothing() -> None:
    """Terminals differ about the width of emoji; ours cuts what is too wide."""
    terminal = Emulated()
    painter = Painter(terminal)
    painter.enter()
    for _ in range(3):
        painter.paint(["x" * 60], ["y" * 60, "end"])
    assert [line[:1] for line in terminal.lines] == ["x", "x", "x", "y", "e"]
