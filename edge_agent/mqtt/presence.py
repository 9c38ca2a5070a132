"""What the broker keeps about the device: status, info and health, told anew after each connect."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from edge_agent.clock import Clock
from edge_agent.mqtt import wire
from edge_agent.mqtt.client import Will
from edge_agent.mqtt.wire import Topics
from edge_agent.types import State


class Slot:
    """A retained message: what it should say, and whether the broker knows."""

    def __init__(self, topic: str, *, qos: int, expiry_s: int | None = None) -> None:
        self.topic, self.qos, self.expiry_s = topic, qos, expiry_s
        self.payload: bytes | None = None
        self.dirty = False


class Presence:
    """Thread-safe; the courier sends what `due` names."""

    def __init__(self, topics: Topics, *, clock: Clock, boot_id: str) -> None:
        self._clock, self._boot_id = clock, boot_id
        self._lock = threading.Lock()
        self._state: State = "online"
        self._since_utc_ms = clock.utc_ms()
        self.status = Slot(topics.status, qos=1)
        self._info = Slot(topics.info, qos=1)
        self._health = Slot(topics.health, qos=0, expiry_s=wire.HEALTH_EXPIRY_S)
        self._slots = [self.status, self._info, self._health]
        self.set_status("online", ())

    def set_status(self, state: State, reasons: Sequence[str]) -> None:
        """`since` moves when the state changes, not when only its reasons do."""
        with self._lock:
            if state != self._state:
                self._state, self._since_utc_ms = state, self._clock.utc_ms()
            self.status.payload = wire.encode_status(
                state=state, since_utc_ms=self._since_utc_ms, reasons=reasons, boot_id=self._boot_id
            )
            self.status.dirty = True

    def set_info(self, facts: Mapping[str, object]) -> None:
        """Facts that hold until the profile changes."""
        with self._lock:
            self._info.payload, self._info.dirty = wire.encode_info(facts), True

    def set_health(self, gauges: Mapping[str, object]) -> None:
        """Gauges of now."""
        with self._lock:
            self._health.payload, self._health.dirty = wire.encode_health(gauges), True

    def keep(self, topic: str, payload: bytes) -> None:
        """Any other retained message; the same topic again replaces it."""
        with self._lock:
            slot = next((slot for slot in self._slots if slot.topic == topic), None)
            if slot is None:
                slot = Slot(topic, qos=1)
                self._slots.append(slot)
            slot.payload, slot.dirty = payload, True

    def will(self) -> Will:
        """What the broker says for us when we vanish."""
        payload = wire.encode_status(
            state="offline",
            since_utc_ms=self._clock.utc_ms(),
            reasons=("connection lost",),
            boot_id=self._boot_id,
        )
        return Will(topic=self.status.topic, payload=payload)

    def reborn(self) -> None:
        """A new connection: the will of the old one may have overwritten what the broker knew."""
        with self._lock:
            for slot in self._slots:
                slot.dirty = slot.payload is not None

    def due(self) -> list[tuple[Slot, bytes]]:
        """What the broker has to be told; counts as told until `again`."""
        with self._lock:
            found = [(slot, slot.payload) for slot in self._slots if slot.dirty and slot.payload is not None]
            for slot, _ in found:
                slot.dirty = False
            return found

    def again(self, slot: Slot) -> None:
        """The broker was not told, or did not take it."""
        with self._lock:
            slot.dirty = True
