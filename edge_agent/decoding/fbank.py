"""Features of FunASR's models (SenseVoice, Paraformer), in plain numpy: Kaldi's log-mel filter bank, frames
stacked at a lower rate, normalised.

Filter bank as Kaldi computes it (Povey et al. 2011; feature-window.cc, mel-computations.cc): windows of 25 ms
every 10 ms that lie in the sound whole, mean taken off, pre-emphasis 0.97, Hamming, 512-point power spectrum,
80 triangles on the scale 1127 ln(1 + f / 700) between 20 Hz and 8 kHz, natural logarithm. No dither.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.types import SAMPLE_RATE_HZ, PcmFloat

WINDOW_SAMPLES = 400
HOP_SAMPLES = 160
HOP_S = HOP_SAMPLES / SAMPLE_RATE_HZ
BANDS = 80
_FFT = 512
_PRE_EMPHASIS = np.float32(0.97)
_LOWEST_HZ = 20.0
_FLOOR = np.finfo(np.float32).eps
_SCALE = np.float32(32768.0)
"""These models were trained on samples of 16-bit size."""

Bands = NDArray[np.float32]
"""float32[frames, bands]"""


def log_bands(pcm: PcmFloat) -> Bands:
    """float32[samples] at 16 kHz, at least one window of them -> float32[1 + (samples - 400) // 160, 80]."""
    windows = np.lib.stride_tricks.sliding_window_view(pcm, WINDOW_SAMPLES)[::HOP_SAMPLES]
    frames = windows * _SCALE
    frames -= frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    shaped = (frames - _PRE_EMPHASIS * before) * _hamming()
    power = np.abs(np.fft.rfft(shaped, _FFT, axis=1)[:, : _FFT // 2]) ** 2
    found = np.log(np.maximum(power @ _triangles().T, _FLOOR))
    return np.asarray(found, dtype=np.float32)


def stacked(frames: Bands, window: int, shift: int) -> Bands:
    """float32[n, bands] -> float32[ceil(n / shift), window * bands]: each row is `window` frames around its
    place. The first and the last frame stand for those beyond the ends, as in training."""
    count = -(-len(frames) // shift)
    before = (window - 1) // 2
    after = max(0, (count - 1) * shift + window - before - len(frames))
    padded = np.pad(frames, ((before, after), (0, 0)), mode="edge")
    rows = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0)[: count * shift : shift]
    return np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(count, -1)


@cache
def _hamming() -> NDArray[np.float32]:
    return np.hamming(WINDOW_SAMPLES).astype(np.float32)


@cache
def _triangles() -> NDArray[np.float32]:
    """float32[80, 256]."""

    def mel(hertz: Any) -> Any:
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    edges = np.linspace(mel(_LOWEST_HZ), mel(SAMPLE_RATE_HZ / 2), BANDS + 2)
    bins = mel(np.arange(_FFT // 2) * (SAMPLE_RATE_HZ / _FFT))
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)), dtype=np.float32)
