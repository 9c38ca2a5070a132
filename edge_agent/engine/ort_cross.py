"""What the decoder's layers read of a sound: keys and values, those of the silence after it kept.

Every position is projected by itself, so what silence gives at a place of the window is the same for every
sound. It is worked out once; only positions that hold sound are projected for each utterance.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.engine.ct2_silence import Silence
from edge_agent.engine.ort_session import Session

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
        self._kept: dict[str, NDArray[np.float32]] = {}
        self._length = 0
        self._lock = threading.Lock()

    def of(self, hidden: NDArray[np.float32], positions: int) -> dict[str, Any]:
        """Keys and values of float32[1, sound, width], silence appended up to `positions`."""
        sound = hidden.shape[1]
        if positions <= sound:
            return self._graph.run({"hidden": hidden})
        if positions > KEPT_POSITIONS or not self._graph.grows:
            quiet = self._silence.positions(sound, positions)
            return self._graph.run({"hidden": np.concatenate([hidden[0], quiet])[None]})
        kept = self._up_to(positions)
        found = self._graph.run({"hidden": hidden})
        return {name: _joined(name, found[name], kept[name], positions) for name in found}

    def _up_to(self, positions: int) -> dict[str, NDArray[np.float32]]:
        with self._lock:
            if self._length < positions:
                quiet = self._silence.positions(0, positions)
                self._kept = self._graph.run({"hidden": np.ascontiguousarray(quiet[None])})
                self._length = positions
            return self._kept


def _joined(
    name: str, sound: NDArray[np.float32], quiet: NDArray[np.float32], positions: int
) -> NDArray[np.float32]:
    """The sound's positions, then those of silence; keys are [1, heads, 64, positions], values
    [1, heads, positions, 64]."""
    if "_k_" in name:
        return np.concatenate([sound, quiet[..., sound.shape[3] : positions]], axis=3)
    return np.concatenate([sound, quiet[:, :, sound.shape[2] : positions]], axis=2)
