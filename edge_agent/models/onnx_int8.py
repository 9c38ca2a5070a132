"""Arithmetic with int8 weights in ONNX graphs for the CPU.

Two ways, because no one of them is fast in both places (whisper-base, AVX-512 VNNI, one thread):

- `by_rows` rounds every row of the input to 8 bits with a scale of its own and multiplies whole numbers: the
  same products as CTranslate2's. With 175 rows by [512, 2048] it is three times as fast as `in_blocks`; a
  single row costs twice as much. The encoder's.
- `in_blocks` is one node in which blocks of inputs share a scale. It reads each weight once and in order,
  which is all that counts for a single row: the decoder's. Blocks of 128 take two thirds of the time of
  blocks of 64.

Both count on byte products that do not overflow (VNNI and later); older processors add two in 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge_agent.models.onnx_format import CONTRIB, OnnxWriter

BLOCK = 128
"""Inputs that share one scale in `in_blocks`; smaller ones cost time and memory, larger ones accuracy."""
_LARGEST = 127.0
_SHIFT = 128
"""Inputs are kept as unsigned bytes: the processor multiplies unsigned by signed ones."""
_ACCURACY_INT8 = 4
"""MatMulNBits: the input is rounded to int8, too, per block."""
_UINT8 = 2
"""ONNX's number of the type."""
_TINY = 1e-12
_ROWS = 4096


def by_rows(w: OnnxWriter, x: str, weight: NDArray[np.float32]) -> str:
    """x [..., inputs] times weight [outputs, inputs] transposed; one scale for each output."""
    scales = np.maximum(np.abs(weight).max(axis=1), _TINY) / np.float32(_LARGEST)
    stored = np.rint(weight / scales[:, None]).astype(np.int8)
    largest = w.node("ReduceMax", w.node("Abs", x), axes=(-1,), keepdims=1)
    inverse = w.node("Div", w.scalar(_LARGEST), w.node("Max", largest, w.scalar(_TINY)))
    # Half added and the fraction cut off by the cast: rounded.
    shifted = w.node("Add", w.node("Mul", x, inverse), w.scalar(_SHIFT + 0.5))
    product = w.node(
        "MatMulIntegerToFloat",
        w.node("Cast", shifted, to=_UINT8),
        w.constant(np.ascontiguousarray(stored.T)),
        w.scalar(1.0),
        w.constant(scales),
        w.constant(np.array(_SHIFT, dtype=np.uint8)),
        domain=CONTRIB,
    )
    return w.node("Div", product, inverse)


def in_blocks(w: OnnxWriter, x: str, weight: NDArray[np.float32]) -> str:
    """x [..., inputs] times weight [outputs, inputs] transposed."""
    outputs, inputs = weight.shape
    blocks = -(-inputs // BLOCK)
    stored = np.empty((outputs, blocks, BLOCK), dtype=np.uint8)
    scales = np.empty((outputs, blocks), dtype=np.float32)
    for rows in _slices(outputs):
        padded = np.zeros((len(weight[rows]), blocks * BLOCK), dtype=np.float32)
        padded[:, :inputs] = weight[rows]
        parts = padded.reshape(-1, blocks, BLOCK)
        largest = np.abs(parts).max(axis=2)
        largest[largest == 0] = _LARGEST
        scales[rows] = largest / _LARGEST
        stored[rows] = np.rint(parts / scales[rows, :, None]) + _SHIFT
    return w.node(
        "MatMulNBits",
        x,
        w.constant(stored),
        w.constant(scales.reshape(-1)),
        domain=CONTRIB,
        K=inputs,
        N=outputs,
        bits=8,
        block_size=BLOCK,
        accuracy_level=_ACCURACY_INT8,
    )


def norm(
    w: OnnxWriter, x: str, gamma: NDArray[np.float32], beta: NDArray[np.float32], *, epsilon: float
) -> str:
    """Layer normalisation over the last axis, spelt out: the runtime's own node adds number by number, and
    takes twice as long for it on the rows of an encoder."""
    centred = w.node("Sub", x, w.node("ReduceMean", x, axes=(-1,), keepdims=1))
    power = w.node("ReduceSumSquare", centred, axes=(-1,), keepdims=1)
    variance = w.node("Mul", power, w.scalar(1.0 / len(gamma)))
    root = w.node("Sqrt", w.node("Add", variance, w.scalar(epsilon)))
    scaled = w.node("Mul", w.node("Div", centred, root), w.constant(gamma))
    return w.node("Add", scaled, w.constant(beta))


def embed(w: OnnxWriter, tokens: str, table: NDArray[np.float32]) -> str:
    """Rows of `table` [tokens, width] by token id; one scale a row."""
    stored = np.empty(table.shape, dtype=np.int8)
    scale = np.empty((len(table), 1), dtype=np.float32)
    for rows in _slices(len(table)):
        largest = np.abs(table[rows]).max(axis=1, keepdims=True)
        scale[rows] = np.maximum(largest, _TINY) / np.float32(_LARGEST)
        stored[rows] = np.rint(table[rows] / scale[rows])
    found = w.node("Gather", w.constant(stored), tokens, axis=0)
    scales = w.node("Gather", w.constant(scale), tokens, axis=0)
    return w.node("Mul", w.node("Cast", found, to=1), scales)


def _slices(rows: int) -> Iterator[slice]:
    """Rows worked on at a time: the copies in between of a large table never exist whole."""
    for start in range(0, rows, _ROWS):
        yield slice(start, start + _ROWS)
