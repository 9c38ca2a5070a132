"""The decoder's key-value cache of Whisper's ONNX graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_agent.engine.ort_session import Session

MAX_LENGTH = 448
"""Positions of Whisper's decoder, and rows of its cache."""
_ROWS = (64, 128, 256, MAX_LENGTH)
"""Sizes of the cache on the CPU: the smallest that holds the text is used, because a step reads all of it."""
_HEAD_WIDTH = 64


class Cache:
    """Keys and values of every decoder layer, [rows, hypotheses, heads, 64] each, filled from row 0."""

    def __init__(self, decoder: Session, layers: int, heads: int) -> None:
        self.names = [f"{kind}_{layer}" for layer in range(layers) for kind in "kv"]
        self.arrays: dict[str, Any] = {}
        self.rows = 0
        self._decoder = decoder
        self._heads = heads

    def empty(self) -> Cache:
        """Another cache for the same model."""
        other = Cache(self._decoder, 0, self._heads)
        other.names = self.names
        return other

    def copy(self) -> Cache:
        """Another cache with the same content; arrays are never written in place, so they are shared."""
        other = self.empty()
        other.arrays, other.rows = dict(self.arrays), self.rows
        return other

    def arrange(self, order: Sequence[int]) -> None:
        """Let the hypotheses go on from those of `order`, where the graph does not do so itself."""
        held = self.arrays[self.names[0]].shape[1]
        if list(order) != list(range(held)):
            self.arrays = {name: np.ascontiguousarray(self.arrays[name][:, order]) for name in self.names}

    def reserve(self, length: int) -> None:
        """Make room for `length` tokens. On a device there is room for all from the start: one shape."""
        if length <= self.rows:
            return
        wanted = MAX_LENGTH
        if self._decoder.grows:
            wanted = next(rows for rows in _ROWS if rows >= length)
        for name in self.names:
            held = self._decoder.fetch(self.arrays[name]) if self.rows else None
            batch = 1 if held is None else held.shape[1]
            larger = np.zeros((wanted, batch, self._heads, _HEAD_WIDTH), dtype=np.float32)
            if held is not None:
                larger[: self.rows] = held
            self.arrays[name] = self._decoder.place(larger)
        self.rows = wanted
