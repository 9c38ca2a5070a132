"""When each frame was captured."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.audio.timeline import Timeline

RATE, BLOCK = 16_000, 512
BLOCK_NS = 32_000_000


def test_time_runs_by_frames() -> None:
    """With a perfect crystal each block starts where the last one ended."""
    line = Timeline(RATE, 0)
    starts = [line.place(BLOCK, i * BLOCK_NS) for i in range(100)]
    assert starts == [i * BLOCK_NS for i in range(100)]


@settings(max_examples=50, deadline=None)
@given(st.integers(-500, 500), st.integers(0, 2**32))
def test_drift_is_followed_through_jitter(ppm: int, seed: int) -> None:
    """A crystal off by up to 500 ppm, read up to 4 ms late: after minutes the time is still right to 5 ms."""
    late_ns = np.random.default_rng(seed).integers(0, 4_000_000, 3_000).tolist()
    line = Timeline(RATE, 0)
    true_ns = BLOCK_NS * (1 - ppm * 1e-6)
    previous = -BLOCK_NS
    for i, late in enumerate(late_ns):
        start = line.place(BLOCK, int(i * true_ns) + late)
        assert abs(start - previous - BLOCK_NS) <= BLOCK_NS * 0.005 + 1
        assert not line.lost(int((i + 1) * true_ns))
        previous = start
    assert abs(previous - (len(late_ns) - 1) * true_ns) < 5e6


def test_a_backlog_is_not_lost_sound() -> None:
    """A server that held four seconds and hands them out late: frames alone count until it has caught up."""
    line = Timeline(RATE, 0)
    for _ in range(125):
        line.place(BLOCK, None)
    assert line.end_ns == 125 * BLOCK_NS
    assert not line.lost(line.end_ns + 1_000_000)


def test_one_late_block_is_jitter_and_several_are_lost_sound() -> None:
    """A sound server that swallows an overrun is found out: all blocks are late by the same amount."""
    line = Timeline(RATE, 0)
    loss = 400_000_000
    verdicts = []
    for i in range(20):
        measured = i * BLOCK_NS + (loss if i == 5 or i >= 10 else 0)
        verdicts.append(line.lost(measured))
        line.place(BLOCK, measured)
    assert verdicts.index(True) == 12
    assert not any(verdicts[:12])
