"""Bridges on a real broker: nothing is lost to them, and they hold up nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.config import Config, with_values
from edge_agent.mqtt import wire
from edge_agent.mqtt.aside import HELD_POSTS, Aside, Post
from edge_agent.mqtt.bridges.make import bridges
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.mqtt.publisher import Courier
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.outbox.store import Outbox
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess
from tests.e2e.commander import Commander
from tests.e2e.test_courier import final

SAMPLES = Path(__file__).resolve().parents[2] / "edge_agent/samples"
WORDS = "Let us talk it over and find a way out."
ALL_ON = {"bridges.hermes": True, "bridges.home_assistant": True, "bridges.plain": True}
TOPICS = wire.Topics("edge", "dev")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """An empty outbox."""
    made = Outbox(tmp_path / "state/outbox.sqlite3", clock=SystemClock())
    yield made
    made.close()


def bridged(url: str, outbox: Outbox) -> tuple[Courier, Aside]:
    """A courier that speaks Hermes and plain text beside the contract."""
    spoken = bridges(with_values(Config(), ALL_ON, "test"), TOPICS, ())
    aside = Aside((TOPICS.command, *spoken.filters), make_posts=spoken.posts)
    settings = MqttSettings(url=url)
    return Courier(settings, TOPICS, outbox, clock=SystemClock(), boot_id="b", aside=aside), aside


def test_finals_said_while_the_broker_was_away_reach_the_bridges(
    broker: PrivateBroker, outbox: Outbox
) -> None:
    """All of them, in order, with the rows; also when the broker is killed in the middle."""
    with Subscriber(broker.port, topic="#") as everything:
        broker.stop()  # politely: a subscription of this moment is not on its disk yet
        courier, _ = bridged(broker.url, outbox)
        courier.start()
        for number in range(200):
            final(outbox, f"sentence {number}")
        broker.start()
        wait_until(lambda: len(everything.on("/up/text")) > 20, 20)
        broker.restart()
        wait_until(lambda: outbox.stats().queued == 0, 60, "all rows delivered")
        expected = [f"sentence {number}" for number in range(200)]
        wait_until(lambda: len({m.payload for m in everything.on("/up/text")}) == 200, 20)
        wait_until(lambda: len({m.payload for m in everything.on("textCaptured")}) >= 200, 20)
        assert courier.stop(3.0)
    assert list(dict.fromkeys(m.payload.decode() for m in everything.on("/up/text"))) == expected
    assert list(dict.fromkeys(m.body["text"] for m in everything.on("textCaptured"))) == expected


def test_a_bridge_topic_that_is_denied_holds_up_nothing(outbox: Outbox, tmp_path: Path) -> None:
    """Its refusal is counted and said; rows count as delivered without it."""
    acl = tmp_path / "acl"
    acl.write_text("topic write edge/dev/up/#\ntopic read edge/#\n")
    with PrivateBroker(config=(f"acl_file {acl}",)) as broker:
        courier, aside = bridged(broker.url, outbox)
        courier.start()
        for number in range(50):
            final(outbox, f"sentence {number}")
        courier.notify()
        wait_until(lambda: outbox.stats().delivered == 50, 15)
        assert aside.statistics().denied >= 50
        assert courier.stop(3.0)


def test_a_small_receive_maximum_is_kept_with_bridges_too(outbox: Outbox) -> None:
    """One unacknowledged message at a time, three for each final, and none is starved."""
    with PrivateBroker(config=("max_inflight_messages 1",)) as broker:
        courier, aside = bridged(broker.url, outbox)
        courier.start()
        for number in range(30):
            final(outbox, f"sentence {number}")
        courier.notify()
        wait_until(lambda: outbox.stats().delivered == 30, 20)
        assert aside.statistics().sent >= 60
        assert courier.statistics().failures_in_a_row == 0
        courier.stop(3.0)


def test_a_flood_of_answers_delays_no_final(broker: PrivateBroker, outbox: Outbox) -> None:
    """Answers are bounded and yield: a final said among thousands of them is not late."""
    with Subscriber(broker.port) as listening:
        courier, aside = bridged(broker.url, outbox)
        courier.start()
        wait_until(lambda: courier.statistics().connected, 5)
        delays = []
        for number in range(20):
            for _ in range(HELD_POSTS + 50):
                aside.put(Post(topic=TOPICS.answer, payload=b"{}"))
            began = time.monotonic()
            final(outbox, f"s{number}")
            courier.notify()
            wait_until(lambda: len(listening.on("/final")) > number, 5)  # noqa: B023 - called in this round
            delays.append(listening.on("/final")[-1].at - began)
        courier.stop(3.0)
    delays.sort()
    print(f"\nfinal among answers: median {delays[10] * 1000:.0f} ms, worst {delays[-1] * 1000:.0f} ms")
    assert aside.statistics().dropped > 0
    assert delays[10] < 0.1


def test_a_flood_of_commands_is_dropped_not_hoarded(broker: PrivateBroker, outbox: Outbox) -> None:
    """A few a second are looked at; what is dropped is counted, and finals go on meanwhile."""
    courier, aside = bridged(broker.url, outbox)
    courier.start()
    wait_until(lambda: courier.statistics().connected, 5)
    time.sleep(0.2)
    with Commander(broker.port, "dev") as attacker:
        for _ in range(600):
            attacker._client.publish("edge/dev/down/command", b"x" * 2000, qos=1)
        for number in range(10):
            final(outbox, f"s{number}")
            courier.notify()
        wait_until(lambda: outbox.stats().delivered == 10, 15)
        wait_until(lambda: aside.statistics().received_dropped > 100, 15)
    assert len(aside.take()) <= 64
    assert courier.stop(3.0)


def test_the_agent_speaks_all_three(tmp_path: Path, broker: PrivateBroker) -> None:
    """The real service: words on each bridge, discovery retained, toggles honoured, re-announced at birth."""
    source = f"file:{SAMPLES / 'find_a_way_out.flac'}?loop=1"
    config = [
        f'mqtt.url="{broker.url}"',
        'device.id="box"',
        'device.site="default"',
        f'audio.source="{source}"',
    ]
    config += [f"bridges.{name}=true" for name in ("hermes", "home_assistant", "plain")]
    with Commander(broker.port) as others, AgentProcess(tmp_path / "state", *config) as box:
        wait_until(lambda: others.on("hermes/asr/textCaptured") and others.on("/up/text"), 40, box.log_path)
        captured = others.on("hermes/asr/textCaptured")[0].body
        assert (captured["text"], captured["siteId"]) == (WORDS, "default")
        assert [token["value"] for token in captured["asrTokens"][0]] == WORDS.split()
        spoken = others.on("/up/text")[0]
        assert (spoken.payload.decode(), spoken.properties.ContentType) == (WORDS, "text/plain")
        with Subscriber(broker.port, topic="homeassistant/#", client_id="newcomer") as newcomer:
            wait_until(lambda: newcomer.heard, 5)
            assert newcomer.heard[0].retain
        before = len(others.on("homeassistant/device/box/config"))
        others.send(b"online", topic="homeassistant/status")
        wait_until(lambda: len(others.on("homeassistant/device/box/config")) > before, 5, "announced again")

        others.send(json.dumps({"siteId": "default"}).encode(), topic="hermes/asr/toggleOff")
        wait_until(lambda: others.state() == "muted", 5)
        others.send(json.dumps({"siteId": "default"}).encode(), topic="hermes/asr/toggleOn")
        wait_until(lambda: others.state() == "online", 5)
        others.send(b"ON", topic="edge/box/down/home_assistant/mute")
        wait_until(lambda: others.state() == "muted", 5)
        others.send(b"OFF", topic="edge/box/down/home_assistant/mute")
        wait_until(lambda: others.state() == "online", 5)
        assert not [m for m in others.heard if "audio" in m.topic]
