"""Device samples to 16 kHz float, as a stream: every used channel on its own, or the average of all."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from edge_agent.audio.polyphase import Polyphase
from edge_agent.types import SAMPLE_RATE_HZ, Pcm16

_SCALE = np.float32(1.0 / 32768.0)


class Resampler:
    """int16[frames, channels] at the device rate -> float32[samples, streams] at 16 kHz.

    Args:
        rate_hz: the device rate.
        use_channels: indices of the channels to keep, each its own stream; empty: one stream, their average.
        live: hold back little, where the rate allows it: somebody waits for the end of what is said.
    """

    def __init__(self, rate_hz: int, use_channels: tuple[int, ...] = (), *, live: bool = False) -> None:
        self._use = list(use_channels)
        self._prompt: Polyphase | None = None
        self._stream = None
        streams = max(1, len(use_channels))
        if rate_hz == SAMPLE_RATE_HZ:
            return
        if live and Polyphase.fits(rate_hz, SAMPLE_RATE_HZ):
            self._prompt = Polyphase(rate_hz, SAMPLE_RATE_HZ, streams)
        else:
            self._stream = soxr.ResampleStream(
                rate_hz, SAMPLE_RATE_HZ, streams, dtype="float32", quality="HQ"
            )

    @property
    def held(self) -> int:
        """Samples at 16 kHz that always stay inside; 0 where that is not the same from call to call."""
        return self._prompt.held if self._prompt is not None else 0

    def process(self, pcm: Pcm16) -> NDArray[np.float32]:
        """The next samples. With another device rate some stay inside until more comes: 24 at 48 kHz live."""
        return self._resample(self._mix(pcm) * _SCALE)

    def process_float(self, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same for float32[frames, channels] in -1..1."""
        return self._resample(self._mix(pcm))

    def finish(self) -> NDArray[np.float32]:
        """What was still inside. Nothing may follow."""
        if self._prompt is not None:
            return self._prompt.finish()
        streams = max(1, len(self._use))
        if self._stream is None:
            return np.zeros((0, streams), np.float32)
        out: NDArray[np.float32] = self._stream.resample_chunk(np.zeros((0, streams), np.float32), last=True)
        return out

    def _resample(self, mixed: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._prompt is not None:
            return self._prompt.process(mixed)
        if self._stream is None:
            return mixed
        out: NDArray[np.float32] = self._stream.resample_chunk(mixed)
        return out

    def _mix(self, pcm: Pcm16 | NDArray[np.float32]) -> NDArray[np.float32]:
        if self._use:
            return pcm[:, self._use].astype(np.float32)
        if pcm.shape[1] == 1:
            return pcm.astype(np.float32)
        weights = np.full((pcm.shape[1], 1), 1.0 / pcm.shape[1], np.float32)
        return pcm.astype(np.float32) @ weights  # four times as fast as mean() over a short axis
