"""Lines of styled spans: how wide they are, how they break, and what is written for them. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from rich.cells import get_character_cell_size

from edge_agent.screen.safe import encodable, fenced
from edge_agent.screen.terminal import Terminal
from edge_agent.types import Value

Style: TypeAlias = Literal["plain", "bold", "dim", "good", "warn", "bad", "who"]

_SGR: dict[Style, str] = {"bold": "1", "dim": "2", "good": "32", "warn": "33", "bad": "1;31", "who": "36"}
_WITHOUT_COLOUR: dict[Style, str] = {"bold": "1", "dim": "2", "bad": "1"}
"""Where NO_COLOR is set: weight is no colour."""


class Span(Value, frozen=True):
    """A piece of one line. The text holds nothing a terminal would obey (see `safe`)."""

    text: str
    style: Style = "plain"


Line: TypeAlias = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    """A line of plain texts and spans; empty ones fall out."""
    spans = (part if isinstance(part, Span) else Span(text=part) for part in parts)
    return tuple(span for span in spans if span.text)


def width(text: str) -> int:
    """Cells that a text takes; two for each wide character."""
    return len(text) if text.isascii() else sum(map(get_character_cell_size, text))


def line_width(spans: Line) -> int:
    """Cells that a line takes."""
    return sum(width(span.text) for span in spans)


def clip(text: str, cells: int, ellipsis: str) -> str:
    """The beginning of a text that fits, with the ellipsis for what does not."""
    if width(text) <= cells:
        return text
    room = cells - width(ellipsis)
    if room < 0:
        return ellipsis[: max(0, cells)]
    kept = ""
    for cluster in _clusters(text):
        room -= width(cluster)
        if room < 0:
            break
        kept += cluster
    return kept + ellipsis


def clip_line(spans: Line, cells: int, ellipsis: str) -> Line:
    """The beginning of a line that fits."""
    kept: list[Span] = []
    for index, span in enumerate(spans):
        # A span that fits may still be the one that the ellipsis has to go into.
        rest = sum(width(later.text) for later in spans[index + 1 :])
        if width(span.text) + rest <= cells or width(span.text) + width(ellipsis) <= cells:
            kept.append(span)
            cells -= width(span.text)
            continue
        kept.append(Span(text=clip(span.text, cells, ellipsis), style=span.style))
        break
    return tuple(span for span in kept if span.text)


def wrap(spans: Line, cells: int, *, indent: int = 0) -> list[Line]:
    """The line in as many as it needs, broken at spaces and between wide characters.

    Args:
        spans: the line.
        cells: the most a line may take, at least 2.
        indent: spaces before the second line and those after it.
    """
    cells = max(2, cells)
    indent = max(0, min(indent, cells - 2))
    atoms = [
        (piece, span.style)
        for span in spans
        for cluster in _clusters(span.text)
        # What is joined stays together, unless it is wider than a line.
        for piece in ((cluster,) if width(cluster) <= cells - indent else cluster)
    ]
    lines: list[Line] = []
    while atoms:
        room = cells - (indent if lines else 0)
        taken, rest = _fill(atoms, room)
        lead = (Span(text=" " * indent),) if lines and indent else ()
        lines.append((*lead, *_joined(taken)))
        atoms = rest
    return lines or [()]


_Atom: TypeAlias = tuple[str, Style]


def _fill(atoms: list[_Atom], room: int) -> tuple[list[_Atom], list[_Atom]]:
    """What goes on this line, without the space at its end, and what is left."""
    used, breakable = 0, 0
    for index, (cluster, _) in enumerate(atoms):
        cells = width(cluster)
        if index and (cells == 2 or width(atoms[index - 1][0]) == 2) and cluster != " ":
            breakable = index
        if used + cells > room:
            if cluster == " ":
                breakable = index
            at = breakable or max(1, index)
            return _without_end(atoms[:at]), _without_begin(atoms[at:])
        used += cells
        if cluster == " ":
            breakable = index + 1
    return atoms, []


def _without_end(atoms: list[_Atom]) -> list[_Atom]:
    end = len(atoms)
    while end and atoms[end - 1][0] == " ":
        end -= 1
    return atoms[:end]


def _without_begin(atoms: list[_Atom]) -> list[_Atom]:
    begin = 0
    while begin < len(atoms) and atoms[begin][0] == " ":
        begin += 1
    return atoms[begin:]


def _joined(atoms: Sequence[_Atom]) -> Line:
    spans: list[tuple[list[str], Style]] = []
    for cluster, style in atoms:
        if spans and spans[-1][1] == style:
            spans[-1][0].append(cluster)
        else:
            spans.append(([cluster], style))
    return tuple(Span(text="".join(texts), style=style) for texts, style in spans)


def _clusters(text: str) -> Iterator[str]:
    """Characters, each with the marks that stand upon it and what a joiner binds to it."""
    cluster = ""
    for character in text:
        binds = character in "\u200c\u200d" or unicodedata.category(character) in {"Mn", "Me", "Mc"}
        if cluster and (binds or cluster[-1] == "\u200d") and len(cluster) < 16:
            cluster += character
            continue
        if cluster:
            yield cluster
        cluster = character
    if cluster:
        yield cluster


def written(spans: Line, terminal: Terminal) -> str:
    """A line as it is sent to the terminal, or to a pipe, without its newline."""
    return "".join(_span(span, terminal) for span in spans)


def _span(span: Span, terminal: Terminal) -> str:
    if not terminal.is_tty:
        return span.text
    text = fenced(encodable(span.text, terminal.charset))
    if not terminal.movable:
        return text
    code = (_SGR if terminal.colour else _WITHOUT_COLOUR).get(span.style)
    return f"\x1b[{code}m{text}\x1b[0m" if code else text
