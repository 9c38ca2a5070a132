"""The fleet's side in tests: sends commands and desired configuration, remembers what came back."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from types import TracebackType

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.clock import uuid7
from edge_agent.mqtt.contract import validate
from tests.broker import Heard, wait_until


def stamp(seconds_from_now: float = 0) -> str:
    """RFC 3339."""
    return (datetime.now(UTC) + timedelta(seconds=seconds_from_now)).isoformat().replace("+00:00", "Z")


def command(kind: str, args: dict | None = None, *, life_s: float = 60, **other: object) -> dict:
    """A command that is good for a minute."""
    return {
        "schema": "command/1",
        "command_id": uuid7(time.time_ns() // 1_000_000),
        "type": kind,
        "args": args or {},
        "issued_at": stamp(min(0.0, life_s - 1)),
        "expires_at": stamp(life_s),
        **other,
    }


class Commander:
    """One fleet client on a port of this machine."""

    def __init__(self, port: int, device: str = "box") -> None:
        self.device, self.heard = device, []
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="fleet", protocol=paho.MQTTv5)
        self._client.on_connect = lambda c, *_: c.subscribe(
            [("edge/#", _at_1()), ("fleet/#", _at_1()), ("hermes/#", _at_1()), ("homeassistant/#", _at_1())]
        )
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Commander:
        self._client.loop_start()
        assert self._ready.wait(5)
        return self

    def __exit__(
        self, k: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        heard = Heard(
            message.topic, bytes(message.payload), bool(message.retain), message.qos, time.monotonic()
        )
        heard.properties = message.properties
        self.heard.append(heard)

    def send(
        self,
        body: dict | bytes,
        *,
        retain: bool = False,
        response_topic: str = "",
        correlation: bytes = b"",
        topic: str = "",
    ) -> str:
        """Publish a command; answers its id."""
        properties = Properties(PacketTypes.PUBLISH)
        if response_topic:
            properties.ResponseTopic, properties.CorrelationData = response_topic, correlation
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._client.publish(
            topic or f"edge/{self.device}/down/command", payload, qos=1, retain=retain, properties=properties
        ).wait_for_publish(5)
        return "" if isinstance(body, bytes) else str(body.get("command_id"))

    def desire(self, version: int, desired: dict) -> None:
        """Publish a desired configuration."""
        body = json.dumps({"version": version, "desired": desired}).encode()
        self.send(body, topic=f"edge/{self.device}/down/config", retain=True)

    def on(self, suffix: str) -> list[Heard]:
        """Messages whose topic ends so."""
        return [message for message in list(self.heard) if message.topic.endswith(suffix)]

    def answers(self, command_id: str, topic: str = "/up/answer") -> list[dict]:
        """What was answered to a command so far, each held against its schema."""
        found = [message for message in self.on(topic) if message.body["command_id"] == command_id]
        for message in found:
            validate("answer", message.payload)
        return [message.body for message in found]

    def ask(self, kind: str, args: dict | None = None, *, timeout_s: float = 10, **how: object) -> dict:
        """Send a command and wait for its last answer."""
        command_id = self.send(command(kind, args), **how)
        return self.last(command_id, timeout_s)

    def last(self, command_id: str, timeout_s: float = 10) -> dict:
        """The final answer to a command."""
        wait_until(
            lambda: any(a["state"] in {"done", "refused", "expired"} for a in self.answers(command_id)),
            timeout_s,
            f"the last answer to {command_id}",
        )
        return self.answers(command_id)[-1]

    def config(self) -> dict:
        """The newest `up/config`."""
        newest = self.on(f"{self.device}/up/config")[-1]
        validate("config", newest.payload)
        return newest.body

    def state(self) -> str:
        """The newest state in `up/status`."""
        return str(self.on(f"{self.device}/up/status")[-1].body["state"])


def _at_1() -> object:
    from paho.mqtt.subscribeoptions import SubscribeOptions

    return SubscribeOptions(qos=1)
