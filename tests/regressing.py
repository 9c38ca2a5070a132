"""Real models made worse, whole in every format: what a fleet's publisher may sign by mistake."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.models.weights import WeightsReader, WeightsWriter

Weight = tuple[str, NDArray]
_LAYER = re.compile(r"(encoder|decoder)/layer_(\d+)/(.*)")
_LAST = {
    "encoder": re.compile(r"(self_attention|ffn)/linear_1/(weight|bias)"),
    "decoder": re.compile(r"((self_attention|ffn)/linear_1|attention/linear_2)/(weight|bias)"),
}
"""What a block adds to what passes through it; with zeros, nothing."""


def other_words(source: Path, to: Path) -> Path:
    """The same model with the words' rows mixed: it hears as well as before, and says other words."""

    def mixed(name: str, array: NDArray) -> Iterator[Weight]:
        if name == "decoder/embeddings/weight":
            array = array.copy()
            words = np.arange(300, 50_000)
            array[words] = array[np.random.default_rng(8).permutation(words)]
        yield name, array

    return _made(source, to, mixed)


def deeper(source: Path, to: Path, *, encoder: int = 0, decoder: int = 0) -> Path:
    """The same model with so many more layers that change nothing: the same words, more work and memory."""
    more = {"encoder": encoder, "decoder": decoder}

    def with_copies(name: str, array: NDArray) -> Iterator[Weight]:
        yield name, array
        found = _LAYER.fullmatch(name)
        if found is None or found[2] != "0":
            return
        side, rest = found[1], found[3]
        last = _LAST[side].fullmatch(rest) is not None
        for number in range(more[side]):
            # Rolled, so that no two are the same and stored once.
            more_of_it = np.zeros_like(array) if last else np.roll(array, 1 + number)
            yield f"{side}/layer_{6 + number}/{rest}", more_of_it

    return _made(source, to, with_copies)


def _made(source: Path, to: Path, change: Callable[[str, NDArray], Iterator[Weight]]) -> Path:
    """Another model.bin beside the same other files, as they are published."""
    shutil.copytree(source, to, ignore=shutil.ignore_patterns("manifest.json", "model.bin"))
    with (source / "model.bin").open("rb") as old, (to / "model.bin").open("wb") as new:
        reader = WeightsReader(old)
        writer = WeightsWriter(new, reader.header)
        for name, array in reader.variables():
            for weight in change(name, array):
                writer.add(*weight)
        writer.finish(reader.aliases())
    return to
