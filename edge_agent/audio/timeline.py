"""Pure: when was each frame captured? Frames are counted, the clock is only followed.

A block's measured time is jittery (scheduling, whole periods at a time), its length in frames is exact. So
time runs by frames from an anchor; slow drift between the device's crystal and the system's is slewed away.
"""

from __future__ import annotations

_GAIN = 0.02  # share of the difference taken up per block: drift of 200 ppm stays below 1 ms at 32 ms blocks
_MAX_SLEW = 0.005  # of the block's length: no faster than 5 ms a second
_LOST_NS = 150_000_000  # later than this, several times in a row, is lost sound that nobody reported
_LOST_BLOCKS = 3


class Timeline:
    """Monotonic time of the frames of one unbroken stretch."""

    def __init__(self, rate_hz: int, start_ns: int) -> None:
        self._rate_hz = rate_hz
        self._late_blocks = 0
        self.end_ns = start_ns
        """Time just after the last frame placed."""

    def place(self, frames: int, measured_ns: int | None) -> int:
        """Time of the first of `frames` more frames, whose start was measured at `measured_ns`.

        None: it could not be measured, because the reader is behind; frames alone count.
        """
        length_ns = frames * 1_000_000_000 // self._rate_hz
        limit_ns = length_ns * _MAX_SLEW
        error_ns = 0 if measured_ns is None else measured_ns - self.end_ns
        self._late_blocks = self._late_blocks + 1 if error_ns > _LOST_NS else 0
        start_ns = self.end_ns + int(min(limit_ns, max(-limit_ns, error_ns * _GAIN)))
        self.end_ns = start_ns + length_ns
        return start_ns

    def lost(self, measured_ns: int) -> bool:
        """True when a block measured at `measured_ns` shows that sound was lost without a report.

        Some sound servers hide overruns: blocks then come later, by the same amount, one after the other.
        """
        return measured_ns - self.end_ns > _LOST_NS and self._late_blocks >= _LOST_BLOCKS - 1
