"""What the decoder's layers read of a sound: keys and values, those of the silence after it kept.

Every position is projected by itself, so what silence gives at a place of the window is the same for every
sound. It is worked out once; only positions that hold sound are projected for each utterance.

The joined arrays are 12 MB for 10 s of whisper-base. Fresh memory of that size costs 8 ms a time, because the
system hands it out page by page; so they are used again.
"""

from __future__ import annotations

import threading
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.engine.ct2_silence import Silence
from edge_agent.engine.ort_session import Session

Arrays: TypeAlias = dict[str, NDArray[np.float32]]
_SPARES = 2
"""Sets of joined arrays kept for the next utterances: as many as are decoded at once on a small machine."""
KEPT_POSITIONS = 750
"""Longest window whose silence is kept: 15 s, 18 MB with whisper-base. Longer ones are rare: second looks."""


class Cross:
    """Projects encoder output. Threads may share it.

    Args:
        graph: hidden -> keys and values of every layer.
        silence: encoder output of silence.
    """

    def __init__(self, graph: Session, silence: Silence) -> None:
        self._graph = graph
        self._silence = silence
        self._kept: Arrays = {}
        self._length = 0
        self._spares: list[Arrays] = []
        self._lock = threading.Lock()

    def of(self, hidden: NDArray[np.float32], positions: int) -> dict[str, Any]:
        """Keys and values of float32[1, sound, width], silence appended up to `positions`.

        What was answered may be given back when nobody reads it any more.
        """
        sound = hidden.shape[1]
        if positions <= sound:
            return self._graph.run({"hidden": hidden})
        if positions > KEPT_POSITIONS or not self._graph.grows:
            quiet = self._silence.positions(sound, positions)
            return self._graph.run({"hidden": np.concatenate([hidden[0], quiet])[None]})
        kept = self._up_to(positions)
        found: Arrays = self._graph.run({"hidden": hidden})
        with self._lock:
            joined = self._spares.pop() if self._spares else {}
        for name, part in found.items():
            joined[name] = _joined(name, part, kept[name], positions, joined.get(name))
        return joined

    def give_back(self, arrays: dict[str, Any]) -> None:
        """Let the next utterance use them."""
        with self._lock:
            if self._graph.grows and len(self._spares) < _SPARES:
                self._spares.append(arrays)

    def _up_to(self, positions: int) -> Arrays:
        with self._lock:
            if self._length < positions:
                quiet = self._silence.positions(0, positions)
                self._kept = self._graph.run({"hidden": np.ascontiguousarray(quiet[None])})
                self._length = positions
            return self._kept


def _joined(
    name: str,
    sound: NDArray[np.float32],
    quiet: NDArray[np.float32],
    positions: int,
    into: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """The sound's positions, then those of silence; keys are [1, heads, 64, positions], values
    [1, heads, positions, 64]. Written to `into` where that has the size."""
    axis = 3 if "_k_" in name else 2
    length = sound.shape[axis]
    rest = quiet[..., length:positions] if axis == 3 else quiet[:, :, length:positions]
    shape = (*sound.shape[:axis], positions, *sound.shape[axis + 1 :])
    out = into if into is not None and into.shape == shape else np.empty(shape, dtype=np.float32)
    return np.concatenate([sound, rest], axis=axis, out=out)
