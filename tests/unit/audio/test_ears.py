"""The ears: they heal themselves, and every loss is a gap of the right length."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from edge_agent.audio.ears import Ears
from edge_agent.audio.ring import Chunk, Ring
from edge_agent.audio.source import Block, EndOfAudio, Overrun
from edge_agent.clock import SystemClock
from edge_agent.errors import AudioFileError, CaptureError, MicrophoneBusy, MicrophoneLost
from edge_agent.types import Gap

LOST = MicrophoneLost("the microphone is gone", remedy="plug it in")
BUSY = MicrophoneBusy("the microphone is held", remedy="free it")
FRAMES = 512
BLOCK_S = 0.032


class Scripted:
    """A source that plays a list: "block", "overrun", an error of `open` or `read`, a pause in seconds."""

    def __init__(self, *script: str | float | Exception, opens: tuple[CaptureError | None, ...] = ()) -> None:
        self.name = "scripted"
        self.rate_hz = 16_000
        self.channels = 1
        self.paced = True
        self.script = list(script)
        self.opens = list(opens)
        self.opened = 0
        self.closed = 0

    def open(self) -> None:
        self.opened += 1
        if self.opens and (error := self.opens.pop(0)) is not None:
            raise error

    def read(self, timeout_s: float) -> Block | Overrun | None:
        act = self.script.pop(0) if self.script else EndOfAudio()
        if isinstance(act, Exception):
            raise act
        if isinstance(act, float):
            time.sleep(act)
            return None
        if act == "overrun":
            return Overrun()
        time.sleep(BLOCK_S)
        start_ns = time.monotonic_ns() - int(BLOCK_S * 1e9)
        return Block(pcm=np.ones((FRAMES, 1), np.int16), start_ns=start_ns)

    def close(self) -> None:
        self.closed += 1


def listen(source: Scripted, during: Callable[[Ears], None] | None = None) -> tuple[list[Chunk | Gap], Ears]:
    """All that a source's ears put into the ring, and the ears."""
    ring = Ring()
    ears = Ears(source, ring, clock=SystemClock())
    ears.start()
    if during is not None:
        during(ears)
    assert ears.join(10)
    found: list[Chunk | Gap] = []
    while True:
        try:
            item = ring.read(min_s=0.001, timeout_s=0)
        except EndOfAudio:
            return found, ears
        if isinstance(item, Chunk):
            item = Chunk(pcm=item.pcm.copy(), start_ns=item.start_ns, rate_hz=item.rate_hz)
        if item is not None:
            found.append(item)


def seam_ms(items: list[Chunk | Gap]) -> float:
    """Largest hole or overlap between one item and the next."""
    ends = [
        item.end_ns if isinstance(item, Chunk) else item.start_ns + item.duration_ms * 1e6 for item in items
    ]
    return max(
        (abs(item.start_ns - end) / 1e6 for item, end in zip(items[1:], ends, strict=False)), default=0.0
    )


def gaps(items: list[Chunk | Gap]) -> list[Gap]:
    return [item for item in items if isinstance(item, Gap)]


def test_sound_goes_through_and_the_end_closes_the_ring() -> None:
    """A source without trouble: all frames, no gap, state ended."""
    items, ears = listen(Scripted("block", "block", "block"))
    assert sum(len(item.pcm) for item in items if isinstance(item, Chunk)) == 3 * FRAMES
    assert not gaps(items)
    assert ears.failure is None
    assert ears.statistics().state == "ended"
    assert ears.statistics().frames == 3 * FRAMES


def test_a_slow_start_is_a_gap() -> None:
    """A sound server that needs a while for its first sound: the wait is told; a quick start is not."""
    items, _ = listen(Scripted(0.4, "block", "block"))
    (gap,) = gaps(items)
    assert gap.cause == "restart"
    assert 350 < gap.duration_ms < 700
    assert seam_ms(items) < 5


def test_sound_from_before_the_ears_keeps_its_time() -> None:
    """A source opened earlier already holds sound: its first block is not moved to the start of the ears."""
    source = Scripted()
    early_ns = time.monotonic_ns() - 500_000_000
    blocks = [Block(pcm=np.ones((FRAMES, 1), np.int16), start_ns=early_ns)]

    def read(timeout_s: float) -> Block:
        if not blocks:
            raise EndOfAudio
        return blocks.pop()

    source.read = read  # type: ignore[method-assign] - one block with a time of its own
    items, _ = listen(source)
    assert [item.start_ns for item in items] == [early_ns]


def test_an_overrun_is_a_gap_up_to_the_next_sound() -> None:
    """The gap begins where the last frame ended and ends where the next begins."""
    items, ears = listen(Scripted("block", 0.2, "overrun", "block", "block"))
    (gap,) = gaps(items)
    assert gap.cause == "xrun"
    assert 150 < gap.duration_ms < 400
    assert seam_ms(items) < 5
    assert ears.statistics().overruns == 1


def test_a_lost_device_is_opened_again() -> None:
    """Lost, twice not there, then back: one unbroken account."""
    source = Scripted("block", LOST, "block", "block", opens=(None, LOST, BUSY, None))
    items, ears = listen(source)
    assert {gap.cause for gap in gaps(items)} == {"unplug"}
    assert 1_000 < sum(gap.duration_ms for gap in gaps(items)) < 2_500
    assert seam_ms(items) < 5
    assert ears.statistics().losses == 1
    assert source.opened == 4


def test_a_long_loss_is_told_in_time_and_in_pieces() -> None:
    """The first piece is told within a second, while the device is still away."""
    source = Scripted("block", LOST, "block", opens=(None, LOST, LOST, None))
    items, _ = listen(source)
    told = gaps(items)
    assert len(told) == 2
    assert told[0].duration_ms < 1_000
    assert seam_ms(items) < 5


def test_hidden_losses_are_found() -> None:
    """A sound server that swallows what it could not deliver: later blocks are late, and a gap says so."""
    items, _ = listen(Scripted("block", "block", 0.5, "block", "block", "block", "block"))
    (gap,) = gaps(items)
    assert gap.cause == "xrun"
    assert 400 < gap.duration_ms < 700


def test_muting_closes_the_device_and_tells_the_time() -> None:
    """While muted nothing is read; the time is a gap with cause muted."""
    source = Scripted(*["block"] * 20)

    def during(ears: Ears) -> None:
        time.sleep(0.15)
        ears.mute()
        time.sleep(0.4)
        assert ears.statistics().state == "muted"
        assert source.closed > 0
        ears.unmute()

    items, _ = listen(source, during)
    assert {gap.cause for gap in gaps(items)} == {"muted"}
    assert 300 < sum(gap.duration_ms for gap in gaps(items)) < 700
    assert seam_ms(items) < 5


def test_stopping_while_the_device_is_away_is_quick() -> None:
    """No back-off holds up the end, and the loss up to the end is told."""
    source = Scripted(opens=(LOST,) * 100)
    began = time.monotonic()

    def during(ears: Ears) -> None:
        time.sleep(0.3)
        before = ears.progress
        time.sleep(0.5)
        assert ears.progress > before
        assert ears.statistics().state == "lost"
        assert "gone" in ears.statistics().reason
        ears.stop()

    items, _ = listen(source, during)
    assert time.monotonic() - began < 1.5
    assert sum(gap.duration_ms for gap in gaps(items)) > 700


def test_a_recording_that_cannot_be_read_is_a_failure_not_a_loss() -> None:
    """No later try would work: the ears end and keep the reason."""
    error = AudioFileError("x.wav is empty", remedy="choose another")
    _, ears = listen(Scripted(error))
    assert ears.failure is error


def test_a_missing_library_is_a_failure_not_a_loss() -> None:
    """Waiting would not install it."""
    error = CaptureError("pyalsaaudio is missing", remedy="install it")
    _, ears = listen(Scripted(opens=(error,)))
    assert ears.failure is error


def test_five_hundred_losses_leak_nothing() -> None:
    """Loss and return, over and over: no thread, no gap unaccounted, no growth of the ring."""
    before = threading.active_count()
    script: list[str | float | Exception] = []
    for _ in range(500):
        script += ["overrun", "block"]
    source = Scripted(*script)
    source.read = _instant(source)  # type: ignore[method-assign] - the same script without its pauses
    ring = Ring()
    ears = Ears(source, ring, clock=SystemClock())
    ears.start()
    assert ears.join(10)
    assert ears.statistics().overruns == 500
    assert threading.active_count() == before


def _instant(source: Scripted) -> Callable[[float], Block | Overrun | None]:
    def read(timeout_s: float) -> Block | Overrun | None:
        if not source.script:
            raise EndOfAudio
        if source.script.pop(0) == "overrun":
            return Overrun()
        return Block(pcm=np.ones((FRAMES, 1), np.int16), start_ns=time.monotonic_ns())

    return read
