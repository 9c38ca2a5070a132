"""Alive without ears: while recognition cannot be opened, or ended too often, the broker is told why.

The outbox is still delivered meanwhile, so nothing that was heard before waits for the repair.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from edge_agent.clock import Clock, uuid7
from edge_agent.mqtt import wire
from edge_agent.mqtt.publisher import Courier
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.outbox.store import Outbox

_PING_S = 1.0


def hold(
    settings: MqttSettings,
    topics: wire.Topics,
    state_dir: Path,
    *,
    clock: Clock,
    reason: str,
    seconds: float,
    stop: threading.Event,
    ping: Callable[[str], object],
    attempt: Callable[[], str] | None = None,
) -> None:
    """Say `degraded` with the reason until it is over, or until `stop` is set.

    Args:
        settings: the broker.
        topics: of this device.
        state_dir: where the outbox is.
        clock: both times.
        reason: for `up/status`.
        seconds: how long; with `attempt`, how long between two.
        stop: ends it at once.
        ping: called every second with the reason of now.
        attempt: tries to mend it; answers why it cannot, "" when it is mended and over.
    """
    outbox = Outbox(state_dir / "outbox.sqlite3", clock=clock)
    courier = Courier(settings, topics, outbox, clock=clock, boot_id=uuid7(clock.utc_ms()))
    courier.set_status("degraded", (reason,))
    courier.start()
    try:
        due_ns = clock.monotonic_ns() + int(seconds * 1e9)
        while not stop.wait(_PING_S):
            ping(reason)
            if clock.monotonic_ns() < due_ns:
                continue
            why = attempt() if attempt is not None else ""
            if not why:
                return
            if why != reason:
                reason = why
                courier.set_status("degraded", (reason,))
            due_ns = clock.monotonic_ns() + int(seconds * 1e9)
    finally:
        courier.stop(2.0)
        outbox.close()
