"""The highest number ever given, beside the database: damage there must not let a number be given twice."""

from __future__ import annotations

import os
from pathlib import Path

_DIGITS = 16
_HIGHEST = 2**53
"""Consumers read numbers as JSON."""


class Mark:
    """A file of a few digits, overwritten in place: that takes no space, even of a full disk.

    It is written after the row is committed and not forced to the disk: after the end of the process it is
    exact, after a power cut it may be behind, and then the database is not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def read(self) -> int:
        """The number; 0 when there is none that can be read."""
        try:
            text = self._path.read_bytes()[: _DIGITS + 1]
        except OSError:
            return 0
        digits = text.strip()
        seq = int(digits) if len(text) == _DIGITS + 1 and digits.isdigit() else 0
        return seq if seq < _HIGHEST else 0

    def write(self, seq: int) -> None:
        """Note a number that was given. A disk that does not take it is told of elsewhere."""
        try:
            if self._handle is None:
                self._handle = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            os.pwrite(self._handle, f"{seq:0{_DIGITS}d}\n".encode(), 0)
        except OSError:
            self.close()

    def close(self) -> None:
        """Let the file go: a file system that is to be mounted anew wants none open."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
