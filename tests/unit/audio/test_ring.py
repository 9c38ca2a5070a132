"""The ring between the ears and the cutter."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.audio.ring import Chunk, Ring
from edge_agent.audio.source import EndOfAudio
from edge_agent.types import Gap, Pcm16

RATE = 1_000
NS_PER_FRAME = 1_000_000


def counted(first: int, frames: int, channels: int = 1) -> Pcm16:
    """Frames that carry their number."""
    return np.repeat(np.arange(first, first + frames, dtype=np.int16)[:, None], channels, axis=1)


def a_ring(seconds: float = 1.0, channels: int = 1) -> Ring:
    ring = Ring(seconds=seconds)
    ring.begin(rate_hz=RATE, channels=channels, start_ns=0)
    return ring


def drain(ring: Ring) -> list[tuple[int, int] | Gap]:
    """All that is left: (first frame number, start_ns) per chunk, and gaps."""
    found: list[tuple[int, int] | Gap] = []
    ring.close()
    while True:
        try:
            item = ring.read(min_s=0.001, timeout_s=0)
        except EndOfAudio:
            return found
        if isinstance(item, Chunk):
            found.append((int(item.pcm[0, 0]), item.start_ns))
        elif item is not None:
            found.append(item)


def test_frames_come_out_in_order_with_their_times() -> None:
    """What is written is read, across the wrap-around, each chunk with the time of its first frame."""
    ring = a_ring()
    for block in range(5):
        ring.write(counted(block * 300, 300, 1), block * 300 * NS_PER_FRAME)
        chunk = ring.read(min_s=0.3, timeout_s=0)
        assert isinstance(chunk, Chunk)
        assert chunk.pcm[:, 0].tolist() == list(range(block * 300, block * 300 + 300))
        assert chunk.start_ns == block * 300 * NS_PER_FRAME
        assert chunk.end_ns == (block + 1) * 300 * NS_PER_FRAME


def test_a_read_waits_for_enough_and_gives_up_in_time() -> None:
    """Less than asked for is not handed out; the wait ends with the time-out."""
    ring = a_ring()
    ring.write(counted(0, 10), 0)
    began = time.monotonic()
    assert ring.read(min_s=0.1, timeout_s=0.05) is None
    assert 0.04 < time.monotonic() - began < 0.5


def test_a_waiting_reader_wakes_when_enough_is_there() -> None:
    """The writer wakes the reader long before its time-out."""
    ring = a_ring()
    writer = threading.Timer(0.05, lambda: ring.write(counted(0, 200), 0))
    writer.start()
    began = time.monotonic()
    assert isinstance(ring.read(min_s=0.2, timeout_s=0.5), Chunk)
    assert time.monotonic() - began < 0.4
    writer.join()


def test_too_slow_a_reader_loses_the_oldest_sound_and_is_told() -> None:
    """An overflow drops from the front and leaves one overload gap of exactly that length."""
    ring = a_ring()
    dropped = [ring.write(counted(block * 300, 300), block * 300 * NS_PER_FRAME) for block in range(5)]
    assert dropped == [0, 0, 0, 200, 300]
    gap, chunk, *rest = drain(ring)
    assert isinstance(gap, Gap)
    assert (gap.start_ns, gap.duration_ms, gap.cause) == (0, 500.0, "overload")
    assert chunk == (500, 500 * NS_PER_FRAME)
    assert len(rest) == 1  # at most half a second is handed out at once


def test_gaps_keep_their_place() -> None:
    """Sound before a gap comes before it, though it is less than was asked for."""
    ring = a_ring()
    ring.write(counted(0, 10), 0)
    ring.gap(Gap(start_ns=10 * NS_PER_FRAME, duration_ms=90, cause="xrun"))
    ring.begin(rate_hz=RATE, channels=1, start_ns=100 * NS_PER_FRAME)
    ring.write(counted(100, 10), 100 * NS_PER_FRAME)
    first = ring.read(min_s=0.1, timeout_s=0)
    gap = ring.read(min_s=0.1, timeout_s=0)
    assert isinstance(first, Chunk)
    assert len(first.pcm) == 10
    assert isinstance(gap, Gap)
    assert gap.cause == "xrun"
    assert drain(ring) == [(100, 100 * NS_PER_FRAME)]


def test_a_replugged_device_may_have_another_format() -> None:
    """Rate and channels change with a new stretch; what was read before is unharmed."""
    ring = a_ring()
    ring.begin(rate_hz=2 * RATE, channels=2, start_ns=5)
    ring.write(counted(0, 2_000, 2), 5)
    chunk = ring.read(min_s=0.5, timeout_s=0)
    assert isinstance(chunk, Chunk)
    assert (chunk.rate_hz, chunk.pcm.shape[1], chunk.start_ns) == (2 * RATE, 2, 5)


def test_a_writer_that_can_wait_is_held_back() -> None:
    """There is no room until the reader has read; then nothing is dropped."""
    ring = a_ring()
    ring.write(counted(0, 900), 0)
    assert not ring.wait_room(200, 0.02)
    ring.read(min_s=0.1, timeout_s=0)
    assert ring.wait_room(200, 0.02)
    assert ring.write(counted(900, 200), 900 * NS_PER_FRAME) == 0


def test_a_block_larger_than_the_ring_leaves_its_end() -> None:
    """No block is too large; the newest second stays."""
    ring = a_ring()
    ring.write(counted(0, 2_500), 0)
    gap, first, *_ = drain(ring)
    assert isinstance(gap, Gap)
    assert gap.duration_ms == 1_500
    assert first == (1_500, 1_500 * NS_PER_FRAME)


def test_the_end_comes_after_the_last_frame() -> None:
    """A closed ring is read empty first."""
    ring = a_ring()
    ring.write(counted(0, 10), 0)
    ring.close()
    assert isinstance(ring.read(min_s=0.5, timeout_s=0), Chunk)
    with pytest.raises(EndOfAudio):
        ring.read(min_s=0.5, timeout_s=0)


acts = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 700)),
        st.tuples(st.just("lose"), st.integers(1, 500)),
        st.tuples(st.just("read"), st.integers(1, 300)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(acts)
def test_sound_and_gaps_always_add_up(steps: list[tuple[str, int]]) -> None:
    """Whatever is written, lost and read in whatever order: the reader gets one seamless time line."""
    ring = a_ring()
    now = 0
    cursor = 0

    def follow(item: Chunk | Gap | None) -> None:
        nonlocal cursor
        if item is None:
            return
        assert item.start_ns == cursor * NS_PER_FRAME
        if isinstance(item, Chunk):
            assert int(item.pcm[0, 0]) == cursor % 30_000
            cursor += len(item.pcm)
        else:
            cursor += round(item.duration_ms)

    for act, frames in steps:
        if act == "write":
            numbers = (np.arange(now, now + frames) % 30_000).astype(np.int16)[:, None]
            ring.write(numbers, now * NS_PER_FRAME)
            now += frames
        elif act == "lose":
            ring.gap(Gap(start_ns=now * NS_PER_FRAME, duration_ms=frames, cause="xrun"))
            now += frames
            ring.begin(rate_hz=RATE, channels=1, start_ns=now * NS_PER_FRAME)
        else:
            follow(ring.read(min_s=frames / RATE, timeout_s=0))
    ring.close()
    while True:
        try:
            follow(ring.read(min_s=0.001, timeout_s=0))
        except EndOfAudio:
            break
    assert cursor == now
