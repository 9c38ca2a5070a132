"""Weight files mapped instead of read: CTranslate2's `model.bin` and Hugging Face's `*.safetensors`.

An array is touched only when it is used, so that a model of several gigabytes is converted in the memory of
its largest one. A safetensors file is a u64 length, that much JSON (name -> type, shape, byte range), data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.models.weights import WeightsReader, open_weights

_MAX_HEADER_BYTES = 100 << 20
_SAFE_TYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F64": np.dtype("<f8"),
}
_INDEX = "model.safetensors.index.json"


def map_ct2(path: Path) -> dict[str, NDArray[Any]]:
    """Name -> array of a `model.bin`, equal arrays that are stored once under each of their names.
    ValueError when it is not one, OSError when it cannot be read."""
    with open_weights(path) as file:
        reader = WeightsReader(file)
        places = list(reader.places())
        aliases = reader.aliases()
    found: dict[str, NDArray[Any]] = {
        name: np.memmap(path, dtype, "r", offset, shape) if shape else _scalar(path, dtype, offset)
        for name, dtype, shape, offset in places
    }
    return found | {alias: found[name] for alias, name in aliases if name in found}


def _scalar(path: Path, dtype: np.dtype[Any], offset: int) -> NDArray[Any]:
    return np.fromfile(path, dtype, count=1, offset=offset).reshape(())


class Safetensors(Mapping[str, NDArray[Any]]):
    """Arrays of a checkpoint; those in bfloat16 become float32 when they are asked for, each time anew."""

    def __init__(self, mapped: dict[str, NDArray[Any]], halves: frozenset[str]) -> None:
        self._mapped = mapped
        self._halves = halves
        """Names of arrays that hold the upper halves of float32 numbers."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        array = self._mapped[name]
        if name not in self._halves:
            return array
        return (array.astype(np.uint32) << 16).view(np.float32)

    def __contains__(self, name: object) -> bool:
        return name in self._mapped

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapped)

    def __len__(self) -> int:
        return len(self._mapped)


def map_safetensors(directory: Path) -> Safetensors:
    """Name -> array of `model.safetensors`, or of all files its index names.

    Raises:
        ValueError: a file is not of that form.
        OSError: it cannot be read.
    """
    mapped: dict[str, NDArray[Any]] = {}
    halves: set[str] = set()
    for path in _files(directory):
        for name, entry, base in _entries(path):
            mapped[name] = _array(path, entry, base)
            if entry["dtype"] == "BF16":
                halves.add(name)
    return Safetensors(mapped, frozenset(halves))


def _files(directory: Path) -> list[Path]:
    index = directory / _INDEX
    if not index.is_file():
        return [directory / "model.safetensors"]
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    if any("/" in str(name) or not str(name).endswith(".safetensors") for name in names):
        raise ValueError(f"{index} names files elsewhere")
    return [directory / name for name in sorted(set(names))]


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Name and description of each array, and where data begins."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if not 2 <= length <= _MAX_HEADER_BYTES:
            raise ValueError(f"{path.name} is not a safetensors file")
        header = json.loads(file.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            yield name, entry, 8 + length


def _array(path: Path, entry: dict[str, Any], base: int) -> NDArray[Any]:
    dtype = _SAFE_TYPES.get(entry["dtype"])
    shape = tuple(int(size) for size in entry["shape"])
    start, end = entry["data_offsets"]
    if dtype is None or end - start != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{path.name} holds an array of an unknown type or a wrong size")
    if base + end > path.stat().st_size:
        raise ValueError(f"{path.name} ends too early")
    return np.memmap(path, dtype, "r", base + start, shape)
