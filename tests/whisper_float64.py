"""Whisper in float64: the formulas of Radford et al. 2022 in plain numpy, slow, and right to 12 digits.

It says who is right where two engines round to different tokens. Nothing of the engines or of the builder of
graphs is used, only the reader of the weight file: no fused node, no cache, no mask added but to the scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.models.mapped import map_ct2

Array: TypeAlias = NDArray[np.float64]
_HEAD_WIDTH = 64
_EPSILON = 1e-5


class Whisper64:
    """One model, read from the `model.bin` of a published CTranslate2 directory."""

    def __init__(self, directory: Path) -> None:
        self._weights: Mapping[str, NDArray[Any]] = map_ct2(directory / "model.bin")
        self._kept: dict[str, Array] = {}

    def encode(self, mel: NDArray[Any]) -> Array:
        """Features [mels, frames] -> hidden [frames / 2, width]."""
        x = np.asarray(mel, dtype=np.float64)
        for number, stride in ((1, 1), (2, 2)):
            x = _gelu(self._convolved(x, f"encoder/conv{number}", stride))
        x = x.T
        x = x + self._of("encoder/position_encodings/encodings")[: len(x)]
        for layer in range(self._layers("encoder")):
            name = f"encoder/layer_{layer}"
            x = self._attended(x, f"{name}/self_attention")
            x = self._fed(x, f"{name}/ffn")
        return self._norm(x, "encoder/layer_norm")

    def logits(self, hidden: Array, tokens: Sequence[int], since: int) -> Array:
        """[len(tokens) - since, vocabulary]: what follows each token from place `since` on."""
        table = self._of("decoder/embeddings/weight")
        x = table[list(tokens)] + self._of("decoder/position_encodings/encodings")[: len(tokens)]
        for layer in range(self._layers("decoder")):
            name = f"decoder/layer_{layer}"
            x = self._attended(x, f"{name}/self_attention", causal=True)
            x = self._attended(x, f"{name}/attention", over=hidden)
            x = self._fed(x, f"{name}/ffn")
        return np.asarray(self._norm(x[since:], "decoder/layer_norm") @ table.T)

    def _attended(self, x: Array, name: str, *, over: Array | None = None, causal: bool = False) -> Array:
        """x plus attention over itself, or over `over`."""
        y = self._norm(x, f"{name}/layer_norm")
        if over is None:
            query, key, value = np.split(self._linear(y, f"{name}/linear_0"), 3, axis=-1)
            last = "linear_1"
        else:
            query = self._linear(y, f"{name}/linear_0")
            key, value = np.split(self._linear(over, f"{name}/linear_1"), 2, axis=-1)
            last = "linear_2"
        seen = []
        for start in range(0, x.shape[1], _HEAD_WIDTH):
            head = slice(start, start + _HEAD_WIDTH)
            scores = query[:, head] @ key[:, head].T / math.sqrt(_HEAD_WIDTH)
            if causal:
                scores[np.triu_indices(len(x), 1)] = -np.inf
            seen.append(_softmax(scores) @ value[:, head])
        return x + self._linear(np.concatenate(seen, axis=-1), f"{name}/{last}")

    def _fed(self, x: Array, name: str) -> Array:
        y = _gelu(self._linear(self._norm(x, f"{name}/layer_norm"), f"{name}/linear_0"))
        return x + self._linear(y, f"{name}/linear_1")

    def _convolved(self, x: Array, name: str, stride: int) -> Array:
        """[inputs, length] -> [outputs, length / stride]: three taps, one zero on either side."""
        kernel, bias = self._of(f"{name}/weight"), self._of(f"{name}/bias")
        padded = np.pad(x, ((0, 0), (1, 1)))
        length = x.shape[1]
        total = sum(kernel[:, :, tap] @ padded[:, tap : tap + length : stride] for tap in range(3))
        return np.asarray(total + bias[:, None])

    def _linear(self, x: Array, name: str) -> Array:
        return np.asarray(x @ self._of(f"{name}/weight").T + self._of(f"{name}/bias"))

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPSILON)
        return np.asarray(centred / spread * self._of(f"{name}/gamma") + self._of(f"{name}/beta"))

    def _of(self, name: str) -> Array:
        if name not in self._kept:
            self._kept[name] = np.asarray(self._weights[name], dtype=np.float64)
        return self._kept[name]

    def _layers(self, side: str) -> int:
        return sum(
            name.startswith(f"{side}/layer_") and name.endswith("ffn/linear_0/weight")
            for name in self._weights
        )


def _gelu(x: Array) -> Array:
    """x / 2 (1 + erf(x / sqrt 2)), the exact one."""
    erf = np.fromiter(map(math.erf, (x / math.sqrt(2.0)).ravel().tolist()), np.float64, x.size)
    return np.asarray(0.5 * x * (1.0 + erf.reshape(x.shape)))


def _softmax(scores: Array) -> Array:
    grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))
