"""What the encoder makes of silence, kept to lengthen short contexts without encoding them.

It must come from the full 30 s window the model was trained on: silence taken from a 10 s window sends the
decoder into loops (15 % of words wrong where this gives 6 %). That one encode costs more than all the rest of
a start, so its result is kept beside a prepared model, where that directory may be written.
"""

from __future__ import annotations

import hashlib
import threading
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.decoding.features import MAX_FRAMES, Mel, fit, log_mel, silence_value
from edge_agent.files import write_atomically
from edge_agent.types import PcmFloat

_DIGEST_BYTES = 32
_VOICE = Path(__file__).with_name("reference_voice.wav")


class Silence:
    """Encoder output of silence after a sound; made when first asked for, at the price of a 30 s encode.

    Args:
        mels: bands of the features.
        encode: the full encoder; float32[1, positions, width] or what numpy reads as such.
        keep: file that holds it from one start to the next; None: nothing is kept.
    """

    def __init__(self, mels: int, encode: Callable[[Mel], Any], keep: Path | None = None) -> None:
        self._mels = mels
        self._encode = encode
        self._file = keep
        self._kept: NDArray[np.float32] | None = None
        self._lock = threading.Lock()

    def positions(self, first: int, total: int) -> NDArray[np.float32]:
        """float32[total - first, width]: positions `first` to `total` of the 30 s window."""
        with self._lock:
            if self._kept is None:
                self._kept = _read(self._file) if self._file is not None else None
            if self._kept is None:
                mel = log_mel(reference_sound(), self._mels)
                encoded = self._encode(fit(mel, MAX_FRAMES, padding=silence_value(mel)))
                self._kept = np.array(encoded)[0]
                if self._file is not None:
                    _write(self._file, self._kept)
            return self._kept[first:total]


def _read(path: Path) -> NDArray[np.float32] | None:
    """What was kept; None where there is nothing, or not what was written."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    values, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(values).digest() != digest or len(values) % (4 * MAX_FRAMES // 2):
        return None
    return np.frombuffer(values, dtype="<f4").reshape(MAX_FRAMES // 2, -1)


def _write(path: Path, kept: NDArray[np.float32]) -> None:
    values = np.ascontiguousarray(kept, dtype="<f4").tobytes()
    try:
        write_atomically(path, values + hashlib.sha256(values).digest())
    except OSError:
        return  # a store that only the service may write, or a full disk: it is made again at the next start


def reference_sound() -> PcmFloat:
    """The first second of "We could throw stones with our feet", Kathleen's recordings for Rhasspy (CC0-1.0).

    Silence is only silence after a sound, because features are relative to the loudest frame. A voice serves
    better than noise: with noise three times as many texts found no end.
    """
    with wave.open(str(_VOICE), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return np.asarray(samples, dtype=np.float32) / np.float32(32768)
