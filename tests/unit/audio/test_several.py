"""Several devices heard side by side: channels numbered on, one heartbeat, the worst state told."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.audio.cutter import Callbacks
from edge_agent.audio.recording import FileSource
from edge_agent.audio.segment import EndpointConfig
from edge_agent.audio.several import _Together, hearing
from edge_agent.clock import SystemClock
from edge_agent.types import Utterance
from tests.corpus import clips


def test_each_device_has_channels_of_its_own() -> None:
    """Two recordings played side by side come out whole, as channels 0 and 1, both counted."""
    clock, found = SystemClock(), list[Utterance]()
    chosen = [clip for clip in clips(language="en") if 2.0 < clip.duration_s < 4.0][:2]
    ears, cutter = hearing(
        [FileSource([clip.path], clock=clock, gap_s=1.0, paced=False) for clip in chosen],
        clock=clock,
        config=EndpointConfig(),
        callbacks=Callbacks(on_utterance=found.append, on_gap=lambda _gap: None),
        use_channels=(0,),
    )
    assert list(cutter.channels) == [0, 1]
    cutter.start()
    ears.start()
    assert ears.join(30)
    assert cutter.join(30)
    assert ears.failure is cutter.failure is None
    assert sorted(one.channel for one in found) == [0, 1]
    for one in found:
        assert abs(one.duration_s - chosen[one.channel].duration_s) < 1.5
    assert cutter.statistics().utterances == 2
    assert len(cutter.statistics().probe_ms) == 2
    assert cutter.snapshot(1) is None


def test_the_device_that_is_worst_off_is_named(tmp_path: Path) -> None:
    """With several devices a reason says of which."""
    ears, _ = hearing(
        [FileSource([tmp_path / name], clock=SystemClock()) for name in ("a.wav", "b.wav")],
        clock=SystemClock(),
        config=EndpointConfig(),
        callbacks=Callbacks(on_utterance=lambda _one: None, on_gap=lambda _gap: None),
        use_channels=(0,),
    )
    ears.start()
    assert ears.join(10)
    assert ears.failure is not None
    assert len(ears.each()) == 2


class Beating:
    """A thread that moves when told."""

    alive = True
    progress = 0


def test_one_thread_that_hangs_stops_the_heartbeat() -> None:
    """However busy the others are; one that has ended is not waited for."""
    one, other = Beating(), Beating()
    together = _Together([one, other])
    first = together.beats()
    for _ in range(5):
        one.progress += 1
        assert together.beats() == first
    other.progress += 1
    assert together.beats() == first + 1
    other.alive = False
    one.progress += 1
    assert together.beats() == first + 2


@pytest.mark.parametrize("devices", [1, 3])
def test_several_streams_of_each_device(devices: int) -> None:
    """Two used channels of three devices are six streams."""
    clock = SystemClock()
    _, cutter = hearing(
        [FileSource([Path("x")], clock=clock, channels=2) for _ in range(devices)],
        clock=clock,
        config=EndpointConfig(),
        callbacks=Callbacks(on_utterance=lambda _one: None, on_gap=lambda _gap: None),
        use_channels=(0, 1),
    )
    assert len(cutter.channels) == 2 * devices
    assert [cutter.snapshot(channel) for channel in cutter.channels] == [None] * (2 * devices)
    assert cutter.level(2 * devices - 1).peak_dbfs <= 0
