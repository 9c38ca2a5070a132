"""CTranslate2's `model.bin`: a header, named arrays one after another, then aliases. Read and written a
variable at a time, so that memory stays at the size of the largest one.

Layout (little endian): u32 binary version, string model class, u32 revision, u32 count; for each variable a
string name, u8 rank, u32 sizes, u8 type, u32 bytes, data; then u32 count and pairs of strings (alias, name).
A string is a u16 length that counts its closing zero byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_agent.types import Value

_TYPES: tuple[np.dtype[Any] | None, ...] = tuple(
    None if name is None else np.dtype(name)
    for name in ("float32", "int8", "int16", "int32", "float16", None)
)
"""By type number; the sixth is bfloat16, which numpy lacks."""
_MAX_RANK = 8
_SMALLEST = np.float32(127.0) / np.finfo(np.float32).max
"""Rows of smaller numbers would have an infinite scale."""
_BLOCK_ROWS = 4096
"""Rows converted at a time, so that the float copy of a large table never exists whole."""


class Header(Value, frozen=True):
    """What comes before the variables."""

    binary_version: int
    model_class: str
    revision: int
    variables: int


class WeightsReader:
    """Reads one file from front to back: `header`, then `variables()` once, then `aliases()`."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the header. ValueError when it is not such a file."""
        self._file = file
        version = self._number("<I")
        self.header = Header(
            binary_version=version,
            model_class=self._string(),
            revision=self._number("<I"),
            variables=self._number("<I"),
        )

    def variables(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Name and array of each variable. ValueError at a type or size that cannot be."""
        for _ in range(self.header.variables):
            name, dtype, shape, size = self._head()
            yield name, np.frombuffer(self._bytes(size), dtype=dtype).reshape(shape)

    def places(self) -> Iterator[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
        """Name, type, shape and offset in the file of each variable, instead of `variables()`."""
        for _ in range(self.header.variables):
            name, dtype, shape, size = self._head()
            yield name, dtype, shape, self._file.tell()
            self._file.seek(size, 1)

    def _head(self) -> tuple[str, np.dtype[Any], tuple[int, ...], int]:
        name = self._string()
        rank = self._number("<B")
        if rank > _MAX_RANK:
            raise ValueError(f"{name} has {rank} dimensions")
        shape = tuple(self._number("<I") for _ in range(rank))
        kind = self._number("<B")
        dtype = _TYPES[kind] if kind < len(_TYPES) else None
        size = self._number("<I")
        if dtype is None or size != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
            raise ValueError(f"{name} has an unknown type or a wrong size")
        return name, dtype, shape, size

    def aliases(self) -> list[tuple[str, str]]:
        """Alias and the name it stands for."""
        return [(self._string(), self._string()) for _ in range(self._number("<I"))]

    def _number(self, form: str) -> int:
        (value,) = struct.unpack(form, self._bytes(struct.calcsize(form)))
        return int(value)

    def _string(self) -> str:
        return self._bytes(self._number("<H"))[:-1].decode("utf-8")

    def _bytes(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError("the file ends too early")
        return data


class WeightsWriter:
    """Writes one file; the count of variables is filled in at `finish`."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        self._count = 0
        self._number("<I", header.binary_version)
        self._string(header.model_class)
        self._number("<I", header.revision)
        self._count_at = file.tell()
        self._number("<I", 0)

    def add(self, name: str, array: NDArray[Any]) -> None:
        """One variable."""
        self._string(name)
        self._number("<B", array.ndim)
        for size in array.shape:
            self._number("<I", size)
        self._number("<B", _TYPES.index(array.dtype))
        self._number("<I", array.nbytes)
        self._file.write(np.ascontiguousarray(array).reshape(-1).data)
        self._count += 1

    def finish(self, aliases: list[tuple[str, str]]) -> None:
        """The aliases, and the count of variables in its place."""
        self._number("<I", len(aliases))
        for alias, name in aliases:
            self._string(alias)
            self._string(name)
        self._file.seek(self._count_at)
        self._number("<I", self._count)

    def _number(self, form: str, value: int) -> None:
        self._file.write(struct.pack(form, value))

    def _string(self, text: str) -> None:
        data = text.encode("utf-8") + b"\0"
        self._number("<H", len(data))
        self._file.write(data)


def quantise_rows(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows of float[n, m] as int8[n, m] and their float32[n] scales (stored = rounded(weight * scale)), by
    the rule CTranslate2 follows when it quantises at load: 127 over the largest magnitude, halves to even."""
    stored = np.empty(weight.shape, dtype=np.int8)
    scales = np.empty(weight.shape[0], dtype=np.float32)
    for start in range(0, weight.shape[0], _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        values = weight[block].astype(np.float32)
        largest = np.abs(values).max(axis=1)
        largest[largest == 0] = 127.0
        np.maximum(largest, _SMALLEST, out=largest)
        scales[block] = np.float32(127.0) / largest
        values *= scales[block, None]
        stored[block] = np.rint(values, out=values)
    return stored, scales


def is_quantised(name: str) -> bool:
    """True for the variables the library holds as int8: all weights but those of the two convolutions."""
    return name.endswith("weight") and "conv" not in name


def open_weights(path: Path) -> BinaryIO:
    """The file, buffered for many small reads."""
    return path.open("rb", buffering=1 << 20)
