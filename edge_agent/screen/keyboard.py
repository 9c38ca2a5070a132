"""What is typed while a view fills the terminal must not show in it."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from typing import Any

_LOCAL_MODES = 3  # place of the local modes in what tcgetattr answers


class Keyboard:
    """Of stdin; does nothing where that is no terminal, or another program's to set."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def mute(self) -> None:
        """No echo; Ctrl-C and Ctrl-Z work as ever."""
        with contextlib.suppress(OSError, ValueError, termios.error):
            descriptor = sys.stdin.fileno()
            # In the background, setting the terminal would stop us.
            if not os.isatty(descriptor) or os.tcgetpgrp(descriptor) != os.getpgrp():
                return
            before = termios.tcgetattr(descriptor)
            quiet = termios.tcgetattr(descriptor)
            quiet[_LOCAL_MODES] &= ~termios.ECHO
            termios.tcsetattr(descriptor, termios.TCSADRAIN, quiet)
            self._before = before

    def restore(self) -> None:
        """As it was, and what was typed meanwhile is forgotten."""
        if self._before is None:
            return
        with contextlib.suppress(OSError, ValueError, termios.error):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSAFLUSH, self._before)
        self._before = None
