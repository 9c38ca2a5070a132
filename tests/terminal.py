"""A command on a terminal of its own: a pty, and an emulator that shows what a person would see."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence

import pyte

from tests.broker import wait_until

_LOCALE = ("LC_ALL", "LC_CTYPE", "LANG", "NO_COLOR", "COLUMNS", "LINES")


class OnTerminal:
    """A running command.

    Args:
        command: its words.
        columns, rows: the size of the terminal.
        environment: over this process's; the locale is C.UTF-8 unless it says otherwise.
    """

    def __init__(
        self, command: Sequence[str], *, columns: int = 80, rows: int = 24, **environment: str
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=1000, ratio=0.5)
        self._stream = pyte.ByteStream(self.screen)
        self.seen = b""
        self._ours, theirs = pty.openpty()
        self.resize(columns, rows)
        kept = {name: value for name, value in os.environ.items() if name not in _LOCALE}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        )
        self._theirs = theirs  # kept open: its settings are asked for

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._theirs)
        os.close(self._ours)

    def resize(self, columns: int, rows: int) -> None:
        """As when a window is dragged; without reflow, as xterm does it."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def type(self, keys: bytes) -> None:
        """As if on its keyboard."""
        os.write(self._ours, keys)

    @property
    def echo(self) -> bool:
        """Whether what is typed would show."""
        return bool(termios.tcgetattr(self._theirs)[3] & termios.ECHO)

    @property
    def lines(self) -> list[str]:
        """What is on the screen now, without spaces at the ends."""
        self.read()
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines)

    def line(self, part: str) -> str:
        """The one line on the screen that holds this; empty when none or several do."""
        found = [line for line in self.lines if part in line]
        return found[0] if len(found) == 1 else ""

    def read(self, wait_s: float = 0.0) -> None:
        """Take what has come."""
        with contextlib.suppress(OSError):
            while select.select([self._ours], [], [], wait_s)[0]:
                data = os.read(self._ours, 65536)
                self.seen += data
                self._stream.feed(data)
                wait_s = 0.0

    def wait_for(self, part: str, timeout_s: float = 15.0) -> None:
        """Wait until the screen shows it."""
        try:
            wait_until(lambda: part in self.text, timeout_s)
        except AssertionError:
            raise AssertionError(f"{part!r} is not on the screen:\n{self.text}") from None

    def end(self, number: signal.Signals = signal.SIGINT, timeout_s: float = 10.0) -> int:
        """Send a signal; answers the exit code, after all output was read."""
        self.process.send_signal(number)
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            self.read(0.05)
        self.read(0.05)
        return self.process.returncode
