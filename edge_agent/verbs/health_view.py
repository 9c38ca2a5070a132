"""The verdicts of `health` and `doctor`, for a terminal or for a pipe. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.health.checks import CheckResult, Status
from edge_agent.screen.glyphs import Glyphs, glyphs
from edge_agent.screen.safe import safe
from edge_agent.screen.spans import Line, Span, Style, line, wrap
from edge_agent.screen.terminal import Terminal

_WORDS: dict[Status, str] = {"ok": "well", "warn": "WARN", "fail": "FAIL"}
_STYLES: dict[Status, Style] = {"ok": "good", "warn": "warn", "fail": "bad"}
_LEAST_TEXT = 30
"""Cells for a detail; where the names leave less, it goes below."""


def plain(results: Sequence[CheckResult]) -> list[str]:
    """Two columns, and a remedy below what is not well: the form that scripts know."""
    width = max(len(result.name) for result in results)
    lines = []
    for result in results:
        lines.append(f"{_WORDS[result.status]}  {result.name:<{width}} {result.detail}")
        if result.remedy:
            lines.append(f"      {'':<{width}} -> {result.remedy}")
    return lines


def pretty(results: Sequence[CheckResult], terminal: Terminal) -> list[Line]:
    """The verdict, then a line for each check with its sign and word, remedies indented below."""
    signs, columns = glyphs(unicode=terminal.unicode), terminal.columns - 1
    names = max(len(result.name) for result in results)
    lines = [*wrap(verdict(results, signs), columns, indent=2), ()]
    lead = 2 + 4 + 2 + names + 2
    indent = lead if columns - lead >= _LEAST_TEXT else 8
    for result in results:
        style = _STYLES[result.status]
        head = line(
            Span(text=f"{sign(result.status, signs)} {_WORDS[result.status]}", style=style),
            Span(text=f"  {result.name:<{names}}  ", style="bold"),
        )
        lines += wrap((*head, *line(safe(result.detail, charset=terminal.charset))), columns, indent=indent)
        if result.remedy:
            remedy = line(
                " " * indent,
                Span(text=f"{signs.arrow} {safe(result.remedy, charset=terminal.charset)}", style="who"),
            )
            lines += wrap(remedy, columns, indent=indent + 2)
    return lines


def verdict(results: Sequence[CheckResult], signs: Glyphs) -> Line:
    """One line that may be all one reads."""
    failed = [result.name for result in results if result.status == "fail"]
    warned = [result.name for result in results if result.status == "warn"]
    if failed:
        also = f"; degraded: {', '.join(warned)}" if warned else ""
        return line(Span(text=f"{signs.bad} failed: {', '.join(failed)}{also}", style="bad"))
    if warned:
        return line(Span(text=f"{signs.warn} degraded: {', '.join(warned)}", style="warn"))
    count = f"{len(results)} check{'' if len(results) == 1 else 's'}"
    return line(Span(text=f"{signs.good} all is well ({count})", style="good"))


def sign(status: Status, signs: Glyphs) -> str:
    """Of one verdict; its word stands beside it."""
    return {"ok": signs.good, "warn": signs.warn, "fail": signs.bad}[status]
