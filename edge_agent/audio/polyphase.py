"""A resampler that holds back 1.5 ms (3 ms at 8 kHz), for sound that is being spoken.

soxr works in blocks of its own: at 48 kHz it keeps 6 to 37 ms inside, at 8 kHz up to 116 ms, and an endpoint
waits for them. This is a plain finite filter (windowed sinc, Kaiser window) in its polyphase form, for ratios
with at most two phases: 48, 32 and 96 kHz down, 8 kHz up. A period of 32 ms costs 14 microseconds.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_REACH = 24  # samples of the slower rate on either side: 1.5 ms at 16 kHz
_KAISER_BETA = 7.86  # 80 dB
_CUTOFF = 0.98  # of the slower rate's half: down to -0.5 dB at 7.4 kHz, -80 dB from 8.7 kHz
_MOST_PHASES = 2


class Polyphase:
    """float32[frames, streams] at one rate -> the same at another, as a stream.

    Args:
        from_hz: rate of what comes.
        to_hz: rate wanted; `fits` tells which pairs are possible.
        streams: columns.
    """

    def __init__(self, from_hz: int, to_hz: int, streams: int) -> None:
        ratio = Fraction(to_hz, from_hz)
        self._up, self._down = ratio.numerator, ratio.denominator
        self._half = _REACH * max(1, math.ceil(from_hz / to_hz))
        self._bank = _filters(self._up, self._down, self._half)
        self._held: NDArray[np.float32] = np.zeros((self._half - 1, streams), np.float32)

    @property
    def held(self) -> int:
        """Samples at the wanted rate that stay inside."""
        return self._half * self._up // self._down

    @staticmethod
    def fits(from_hz: int, to_hz: int) -> bool:
        """True for ratios with few phases."""
        return Fraction(to_hz, from_hz).numerator <= _MOST_PHASES

    def process(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples that can be made now; the last `held` come with the next call."""
        held = np.concatenate((self._held, sound))
        up, down, taps = self._up, self._down, 2 * self._half
        starts = [phase * down // up for phase in range(up)]
        blocks = max(0, (len(held) - taps - starts[-1]) // down + 1)
        out = np.empty((blocks * up, held.shape[1]), np.float32)
        if blocks:
            windows = sliding_window_view(held, taps, axis=0)
            for phase, start in enumerate(starts):
                np.matmul(
                    windows[start : start + blocks * down : down], self._bank[phase], out=out[phase::up]
                )
        self._held = held[blocks * down :]
        return out

    def finish(self) -> NDArray[np.float32]:
        """What was still inside. Nothing may follow."""
        return self.process(np.zeros((self._half, self._held.shape[1]), np.float32))


def _filters(up: int, down: int, half: int) -> NDArray[np.float32]:
    """float32[up, 2 * half]: for each phase, the weights of the inputs around an output."""
    cutoff = _CUTOFF * min(1.0, up / down)  # of the half of the input's rate
    places = np.arange(1 - half, half + 1, dtype=np.float64)
    shifts = np.array([(phase * down / up) % 1.0 for phase in range(up)])
    away = places[None, :] - shifts[:, None]
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0.0, 1.0 - (away / half) ** 2))) / np.i0(_KAISER_BETA)
    weights = cutoff * np.sinc(cutoff * away) * window
    bank: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return bank
