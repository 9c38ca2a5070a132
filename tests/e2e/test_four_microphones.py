"""Four people at four microphones talk at the same time to one engine."""

from __future__ import annotations

from pathlib import Path

from edge_agent import config as configuration
from edge_agent.app import Agent
from edge_agent.audio.recording import FileSource
from edge_agent.clock import SystemClock
from edge_agent.meaning import wish_of
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.opening import open_recogniser
from edge_agent.verbs.common import models_dir
from tests.benchmarks.score import errors
from tests.broker import Subscriber, wait_until
from tests.corpus import clips


def test_each_is_heard_on_a_channel_of_his_own(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """Every sentence ends in a final of its channel with its words; `health` tells each stream's delay."""
    chosen = [clip for clip in clips(set="en_read_kathleen") if 1.8 < clip.duration_s < 3.0][:4]
    clock = SystemClock()
    config = configuration.with_broker(configuration.load(None, []), broker.url, "box")
    opened = open_recogniser(wish_of(config, models_dir()))
    sources = [FileSource([clip.path], clock=clock, gap_s=1.0) for clip in chosen]
    agent = Agent(
        config,
        device_id="box",
        recogniser=opened,
        source=sources[0],
        more_sources=sources[1:],
        state_dir=tmp_path,
        report_path=None,
        clock=clock,
    )
    agent.start()
    try:
        wait_until(lambda: agent.tick() is not None and agent.ended, 60, "the end of the recordings")
        assert agent.wait_delivered(30)
        told = agent.health()["recognition"]
    finally:
        agent.stop()
        opened.engine.close()
    assert agent.failure is None
    assert isinstance(told, dict)
    assert [one["channel"] for one in told["streams"]] == [0, 1, 2, 3]
    assert all(one["finals"] >= 1 and one["latency_p95_ms"] > 0 for one in told["streams"])
    wait_until(lambda: len(subscriber.on("/final")) >= told["finals"], 20, "all finals")
    finals = [one.body for one in subscriber.on("/transcript/final")]
    assert not subscriber.on("/gap")
    for channel, clip in enumerate(chosen):
        text = " ".join(one["text"] for one in finals if one["channel"] == channel)
        assert errors(clip.text, text, "en").rate < 0.3, (channel, text)
