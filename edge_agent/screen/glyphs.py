"""The signs of the views, with an ASCII set for terminals that know no other; meters made of them. Pure."""

from __future__ import annotations

from edge_agent.screen.spans import Line, Span, Style, line
from edge_agent.types import Value

_FLOOR_DBFS = -60.0


class Glyphs(Value, frozen=True):
    """One set. No meaning hangs on a sign alone: a word stands beside it."""

    good: str
    warn: str
    bad: str
    speaking: str
    full: str
    empty: str
    peak: str
    rule: str
    ellipsis: str
    dot: str
    arrow: str


UNICODE = Glyphs(
    good="✓",
    warn="!",
    bad="✗",
    speaking="▸",
    full="█",
    empty="·",
    peak="│",
    rule="─",
    ellipsis="…",
    dot="·",
    arrow="→",
)
ASCII = Glyphs(
    good="+",
    warn="!",
    bad="x",
    speaking=">",
    full="#",
    empty=".",
    peak="|",
    rule="-",
    ellipsis="...",
    dot="-",
    arrow="->",
)


def glyphs(*, unicode: bool) -> Glyphs:
    """The set that the terminal can show."""
    return UNICODE if unicode else ASCII


def bar(share: float, cells: int, style: Style, signs: Glyphs) -> Line:
    """So much of a whole.

    Args:
        share: 0..1; what is beyond is cut.
        cells: the width.
        style: of the filled part.
        signs: the set.
    """
    filled = round(max(0.0, min(1.0, share)) * cells)
    if share > 0 and not filled:
        filled = 1  # a little is not nothing
    return line(
        Span(text=signs.full * filled, style=style), Span(text=signs.empty * (cells - filled), style="dim")
    )


def level_meter(rms_dbfs: float, peak_dbfs: float, cells: int, signs: Glyphs) -> Line:
    """A level from -60 to 0 dBFS: the mean filled, the peak as a mark, as meters on mixers do.

    Args:
        rms_dbfs: the mean.
        peak_dbfs: the peak; at the end of the scale it is marked as bad.
        cells: the width.
        signs: the set.
    """
    filled, mark = _place(rms_dbfs, cells), _place(peak_dbfs, cells)
    style: Style = "bad" if peak_dbfs > -1 else "good"
    if mark <= filled:
        return bar(filled / cells, cells, style, signs)
    return line(
        Span(text=signs.full * filled, style=style),
        Span(text=signs.empty * (mark - filled - 1), style="dim"),
        Span(text=signs.peak, style=style),
        Span(text=signs.empty * (cells - mark), style="dim"),
    )


def _place(dbfs: float, cells: int) -> int:
    return round(max(0.0, min(1.0, 1 - dbfs / _FLOOR_DBFS)) * cells)
