"""Disk space held back for bad times: a full disk refuses even the deletes that would free it."""

from __future__ import annotations

import os
from pathlib import Path

SIZE_BYTES = 512 * 1024


class Ballast:
    """A preallocated file beside the database; letting it go gives SQLite room to drain."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def held(self) -> bool:
        """Is there something to let go."""
        try:
            return self._path.stat().st_size > 0
        except OSError:
            return False

    def take(self) -> bool:
        """Reserve the space, leaving as much again free; False when the disk has no room for both."""
        if self.held:
            return True
        try:
            room = os.statvfs(self._path.parent)
            if room.f_bavail * room.f_frsize < 2 * SIZE_BYTES:
                return False
            handle = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(handle, 0, SIZE_BYTES)
            finally:
                os.close(handle)
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> bool:
        """Give the space back; False when there was none."""
        held = self.held
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return False
        return held
