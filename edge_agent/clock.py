"""Time and identifiers: monotonic and wall time behind one seam, and UUIDv7."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Both times a part may ask for; tests pass their own."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never jump."""
        ...

    def utc_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC, as the machine believes."""
        ...

    def synced(self) -> bool:
        """True when the kernel says the wall clock is synchronised."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def utc_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def synced(self) -> bool:
        return _kernel_clock_synced()


def utc_text(utc_ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 with milliseconds and a Z."""
    moment = datetime.fromtimestamp(utc_ms / 1000, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc_ms % 1000:03d}Z"


class _Timex(ctypes.Structure):
    # struct timex of adjtimex(2) is below 256 bytes on every Linux; only its first field is set.
    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 508))


_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


def _kernel_clock_synced() -> bool:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return 0 <= int(libc.adjtimex(ctypes.byref(_Timex()))) != _TIME_ERROR
    except (OSError, AttributeError):
        return False


_uuid_lock = threading.Lock()
_uuid_last = 0


def uuid7(utc_ms: int) -> str:
    """A UUIDv7 (RFC 9562, method 3: the 12 bits after the time are a counter), rising within the process."""
    global _uuid_last  # noqa: PLW0603 - one counter per process is what makes the ids rise
    with _uuid_lock:
        stamp = max(utc_ms << 12, _uuid_last + 1)
        _uuid_last = stamp
    time_bits, counter = stamp >> 12, stamp & 0xFFF
    value = (time_bits & (1 << 48) - 1) << 80 | 0x7 << 76 | counter << 64
    value |= 0b10 << 62 | int.from_bytes(os.urandom(8), "big") >> 2
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
