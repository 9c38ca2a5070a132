"""Writes ONNX model files, with their weights in a file beside them. Nothing but numpy is needed.

An ONNX model is one protocol-buffer message; the few message types used here are encoded by hand, field
numbers as in onnx.proto3 (ONNX IR version 8). Weights go to `NAME.bin` one after another as "external data",
so that models of more than the 2 GB a message may have work, only one array is in memory at a time, and the
runtime maps the file instead of reading it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 8
OPSET = 17
CONTRIB = "com.microsoft"
_ALIGNMENT = 4096
"""Offsets are whole pages, so that the runtime can map each array."""
_INLINE_BYTES = 1024
"""Smaller arrays (shapes, scalars) stay in the message, where shape inference can see them."""
_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10}
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_INTS = 1, 2, 7

Attribute = int | float | Sequence[int]
Dimensions = Sequence[int | str]
"""Sizes; a name stands for a size that varies."""


class OnnxWriter:
    """One graph in the making. Use as a context manager; `save` writes the message at the end.

    Values are named by strings; every method that makes one answers its name.
    """

    def __init__(self, path: Path) -> None:
        """Args:
        path: of the model; the weights go to the same name with `.bin`."""
        self._path = path
        self._weights = path.with_suffix(".bin").open("wb")
        self._nodes: list[tuple[str, Sequence[str], Sequence[str], dict[str, Attribute], str]] = []
        self._constants: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._public: dict[str, str] = {}
        """Value -> the name it is answered under."""
        self._made = 0

    def __enter__(self) -> OnnxWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._weights.close()

    def input(self, name: str, dtype: str, dimensions: Dimensions) -> str:
        """A value given at each run."""
        self._inputs.append(_value(name, dtype, dimensions))
        return name

    def output(self, name: str, source: str, dtype: str, dimensions: Dimensions) -> None:
        """A value answered by each run: `source`, which an operation made, under a public name."""
        self._public[source] = name
        self._outputs.append(_value(name, dtype, dimensions))

    def constant(self, array: NDArray[Any]) -> str:
        """A weight or another array that never changes."""
        name = self._name("c")
        data = np.ascontiguousarray(array)
        tensor = b"".join(_number(1, size) for size in array.shape)
        tensor += _number(2, _TYPES[str(array.dtype)]) + _bytes(8, name.encode())
        if data.nbytes <= _INLINE_BYTES:
            tensor += _bytes(9, data.tobytes())
        else:
            tensor += self._external(data)
        self._constants.append(tensor)
        return name

    def shape(self, *sizes: int) -> str:
        """A constant int64 vector: a shape, axes, or the like."""
        return self.constant(np.array(sizes, dtype=np.int64))

    def scalar(self, value: float) -> str:
        """A constant float32 without dimensions."""
        return self.constant(np.array(value, dtype=np.float32))

    def node(self, operation: str, *inputs: str, domain: str = "", **attributes: Attribute) -> str:
        """An operation with one output."""
        return self.nodes(operation, 1, *inputs, domain=domain, **attributes)[0]

    def nodes(
        self, operation: str, outputs: int, *inputs: str, domain: str = "", **attributes: Attribute
    ) -> list[str]:
        """An operation with several outputs."""
        names = [self._name(operation) for _ in range(outputs)]
        self._nodes.append((operation, inputs, names, attributes, domain))
        return names

    def save(self, producer: str) -> None:
        """Write the message."""
        nodes = (
            _node(operation, self._called(inputs), self._called(outputs), attributes, domain)
            for operation, inputs, outputs, attributes, domain in self._nodes
        )
        graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, b"graph")
        graph += b"".join(_bytes(5, tensor) for tensor in self._constants)
        graph += b"".join(_bytes(11, value) for value in self._inputs)
        graph += b"".join(_bytes(12, value) for value in self._outputs)
        message = _number(1, IR_VERSION) + _bytes(2, producer.encode()) + _bytes(7, graph)
        message += _bytes(8, _bytes(1, b"") + _number(2, OPSET))
        message += _bytes(8, _bytes(1, CONTRIB.encode()) + _number(2, 1))
        self._path.write_bytes(message)

    def _called(self, names: Sequence[str]) -> list[str]:
        return [self._public.get(name, name) for name in names]

    def _external(self, data: NDArray[Any]) -> bytes:
        gap = -self._weights.tell() % _ALIGNMENT
        self._weights.write(b"\0" * gap)
        offset = self._weights.tell()
        self._weights.write(data.data)
        entries = {
            "location": self._path.with_suffix(".bin").name,
            "offset": str(offset),
            "length": str(data.nbytes),
        }
        pairs = (_bytes(1, key.encode()) + _bytes(2, value.encode()) for key, value in entries.items())
        return b"".join(_bytes(13, pair) for pair in pairs) + _number(14, 1)

    def _name(self, stem: str) -> str:
        self._made += 1
        return f"{stem}_{self._made}"


def _node(
    operation: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attributes: dict[str, Attribute],
    domain: str,
) -> bytes:
    data = b"".join(_bytes(1, name.encode()) for name in inputs)
    data += b"".join(_bytes(2, name.encode()) for name in outputs)
    data += _bytes(4, operation.encode())
    data += b"".join(_bytes(5, _attribute(name, value)) for name, value in attributes.items())
    return data + _bytes(7, domain.encode())


def _attribute(name: str, value: Attribute) -> bytes:
    data = _bytes(1, name.encode())
    if isinstance(value, int):
        return data + _number(3, value) + _number(20, _ATTRIBUTE_INT)
    if isinstance(value, float):
        return data + _tag(2, 5) + struct.pack("<f", value) + _number(20, _ATTRIBUTE_FLOAT)
    return data + b"".join(_number(8, item) for item in value) + _number(20, _ATTRIBUTE_INTS)


def _value(name: str, dtype: str, dimensions: Dimensions) -> bytes:
    sizes = (_number(1, size) if isinstance(size, int) else _bytes(2, size.encode()) for size in dimensions)
    shape = b"".join(_bytes(1, size) for size in sizes)
    tensor = _number(1, _TYPES[dtype]) + _bytes(2, shape)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))


def _tag(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _number(field: int, value: int) -> bytes:
    return _tag(field, 0) + _varint(value & (1 << 64) - 1)


def _bytes(field: int, data: bytes) -> bytes:
    return _tag(field, 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
