"""What the appliance tells of its sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent import config
from edge_agent.audio.cutter import Callbacks
from edge_agent.audio.recording import FileSource
from edge_agent.audio.segment import EndpointConfig
from edge_agent.audio.several import hearing
from edge_agent.clock import SystemClock
from edge_agent.describe import sound_gauges
from edge_agent.errors import ConfigError


def test_each_stream_has_its_level() -> None:
    """The first one's beside them, where it always was."""
    clock = SystemClock()
    _, cutter = hearing(
        [FileSource([Path("x")], clock=clock, channels=2)],
        clock=clock,
        config=EndpointConfig(),
        callbacks=Callbacks(on_utterance=lambda _one: None, on_gap=lambda _gap: None),
        use_channels=(0, 1),
    )
    told = sound_gauges(cutter)
    assert told["channels"] == [{"peak_dbfs": -120.0, "rms_dbfs": -120.0, "silent_s": 0.0}] * 2
    assert told["rms_dbfs"] == -120.0
    assert set(told) >= {"heard_s", "gap_s", "peak_dbfs", "silent_s", "listening"}


def test_gauges_may_come_faster_but_not_slower_than_promised() -> None:
    """A minute is the contract; a second while a microphone is set up."""
    assert config.load(None, []).mqtt.health_interval_s == 60
    assert config.load(None, ["mqtt.health_interval_s=1"]).mqtt.health_interval_s == 1
    with pytest.raises(ConfigError, match="health_interval_s"):
        config.load(None, ["mqtt.health_interval_s=600"])
