"""How loud a channel is: gauges for the health check and for choosing where to cut; a level for the model."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, PcmFloat, Value

FLOOR_DBFS = -120.0
_FRAMES = SAMPLE_RATE_HZ // FRAME_SAMPLES  # about one second
_LOUD_ENOUGH = 0.1  # -20 dBFS
_AT_FIRST = 0.03  # -30 dBFS: an ordinary voice
_MOST_GAIN = 10.0
_RISE = 0.3  # of the way up, each frame
_FALL = 0.99  # each frame: 2.7 dB a second


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


class Leveller:
    """Brings quiet voices to -20 dBFS for the voice activity model, and for it alone.

    The level follows the loud parts: up within a syllable, down slowly, so that the pauses of a talker are
    not raised but the next talker may be ten times quieter. Three to five decibels a second measure alike.
    A room alone is raised too, which the model bears: it knows noise by its shape.
    """

    def __init__(self, streams: int) -> None:
        self._level = np.empty(streams, np.float32)
        self._rms = np.empty(streams, np.float32)
        self._gain = np.empty((streams, 1), np.float32)
        self.reset()

    def reset(self) -> None:
        """Expect an ordinary voice."""
        self._level[:] = _AT_FIRST

    def gain(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take float32[512, streams]; returns its gains float32[streams, 1], valid until the next call."""
        rms, level = self._rms, self._level
        np.einsum("fs,fs->s", frame, frame, out=rms)
        rms /= len(frame)
        np.sqrt(rms, out=rms)
        level *= _FALL
        rms -= level
        rms *= _RISE
        np.maximum(rms, 0.0, out=rms)
        level += rms
        np.maximum(level, _LOUD_ENOUGH / _MOST_GAIN, out=level)
        np.divide(_LOUD_ENOUGH, level, out=self._gain[:, 0])
        np.maximum(self._gain, 1.0, out=self._gain)
        return self._gain


def _db(power: float) -> float:
    return max(FLOOR_DBFS, 10.0 * math.log10(power)) if power > 0 else FLOOR_DBFS
