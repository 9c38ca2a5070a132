"""A region at the bottom of the terminal that changes in place; lines above it stay for good.

The terminal's line wrap is off meanwhile: what takes more cells than we reckoned (terminals differ about
emoji) is then cut at the margin instead of moving everything below. Nothing is painted from another thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TextIO

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_CLEAR_LINE_END, _CLEAR_BELOW, _CLEAR_ALL = "\x1b[K", "\x1b[J", "\x1b[2J\x1b[H"


class Painter:
    """Of one terminal.

    Lines come without newline and leave its last column free: what is there is wiped with the end of the
    line, because the cursor cannot stand behind it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._region: tuple[str, ...] = ()
        self._entered = False

    def enter(self) -> None:
        """Take the terminal."""
        self._entered = True
        self._write(_HIDE + _NO_WRAP)

    def paint(self, above: Sequence[str], region: Sequence[str]) -> None:
        """Print lines for good and the region below them; an unchanged screen costs nothing."""
        if not above and tuple(region) == self._region:
            return
        self._write(self._to_top() + self._frame(above, region))

    def repaint(self, above: Sequence[str], region: Sequence[str]) -> None:
        """Begin with an empty screen: the terminal has another size, and may have wrapped what was there."""
        self._write(_CLEAR_ALL + self._frame(above, region))

    def leave(self) -> None:
        """Take the region away and give the terminal back; also when it is half gone."""
        if not self._entered:
            return
        self._entered = False
        with contextlib.suppress(OSError):
            self._write(self._to_top() + _CLEAR_BELOW + _WRAP + _SHOW)
        self._region = ()

    def _to_top(self) -> str:
        up = len(self._region) - 1
        return "\r" + (f"\x1b[{up}A" if up > 0 else "")

    def _frame(self, above: Sequence[str], region: Sequence[str]) -> str:
        self._region = tuple(region)
        text = "".join(f"{line}{_CLEAR_LINE_END}\n" for line in above)
        return text + f"{_CLEAR_LINE_END}\n".join(region) + _CLEAR_BELOW

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
