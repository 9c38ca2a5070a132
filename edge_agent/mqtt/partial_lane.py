"""Partials on their way: at once or never."""

from __future__ import annotations

import threading
from collections import deque

from edge_agent.mqtt import wire
from edge_agent.mqtt.client import Connection
from edge_agent.mqtt.queue import Counters

_HELD = 8


class PartialLane:
    """`put` from any thread; the rest belongs to the courier."""

    def __init__(self, topic: str, counters: Counters) -> None:
        self._topic, self._counters = topic, counters
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._open = False

    def put(self, payload: bytes) -> bool:
        """False: dropped, because there is no connection or the link is behind."""
        with self._lock:
            taken = self._open and len(self._waiting) < _HELD
            if taken:
                self._waiting.append(payload)
            else:
                self._counters.partials_dropped += 1
            return taken

    def connected(self, *, connected: bool) -> None:
        """There is a connection, or none any more."""
        with self._lock:
            self._open = connected
            self._waiting.clear()

    def send(self, connection: Connection, *, behind: bool) -> None:
        """Send what waits; drop it when the link is behind."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        for payload in waiting:
            if behind or not connection.fits(self._topic, payload):
                self._counters.partials_dropped += 1
            else:
                connection.publish(self._topic, payload, qos=0, expiry_s=wire.PARTIAL_EXPIRY_S)
                self._counters.partials_sent += 1
