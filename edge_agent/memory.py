"""Memory: how much there is in use, and giving back what the allocator keeps."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def rss_bytes(pid: int | None = None) -> int:
    """Resident memory of a process, this one when none is named."""
    pages = Path(f"/proc/{pid or 'self'}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


_M_ARENA_MAX = -8  # mallopt(3)
_ARENAS = 2


def few_arenas() -> None:
    """Let the threads share two heaps; each of a dozen would keep what its busiest moment took."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc only
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return freed pages to the system.

    Decoding needs 30 to 70 MB for a moment, and the C library keeps them for the next time, more of them as
    the hours pass. Asking it to keep none costs a fifth of the decoding time; giving back every few seconds
    costs 2 ms, and the next decode 8 ms of 100.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc only
        libc.malloc_trim(0)
