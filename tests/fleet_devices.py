"""Many light devices in one thread: real MQTT clients, scripted engines, the real activation machine."""

from __future__ import annotations

import heapq
import json
import selectors
import threading
import time
from collections.abc import Callable, Iterable

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.fleet import activation
from edge_agent.fleet.activation import Activation
from edge_agent.fleet.bundle import Target
from edge_agent.mqtt import wire

_STEP_S = 0.2
"""From one phase to the next."""


class Device:
    """One of them. `fate`: good, bad (its trial fails), slow (serves late), rejects, or deaf (no answer)."""

    def __init__(self, fleet: Devices, name: str, fate: str) -> None:
        self.name, self.fate, self._fleet = name, fate, fleet
        self.topics = wire.Topics("edge", name)
        self.state, self.wanted, self.version = Activation(), None, 0
        self.changed_at: list[float] = []
        self.client = self.fresh()

    def fresh(self) -> paho.Client:
        """A connection of its own: what an old one had in flight must not overtake what is said now."""
        fleet = self._fleet
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=self.name, protocol=paho.MQTTv5)
        client.will_set(self.topics.status, self._status("offline"), qos=1, retain=True)
        client.on_connect, client.on_message = self._on_connect, self._on_message
        client.on_socket_open = lambda _c, _u, socket: fleet.opened(socket, self)
        client.on_socket_close = lambda _c, _u, socket: fleet.closed(socket, self)
        return client

    def _status(self, state: str) -> bytes:
        return wire.encode_status(state=state, since_utc_ms=0, reasons=(), boot_id="b")

    def _on_connect(self, client: paho.Client, *_: object) -> None:
        client.subscribe(self.topics.desired, options=SubscribeOptions(qos=1))
        client.publish(self.topics.status, self._status("online"), qos=1, retain=True)
        self.say()

    def say(self) -> None:
        facts = {"fleet": activation.report(self.state, self.wanted)}
        self.client.publish(self.topics.info, wire.encode_info(facts), qos=1, retain=True)
        served = self.state.current is not None
        late = 3 if self.fate == "slow" and served else 1
        rejected = {"silence": 50} if self.fate == "rejects" and served else {}
        recognition = {"finals": 100, "rejected": rejected, "latency_p95_ms": 500 * late}
        self.client.publish(self.topics.health, wire.encode_health({"recognition": recognition}), retain=True)

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        body = json.loads(message.payload)
        if body["version"] < self.version or self.fate == "deaf":
            return
        self.version, fleet = body["version"], body["desired"].get("fleet") or {}
        wanted = Target(name=fleet["model"], version=fleet["model_version"]) if fleet else None
        if wanted is not None and wanted != self.wanted:
            self.wanted = wanted
            self._take(activation.want(self.state, wanted))
            self._fleet.after(_STEP_S, self._rehearse)

    def _take(self, state: Activation) -> None:
        self.state = state
        self.changed_at.append(time.monotonic())
        self.say()

    def _rehearse(self) -> None:
        if self.state.phase == "staging":
            self._take(activation.try_out(activation.rehearse(self.state)))
            self._fleet.after(_STEP_S, self._end)

    def _end(self) -> None:
        if self.state.phase == "trial":
            bad = self.fate == "bad"
            self._take(
                activation.failed(self.state, "in its trial it was too slow", final=True)
                if bad
                else activation.passed(self.state)
            )


class Devices:
    """All of them, connected while the block lasts; a lost broker is tried again once a second."""

    def __init__(self, port: int, count: int, fate: Callable[[int], str] = lambda _n: "good") -> None:
        self._port, self._due, self._number = port, [], 0
        self._selector = selectors.DefaultSelector()
        self._open: set[Device] = set()
        self._stop = threading.Event()
        self.all = [Device(self, f"dev-{n:04}", fate(n)) for n in range(count)]
        self._thread = threading.Thread(target=self._run, name="devices")

    def __enter__(self) -> Devices:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, self._number, do))

    def with_model(self, target: Target) -> list[Device]:
        return [device for device in self.all if device.state.current == target]

    def touched(self) -> list[Device]:
        return [device for device in self.all if device.changed_at]

    def opened(self, socket: object, device: Device) -> None:
        self._selector.register(socket, selectors.EVENT_READ, device)
        self._open.add(device)

    def closed(self, socket: object, device: Device) -> None:
        self._selector.unregister(socket)
        self._open.discard(device)

    def _run(self) -> None:
        misc_at = 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= misc_at:
                misc_at = now + 1.0
                self._connect()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            self._write(self.all)
            for key, _ in self._selector.select(0.05):
                key.data.client.loop_read(100)
        for device in self.all:
            device.client.disconnect()
            device.client.loop_write()
        self._selector.close()

    def _connect(self) -> None:
        for device in self.all:
            if device in self._open:
                device.client.loop_misc()
                continue
            device.client = device.fresh()
            try:
                device.client.connect("127.0.0.1", self._port, keepalive=60)
            except OSError:
                return  # no broker: all of them again in a second

    def _write(self, devices: Iterable[Device]) -> None:
        for device in devices:
            if device.client.want_write():
                device.client.loop_write()
