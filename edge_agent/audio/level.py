"""How loud a channel is: gauges for the health check and for choosing where to cut."""

from __future__ import annotations

import math

import numpy as np

from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, PcmFloat, Value

FLOOR_DBFS = -120.0
_FRAMES = SAMPLE_RATE_HZ // FRAME_SAMPLES  # about one second


class Level(Value, frozen=True):
    """Loudness over the last second."""

    peak_dbfs: float
    rms_dbfs: float
    zero_run_s: float
    """Seconds of exact digital silence up to now: a muted or broken microphone that still delivers."""


class Meter:
    """Of one channel; fed with frames, asked from any thread."""

    def __init__(self) -> None:
        self._peak = np.zeros(_FRAMES, np.float32)
        self._power = np.zeros(_FRAMES, np.float32)
        self._next = 0
        self._zero_frames = 0

    def update(self, frame: PcmFloat) -> float:
        """Take one frame; returns its RMS level in dBFS."""
        power = float(np.dot(frame, frame)) / len(frame)
        self._zero_frames = 0 if power else self._zero_frames + 1
        self._peak[self._next] = max(float(frame.max()), -float(frame.min())) if power else 0.0
        self._power[self._next] = power
        self._next = (self._next + 1) % _FRAMES
        return _db(power) if power else FLOOR_DBFS

    def level(self) -> Level:
        """The gauges now."""
        peak = float(self._peak.max())
        return Level(
            peak_dbfs=round(_db(peak * peak), 1),
            rms_dbfs=round(_db(float(self._power.mean())), 1),
            zero_run_s=round(self._zero_frames * FRAME_SAMPLES / SAMPLE_RATE_HZ, 2),
        )


def _db(power: float) -> float:
    return max(FLOOR_DBFS, 10.0 * math.log10(power)) if power > 0 else FLOOR_DBFS
