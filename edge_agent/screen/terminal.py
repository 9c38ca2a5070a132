"""What the terminal can do, from the environment and the open file."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Mapping
from typing import TextIO

from edge_agent.types import Value

_AT_LEAST, _AT_MOST = 10, 1000
_USUAL = (80, 24)


class Terminal(Value, frozen=True):
    """One output, as it may be written to."""

    is_tty: bool
    columns: int = 80
    rows: int = 24
    colour: bool = False
    movable: bool = False
    """The cursor can be sent back, so lines can change in place."""
    charset: str = "utf-8"
    """What it can show; "ascii" in the locale C."""

    @property
    def unicode(self) -> bool:
        """Whether our own signs may be more than ASCII."""
        return self.charset == "utf-8"


def look(stream: TextIO | None = None, environment: Mapping[str, str] | None = None) -> Terminal:
    """The terminal, or the file or pipe, behind a stream (default: stdout)."""
    stream = sys.stdout if stream is None else stream
    environment = os.environ if environment is None else environment
    if not stream.isatty():
        return Terminal(is_tty=False)
    columns, rows = size(stream, environment)
    clever = environment.get("TERM", "dumb").lower() not in {"dumb", "unknown", ""}
    return Terminal(
        is_tty=True,
        columns=columns,
        rows=rows,
        colour=clever and not environment.get("NO_COLOR"),
        movable=clever,
        charset=charset_of(environment, coerced=bool(sys.flags.utf8_mode)),
    )


def size(stream: TextIO, environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """Columns and rows now: those of the terminal, else of COLUMNS and LINES, else 80 and 24."""
    environment = os.environ if environment is None else environment
    try:
        size = os.get_terminal_size(stream.fileno())
        found = (size.columns, size.lines)
    except (OSError, ValueError):
        found = (0, 0)
    named = (environment.get("COLUMNS", ""), environment.get("LINES", ""))
    columns, rows = (
        told or (int(name) if name.isascii() and name.isdigit() else 0) or usual
        for told, name, usual in zip(found, named, _USUAL, strict=True)
    )
    return min(_AT_MOST, max(_AT_LEAST, columns)), min(_AT_MOST, max(3, rows))


def charset_of(environment: Mapping[str, str], *, coerced: bool) -> str:
    """The character set that the locale names: "utf-8", "ascii" for C and POSIX, or another codec.

    Args:
        environment: LC_ALL, LC_CTYPE, LANG: the first that is not empty counts.
        coerced: Python found the locale C and set LC_CTYPE to C.UTF-8 by itself (PEP 538); that says
            nothing of the terminal.
    """
    ctype = environment.get("LC_CTYPE", "")
    if coerced and ctype == "C.UTF-8":
        ctype = ""
    named = environment.get("LC_ALL") or ctype or environment.get("LANG") or "C"
    _, dot, charset = named.partition("@")[0].rpartition(".")
    if not dot:
        return "utf-8" if charset.replace("-", "").upper() == "UTF8" else "ascii"
    try:
        return codecs.lookup(charset).name
    except LookupError:
        return "ascii"
