"""Whisper as three ONNX graphs with an explicit key-value cache, from CTranslate2's weights.

- `encoder.onnx`: features float32[1, mels, frames] -> hidden float32[1, frames / 2, width].
- `cross.onnx`: hidden -> the keys and values that every decoder layer reads of it, `cross_k_I`
  [1, heads, 64, positions] and `cross_v_I` [1, heads, positions, 64]. Apart from the encoder, because the
  engine lengthens `hidden` with kept silence first.
- `decoder.onnx`: tokens int64[batch, n] at places int64[n, 1] of a cache of `rows` rows per layer
  (`self_k_I`, `self_v_I`, [rows, held, heads, 64]) -> logits [batch, m, vocabulary] of the `wanted` int64[m]
  of the n tokens, the cache with the n new rows (`new_k_I`, `new_v_I`), and the attention of the alignment
  heads [batch, heads, n, positions]. `order` int64[batch] says which held hypothesis each of the batch goes
  on from; the int8 graph has none, the caller puts the cache in order. `bias` float32[n, rows] is 0 where a
  token sees a row and -1e9 elsewhere: the caller goes back by giving smaller places, and a whole draft is
  judged in one pass. No node depends on the size of the cache: with n and `rows` fixed, every shape is, as
  CUDA wants it.

The same builder writes float32, float16 (weights halved, arithmetic in float32 where the processor has no
other) and int8 weights, these for the CPU alone (see `onnx_int8`).
Architecture: Radford et al. 2022; layer names are CTranslate2's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.models import onnx_int8
from edge_agent.models.onnx_format import CONTRIB, OnnxWriter

Precision: TypeAlias = Literal["float32", "float16", "int8"]
PRECISIONS: dict[str, Precision] = {"float32": "float32", "float16": "float16", "int8": "int8"}
Weights: TypeAlias = Mapping[str, NDArray[Any]]

HEAD_WIDTH = 64
PRODUCER = "edge-asr-agent"
_EPSILON = 1e-5


class _Graph:
    """The operations Whisper is made of.

    Args:
        many: the input of a product usually has many rows (the encoder), not one (the decoder).
    """

    def __init__(self, writer: OnnxWriter, weights: Weights, precision: Precision, *, many: bool) -> None:
        self.w = writer
        self.weights = weights
        self.precision = precision
        self.many = many

    @property
    def many_int8(self) -> bool:
        """Whole numbers on many rows: some operations have faster forms there."""
        return self.many and self.precision == "int8"

    def array(self, name: str) -> NDArray[np.float32]:
        """A weight as float32; int8 ones are multiplied out."""
        found = self.weights[name]
        if found.dtype == np.int8:
            scale: NDArray[np.float32] = self.weights[f"{name}_scale"]
            return np.asarray(found / scale.reshape(-1, *[1] * (found.ndim - 1)), dtype=np.float32)
        return np.asarray(found, dtype=np.float32)

    def kept(self, array: NDArray[np.float32]) -> str:
        """A constant, halved where weights are; always float32 to whoever uses it."""
        if self.precision == "float32":
            return self.w.constant(array)
        return self.w.node("Cast", self.w.constant(array.astype(np.float16)), to=1)

    def linear(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None = None) -> str:
        """x [..., inputs] times weight [outputs, inputs] transposed, plus bias."""
        if self.precision == "int8":
            y = (onnx_int8.by_rows if self.many else onnx_int8.in_blocks)(self.w, x, weight)
        else:
            y = self.w.node("MatMul", x, self.kept(np.ascontiguousarray(weight.T)))
        return y if bias is None else self.w.node("Add", y, self.w.constant(bias))

    def norm(self, x: str, name: str) -> str:
        """Layer normalisation over the last axis."""
        gamma, beta = self.array(f"{name}/gamma"), self.array(f"{name}/beta")
        if self.many_int8:
            return onnx_int8.norm(self.w, x, gamma, beta, epsilon=_EPSILON)
        scale, shift = self.w.constant(gamma), self.w.constant(beta)
        return self.w.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=_EPSILON)

    def gelu(self, x: str) -> str:
        """x/2 (1 + erf(x / sqrt 2)); the runtime fuses these nodes."""
        erf = self.w.node("Erf", self.w.node("Div", x, self.w.scalar(math.sqrt(2.0))))
        grown = self.w.node("Mul", x, self.w.node("Add", erf, self.w.scalar(1.0)))
        return self.w.node("Mul", grown, self.w.scalar(0.5))

    def feed_forward(self, x: str, name: str) -> str:
        """The two-layer network of a block, with its residual."""
        y = self.norm(x, f"{name}/layer_norm")
        y = self.gelu(self.linear(y, *self.pair(f"{name}/linear_0")))
        return self.w.node("Add", x, self.linear(y, *self.pair(f"{name}/linear_1")))

    def pair(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight and bias of a linear layer."""
        return self.array(f"{name}/weight"), self.array(f"{name}/bias")

    def thirds(self, name: str, parts: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """A joined projection (query, key, value) taken apart."""
        weight, bias = self.pair(name)
        return list(zip(np.split(weight, parts), np.split(bias, parts), strict=True))

    def heads(self, x: str, count: int, order: tuple[int, ...]) -> str:
        """[batch, n, width] as heads, axes (batch, n, head, 64) put in `order`."""
        split = self.w.node("Reshape", x, self.w.shape(0, 0, count, HEAD_WIDTH))
        return self.w.node("Transpose", split, perm=order)

    def joined(self, x: str, name: str) -> list[str]:
        """Queries scaled by 1/8, keys and values of a joined projection: three of [batch, n, width]."""
        weight, bias = self.pair(name)
        scale = np.ones((len(weight), 1), dtype=np.float32)
        scale[: len(weight) // 3] = 1.0 / math.sqrt(HEAD_WIDTH)
        return self.w.nodes("Split", 3, self.linear(x, weight * scale, bias * scale[:, 0]), axis=-1)

    def queries(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32], count: int) -> str:
        """[batch, heads, n, 64], scaled by 1/8."""
        scale = np.float32(1.0 / math.sqrt(HEAD_WIDTH))
        return self.heads(self.linear(x, weight * scale, bias * scale), count, (0, 2, 1, 3))

    def merged(self, x: str, width: int) -> str:
        """[batch, heads, n, 64] as [batch, n, width]."""
        return self.w.node(
            "Reshape", self.w.node("Transpose", x, perm=(0, 2, 1, 3)), self.w.shape(0, 0, width)
        )


def layers(weights: Iterable[str], side: str) -> int:
    """How many layers "encoder" or "decoder" has."""
    found = (re.match(rf"{side}/layer_(\d+)/", name) for name in weights)
    return 1 + max(int(match[1]) for match in found if match)


def write_encoder(path: Path, weights: Weights, precision: Precision) -> None:
    """features -> hidden."""
    with OnnxWriter(path) as w:
        g = _Graph(w, weights, precision, many=True)
        mels = g.weights["encoder/conv1/weight"].shape[1]
        heads = int(weights["encoder/num_heads"])
        width = g.weights["encoder/conv1/bias"].shape[0]
        x = w.input("features", "float32", (1, mels, "frames"))
        for number, stride in ((1, 1), (2, 2)):
            kernel, bias = g.pair(f"encoder/conv{number}")
            x = w.node(
                "Conv", x, g.kept(kernel), w.constant(bias), kernel_shape=(3,), pads=(1, 1), strides=(stride,)
            )
            x = g.gelu(x)
        x = w.node("Transpose", x, perm=(0, 2, 1))
        length = w.node("Gather", w.node("Shape", x), w.shape(1), axis=0)
        table = w.constant(g.array("encoder/position_encodings/encodings"))
        x = w.node("Add", x, w.node("Slice", table, w.shape(0), length, w.shape(0)))
        for layer in range(layers(weights, "encoder")):
            x = _encoder_layer(g, x, f"encoder/layer_{layer}", heads, width)
        w.output("hidden", g.norm(x, "encoder/layer_norm"), "float32", (1, "positions", width))
        w.save(PRODUCER)


def _encoder_layer(g: _Graph, x: str, name: str, heads: int, width: int) -> str:
    w = g.w
    y = g.norm(x, f"{name}/self_attention/layer_norm")
    query, key, value = g.joined(y, f"{name}/self_attention/linear_0")
    if g.many_int8:  # one node that never holds all weights of 30 s at once (72 MB)
        seen = w.node("MultiHeadAttention", query, key, value, domain=CONTRIB, num_heads=heads, scale=1.0)
    else:
        scores = w.node("MatMul", g.heads(query, heads, (0, 2, 1, 3)), g.heads(key, heads, (0, 2, 3, 1)))
        mixed = w.node("MatMul", w.node("Softmax", scores, axis=-1), g.heads(value, heads, (0, 2, 1, 3)))
        seen = g.merged(mixed, width)
    y = g.linear(seen, *g.pair(f"{name}/self_attention/linear_1"))
    return g.feed_forward(w.node("Add", x, y), f"{name}/ffn")


def write_cross(path: Path, weights: Weights, precision: Precision) -> None:
    """hidden -> keys and values of every decoder layer."""
    with OnnxWriter(path) as w:
        g = _Graph(w, weights, precision, many=True)
        heads = int(weights["decoder/num_heads"])
        hidden = w.input("hidden", "float32", (1, "positions", heads * HEAD_WIDTH))
        for layer in range(layers(weights, "decoder")):
            key, value = g.thirds(f"decoder/layer_{layer}/attention/linear_1", 2)
            k = g.heads(g.linear(hidden, *key), heads, (0, 2, 3, 1))
            v = g.heads(g.linear(hidden, *value), heads, (0, 2, 1, 3))
            w.output(f"cross_k_{layer}", k, "float32", (1, heads, HEAD_WIDTH, "positions"))
            w.output(f"cross_v_{layer}", v, "float32", (1, heads, "positions", HEAD_WIDTH))
        w.save(PRODUCER)


def write_decoder(
    path: Path, weights: Weights, precision: Precision, alignment: Iterable[tuple[int, int]]
) -> None:
    """tokens, cache, cross keys and values -> logits, cache, attention of the `alignment` heads."""
    with OnnxWriter(path) as w:
        g = _Graph(w, weights, precision, many=False)
        heads = int(weights["decoder/num_heads"])
        size = weights["decoder/embeddings/weight"].shape[0]
        tokens = w.input("tokens", "int64", ("batch", "n"))
        places = w.input("places", "int64", ("n", 1))
        order = w.input("order", "int64", ("batch",)) if precision != "int8" else ""
        wanted = w.input("wanted", "int64", ("m",))
        bias = w.input("bias", "float32", ("n", "rows"))
        table = g.array("decoder/embeddings/weight")
        positions = w.constant(g.array("decoder/position_encodings/encodings"))
        flat = w.node("Squeeze", places, w.shape(1))
        x = w.node("Add", _embed(g, tokens, table), w.node("Gather", positions, flat, axis=0))
        watched: dict[int, list[int]] = {}
        for layer, head in alignment:
            watched.setdefault(layer, []).append(head)
        attention: list[str] = []
        for layer in range(layers(weights, "decoder")):
            x = _self_attention(g, x, layer, heads, places=places, order=order, bias=bias)
            x, weighted = _cross_attention(g, x, layer, heads)
            if layer in watched:
                attention.append(w.node("Gather", weighted, w.shape(*watched[layer]), axis=1))
            x = g.feed_forward(x, f"decoder/layer_{layer}/ffn")
        x = w.node("Gather", g.norm(x, "decoder/layer_norm"), wanted, axis=1)
        w.output("logits", g.linear(x, table), "float32", ("batch", "m", size))
        if attention:
            count = sum(map(len, watched.values()))
            joined = w.node("Concat", *attention, axis=1) if len(attention) > 1 else attention[0]
            w.output("attention", joined, "float32", ("batch", count, "n", "positions"))
        w.save(PRODUCER)


def _embed(g: _Graph, tokens: str, table: NDArray[np.float32]) -> str:
    if g.precision == "int8":
        return onnx_int8.embed(g.w, tokens, table)
    stored = table if g.precision == "float32" else table.astype(np.float16)
    rows = g.w.node("Gather", g.w.constant(stored), tokens, axis=0)
    return rows if g.precision == "float32" else g.w.node("Cast", rows, to=1)


def _self_attention(g: _Graph, x: str, layer: int, heads: int, *, places: str, order: str, bias: str) -> str:
    w, name = g.w, f"decoder/layer_{layer}/self_attention"
    query, key, value = g.joined(g.norm(x, f"{name}/layer_norm"), f"{name}/linear_0")
    caches = []
    for kind, projected in (("k", key), ("v", value)):
        cache = w.input(f"self_{kind}_{layer}", "float32", ("rows", "held", heads, HEAD_WIDTH))
        held = w.node("Gather", cache, order, axis=1) if order else cache
        grown = w.node("ScatterND", held, places, g.heads(projected, heads, (1, 0, 2, 3)))
        w.output(f"new_{kind}_{layer}", grown, "float32", ("rows", "batch", heads, HEAD_WIDTH))
        caches.append(grown)
    k = w.node("Transpose", caches[0], perm=(1, 2, 3, 0))
    v = w.node("Transpose", caches[1], perm=(1, 2, 0, 3))
    scores = w.node("Add", w.node("MatMul", g.heads(query, heads, (0, 2, 1, 3)), k), bias)
    seen = w.node("MatMul", w.node("Softmax", scores, axis=-1), v)
    y = g.linear(g.merged(seen, heads * HEAD_WIDTH), *g.pair(f"{name}/linear_1"))
    return w.node("Add", x, y)


def _cross_attention(g: _Graph, x: str, layer: int, heads: int) -> tuple[str, str]:
    """The new x, and the attention weights [batch, heads, n, positions]."""
    w, name = g.w, f"decoder/layer_{layer}/attention"
    k = w.input(f"cross_k_{layer}", "float32", (1, heads, HEAD_WIDTH, "positions"))
    v = w.input(f"cross_v_{layer}", "float32", (1, heads, "positions", HEAD_WIDTH))
    q = g.queries(g.norm(x, f"{name}/layer_norm"), *g.pair(f"{name}/linear_0"), heads)
    weighted = w.node("Softmax", w.node("MatMul", q, k), axis=-1)
    seen = w.node("MatMul", weighted, v)
    y = g.linear(g.merged(seen, heads * HEAD_WIDTH), *g.pair(f"{name}/linear_2"))
    return w.node("Add", x, y), weighted
