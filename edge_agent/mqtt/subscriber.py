"""A subscriber in a thread of its own, as any consumer would be one; for the demo and for measurements."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec

from edge_agent.mqtt.client import Connection, Lost, Message
from edge_agent.mqtt.settings import MqttSettings

_SETTLE_S = 0.2
_ROUND_S = 0.1


class Subscriber:
    """Receives from `__enter__` to `__exit__`, in the thread `subscriber`.

    Args:
        url: the broker.
        topics: a topic filter.
        on_message: called with topic and decoded body in the subscriber's thread.
    """

    def __init__(self, url: str, topics: str, on_message: Callable[[str, Any], None]) -> None:
        # An id of its own each time: two clients with one id would throw each other out.
        self._connection = Connection(MqttSettings(url=url), client_id=f"subscriber-{os.urandom(4).hex()}")
        self._topics, self._on_message = topics, on_message
        self._seqs: set[int] = set()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="subscriber", daemon=True)

    def __enter__(self) -> Self:
        self._connection.connect()
        self._connection.subscribe(self._topics)
        self._connection.service(_SETTLE_S)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(2)
        self._connection.disconnect()

    def wait_for_seq(self, last: int, timeout_s: float) -> bool:
        """Wait until every number from 1 to `last` has been received."""
        with self._changed:
            return self._changed.wait_for(lambda: self._seqs.issuperset(range(1, last + 1)), timeout_s)

    def _receive(self) -> None:
        while not self._stopping.is_set():
            for event in self._connection.service(_ROUND_S):
                if isinstance(event, Message):
                    body = msgspec.json.decode(event.payload)
                    self._on_message(event.topic, body)
                    with self._changed:
                        self._seqs.add(body.get("seq", 0))
                        self._changed.notify_all()
                elif isinstance(event, Lost):
                    return
