"""A figure of panels, distributions and bars, as SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from edge_agent.bench.scale import Scale, bars_scale, scale
from edge_agent.bench.svg import Drawing
from edge_agent.types import Value

Side: TypeAlias = Literal["ours", "peer"]

_WIDTH, _MARGIN = 820.0, 32.0
_LEFT, _RIGHT = _MARGIN + 52.0, _MARGIN + 30.0
"""Beside a curve; at its right the name of its last mark has room."""
_CURVE_HEIGHT = 190.0
_BAR_HEIGHT, _BAR_GAP, _BAR_LEFT, _BAR_RIGHT = 20.0, 10.0, 250.0, 210.0
_HEAD = 74.0
_LABEL = 34
"""Characters that a bar's label has room for."""


class Series(Value, frozen=True):
    """One distribution."""

    name: str
    side: Side
    values: tuple[float, ...]
    median: float
    p95: float


class Curves(Value, frozen=True):
    """Distributions of one quantity: the share of cases that are at most so large."""

    heading: str
    unit: str
    of: str
    """What is counted: "recordings"."""
    series: tuple[Series, ...]


class Bar(Value, frozen=True):
    """One value, and how it is written."""

    label: str
    side: Side
    value: float
    text: str


class Bars(Value, frozen=True):
    """Values side by side, from zero."""

    heading: str
    bars: tuple[Bar, ...]


Panel: TypeAlias = Curves | Bars


def draw(title: str, facts: str, panels: Sequence[Panel]) -> str:
    """The SVG document.

    Args:
        title: what was measured.
        facts: with what, in one line.
        panels: from top to bottom.
    """
    height = _HEAD + sum(_height(panel) for panel in panels) + 10
    heard = "; ".join(_told(panel) for panel in panels)
    drawing = Drawing(_WIDTH, height, title=title, description=f"{facts}. {heard}")
    drawing.text(_MARGIN, 36, title, "title")
    drawing.text(_MARGIN, 58, facts, "small")
    top = _HEAD
    for panel in panels:
        if isinstance(panel, Curves):
            _draw_curves(drawing, panel, top)
        else:
            _draw_bars(drawing, panel, top)
        top += _height(panel)
    return drawing.finish()


def _height(panel: Panel) -> float:
    if isinstance(panel, Curves):
        return 40 + 20 * len(panel.series) + _CURVE_HEIGHT + 62
    return 38 + (_BAR_HEIGHT + _BAR_GAP) * len(panel.bars) + 14


def _told(panel: Panel) -> str:
    if isinstance(panel, Curves):
        return f"{panel.heading}: " + ", ".join(_summary(one, panel) for one in panel.series)
    return f"{panel.heading}: " + ", ".join(f"{bar.label} {bar.text}" for bar in panel.bars)


def _summary(series: Series, panel: Curves) -> str:
    count = len(series.values)
    of = panel.of.removesuffix("s") if count == 1 else panel.of
    return (
        f"{series.name}: median {written(series.median)} {panel.unit}, "
        f"95 % within {written(series.p95)} {panel.unit} ({count} {of})"
    )


def _draw_curves(drawing: Drawing, panel: Curves, top: float) -> None:
    drawing.text(_MARGIN, top + 22, panel.heading, "heading")
    for index, series in enumerate(panel.series):
        y = top + 46 + 20 * index
        drawing.path([(_MARGIN, y - 4), (_MARGIN + 30, y - 4)], f"line {series.side}")
        drawing.text(_MARGIN + 40, y, _summary(series, panel))
    plot_top = top + 40 + 20 * len(panel.series) + 12
    axis = scale([value for one in panel.series for value in one.values], _WIDTH - _LEFT - _RIGHT)
    _draw_axes(drawing, panel, axis, plot_top)
    for series in panel.series:
        _draw_curve(drawing, series, axis, plot_top)


def _draw_axes(drawing: Drawing, panel: Curves, axis: Scale, top: float) -> None:
    bottom = top + _CURVE_HEIGHT
    for share in (0.0, 0.25, 0.5, 0.75, 0.95):
        y = bottom - share * _CURVE_HEIGHT
        drawing.line(_LEFT, y, _WIDTH - _RIGHT, y, "axis" if share == 0 else "grid")
        drawing.text(_LEFT - 8, y + 4, f"{100 * share:.0f} %", "tick", "end")
    drawing.line(_LEFT, top, _WIDTH - _RIGHT, top, "grid")
    for value in axis.ticks():
        x = _LEFT + axis.at(value)
        drawing.line(x, top, x, bottom, "grid")
        drawing.text(x, bottom + 18, written(value), "tick", "middle")
    kind = ", logarithmic" if axis.logarithmic else ""
    drawing.text(_WIDTH - _RIGHT, bottom + 38, f"{panel.unit}{kind}", "tick", "end")
    drawing.text(_LEFT, bottom + 38, f"share of {panel.of} that took at most so long", "tick")


def _draw_curve(drawing: Drawing, series: Series, axis: Scale, top: float) -> None:
    """The empirical distribution function: a step up at each value."""
    bottom = top + _CURVE_HEIGHT
    ranked = sorted(series.values)
    x = _LEFT + axis.at(ranked[0])
    points = [(x, bottom)]
    for rank, value in enumerate(ranked, start=1):
        x = _LEFT + axis.at(value)
        points += [(x, points[-1][1]), (x, bottom - rank / len(ranked) * _CURVE_HEIGHT)]
    drawing.path(points, f"line {series.side}")
    for share, value, name in ((0.5, series.median, "p50"), (0.95, series.p95, "p95")):
        x, y = _LEFT + axis.at(value), bottom - share * _CURVE_HEIGHT
        drawing.circle(x, y, 4.5, series.side)
        drawing.text(x + 8, y + 16, name, "small")  # below the curve on its right, where it never is


def _draw_bars(drawing: Drawing, panel: Bars, top: float) -> None:
    drawing.text(_MARGIN, top + 22, panel.heading, "heading")
    axis = bars_scale([bar.value for bar in panel.bars], _WIDTH - _BAR_LEFT - _BAR_RIGHT)
    for index, bar in enumerate(panel.bars):
        y = top + 38 + index * (_BAR_HEIGHT + _BAR_GAP)
        label = bar.label if len(bar.label) <= _LABEL else f"{bar.label[: _LABEL - 1]}…"
        drawing.text(_BAR_LEFT - 10, y + 15, label, "", "end")
        drawing.rectangle(_BAR_LEFT, y, max(1.0, axis.at(bar.value)), _BAR_HEIGHT, bar.side)
        drawing.text(_BAR_LEFT + axis.at(bar.value) + 8, y + 15, bar.text)
    bottom = top + 38 + len(panel.bars) * (_BAR_HEIGHT + _BAR_GAP) - _BAR_GAP
    drawing.line(_BAR_LEFT, top + 34, _BAR_LEFT, bottom + 4, "axis")


def written(value: float) -> str:
    """A number with three digits that count, without a point where it needs none."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
