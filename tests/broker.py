"""Fixtures: a real broker, and a subscriber that remembers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.mqtt import contract, wire
from edge_agent.mqtt.private_broker import PrivateBroker


@dataclass
class Heard:
    """One message as a subscriber got it."""

    topic: str
    payload: bytes
    retain: bool
    qos: int
    at: float

    @cached_property
    def body(self) -> dict:
        return json.loads(self.payload)


@dataclass
class Subscriber:
    """An independent subscriber with a durable session, so that it survives broker restarts without loss."""

    port: int
    topic: str = "edge/#"
    client_id: str = "subscriber"
    heard: list[Heard] = field(default_factory=list)

    def __enter__(self) -> Subscriber:
        self._ready = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=self.client_id, protocol=paho.MQTTv5)
        client.reconnect_delay_set(min_delay=1, max_delay=1)
        client.on_connect = lambda c, *_: c.subscribe(self.topic, qos=1)
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_message = lambda _c, _u, m: self.heard.append(
            Heard(m.topic, bytes(m.payload), bool(m.retain), m.qos, time.monotonic())
        )
        session = Properties(PacketTypes.CONNECT)
        # "Never": mosquitto 2.0 takes any other value as expired after a crash with the session connected.
        session.SessionExpiryInterval = 0xFFFFFFFF
        client.connect("127.0.0.1", self.port, clean_start=False, properties=session)
        client.loop_start()
        self._client = client
        assert self._ready.wait(5), "the subscriber got no answer"
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        if kind is None:
            self.hold_against_contract()

    def hold_against_contract(self) -> None:
        """Every payload that calls itself by a schema keeps to it: whatever a test makes an agent say.

        Placeholders of tests name no schema.
        """
        for message in self.heard:
            found = wire.parse_topic(message.topic.partition("/")[0], message.topic)
            if found is not None and '"schema"' in message.payload.decode("utf-8", "replace"):
                contract.validate(found[1], message.payload)

    def on(self, suffix: str) -> list[Heard]:
        """Messages whose topic ends so."""
        return [m for m in list(self.heard) if m.topic.endswith(suffix)]


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0, what: str = "") -> None:
    """Wait for a condition; fail with `what` when it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what or condition}"
        time.sleep(0.01)


@pytest.fixture
def broker() -> Iterator[PrivateBroker]:
    """A running mosquitto that loses nothing it acknowledged; tests may kill and restart it."""
    with PrivateBroker() as running:
        yield running


@pytest.fixture
def subscriber(broker: PrivateBroker) -> Iterator[Subscriber]:
    """A subscriber to everything under edge/."""
    with Subscriber(broker.port) as listening:
        yield listening
