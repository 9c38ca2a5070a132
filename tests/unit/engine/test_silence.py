"""Silence is encoded once for a model, not once for a start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.decoding.features import MAX_FRAMES, Mel
from edge_agent.engine.ct2_silence import Silence

POSITIONS, WIDTH = MAX_FRAMES // 2, 8


class Encoder:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, mel: Mel) -> NDArray[np.float32]:
        self.asked += 1
        assert mel.shape == (80, MAX_FRAMES)
        return np.random.default_rng(1).normal(size=(1, POSITIONS, WIDTH)).astype(np.float32)


def test_the_next_start_reads_what_the_first_one_made(tmp_path: Path) -> None:
    """Bit for bit, without the encoder."""
    encoder = Encoder()
    first = Silence(80, encoder, tmp_path / "silence.f32").positions(100, 500)
    second = Silence(80, encoder, tmp_path / "silence.f32").positions(100, 500)
    assert encoder.asked == 1
    assert first.shape == (400, WIDTH)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    """Empty, cut off, or one bit wrong."""
    encoder, path = Encoder(), tmp_path / "silence.f32"
    wanted = Silence(80, encoder, path).positions(0, POSITIONS)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(bytes(data) if damage is None else damage)
    assert np.array_equal(Silence(80, encoder, path).positions(0, POSITIONS), wanted)
    assert encoder.asked == 2
    Silence(80, encoder, path).positions(0, 10)
    assert encoder.asked == 2


def test_a_place_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    """And without a place nothing is written."""
    encoder = Encoder()
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    for place in (blocked / "silence.f32", None):
        assert Silence(80, encoder, place).positions(0, 10).shape == (10, WIDTH)
    assert encoder.asked == 2
    assert list(tmp_path.iterdir()) == [blocked]
