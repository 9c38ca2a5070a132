"""Small ONNX models for tests, written byte by byte: the format is Protocol Buffers, a few fields suffice.

`tone_model` stands in for a wake word: its score is 1 for a tone of 1 kHz, near 0 for speech and silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TONE_HZ = 1000
_FLOAT, _INT64 = 1, 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _piece(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _value(name: str, shape: Sequence[int | str], kind: int = _FLOAT) -> bytes:
    dims = b"".join(_piece(1, _number(1, d) if isinstance(d, int) else _piece(2, d)) for d in shape)
    return _piece(1, name) + _piece(2, _piece(1, _number(1, kind) + _piece(2, dims)))


def _tensor(name: str, values: NDArray) -> bytes:
    kind = _INT64 if values.dtype == np.int64 else _FLOAT
    dims = b"".join(_number(1, d) for d in values.shape)
    return dims + _number(2, kind) + _piece(8, name) + _piece(9, values.tobytes())


def model(
    path: Path,
    given: Sequence[int | str],
    steps: Sequence[tuple[str, Sequence[NDArray]]],
    answer: Sequence[int | str],
    *,
    kind: int = _FLOAT,
) -> Path:
    """A chain of operators, each fed with the result of the one before and with constants.

    Args:
        path: the file.
        given: shape of the input.
        steps: operator and its further inputs; "Square" multiplies with itself.
        answer: shape of the output.
        kind: element type of input and output, 1 for float32.
    """
    nodes, constants, last = b"", b"", "given"
    for place, (operator, values) in enumerate(steps):
        names = [f"c{place}_{n}" for n in range(len(values))]
        constants += b"".join(_piece(5, _tensor(n, v)) for n, v in zip(names, values, strict=True))
        inputs = [last, last] if operator == "Square" else [last, *names]
        last = "answer" if place == len(steps) - 1 else f"r{place}"
        node = b"".join(_piece(1, name) for name in inputs) + _piece(2, last)
        nodes += _piece(1, node + _piece(4, "Mul" if operator == "Square" else operator))
    graph = nodes + _piece(2, "tiny") + constants
    graph += _piece(11, _value("given", given, kind)) + _piece(12, _value("answer", answer, kind))
    path.write_bytes(_number(1, 8) + _piece(7, graph) + _piece(8, _piece(1, "") + _number(2, 13)))
    return path


def _matched(samples: int, scale: float) -> NDArray:
    turn = 2 * np.pi * TONE_HZ * np.arange(samples) / 16_000
    return (np.stack((np.cos(turn), np.sin(turn)), axis=1) * scale).astype(np.float32)


LIMITS = (np.zeros((), np.float32), np.ones((), np.float32))


def tone_model(path: Path, samples: int = 4800) -> Path:
    """Hears `samples` of sound; the score reaches 1 where they are a tone of amplitude 0.2 or more."""
    steps = [
        ("MatMul", [_matched(samples, 10 / samples)]),
        ("Square", []),
        ("ReduceSum", []),
        ("Clip", LIMITS),
    ]
    return model(path, [1, samples], steps, [1, 1])


def tone_features(folder: Path, head: str = "word.onnx", count: int = 4) -> Path:
    """The same as three models in the manner of openWakeWord: mels, embeddings, and the word's own head."""
    mels = np.zeros((1760, 256), np.float32)
    mels[:, ::2], mels[:, 1::2] = np.hsplit(_matched(1760, 100 / (1760 * 32768)), 2)
    shape = np.array([1, 1, 8, 32], np.int64)
    model(
        folder / "melspectrogram.onnx", ["b", "n"], [("MatMul", [mels]), ("Reshape", [shape])], [1, 1, 8, 32]
    )
    flat, embedded = np.array([1, 76 * 32], np.int64), np.array([1, 1, 1, 96], np.int64)
    pick = np.zeros((76 * 32, 96), np.float32)
    pick[-32:, :2] = np.tile(np.eye(2, dtype=np.float32), (16, 1)) / 16  # of the newest 10 ms
    model(
        folder / "embedding_model.onnx",
        ["b", 76, 32, 1],
        [("Reshape", [flat]), ("MatMul", [pick]), ("Reshape", [embedded])],
        ["b", 1, 1, 96],
    )
    rest = np.array(2.0, np.float32)  # what the mels of silence are moved by
    steps = [
        ("Sub", [rest]),
        ("MatMul", [np.eye(96, 2, dtype=np.float32)]),
        ("Square", []),
        ("ReduceMax", []),
    ]
    return model(folder / head, [1, count, 96], [*steps, ("Clip", LIMITS)], [1, 1, 1])


def tone(seconds: float, level: float = 0.3) -> NDArray:
    """float32[samples] of 1 kHz at 16 kHz."""
    return (level * np.sin(2 * np.pi * TONE_HZ * np.arange(int(seconds * 16_000)) / 16_000)).astype(
        np.float32
    )
