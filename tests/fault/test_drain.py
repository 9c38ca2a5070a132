"""A day without a broker, then one: the backlog drains, and what is said meanwhile does not wait for it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from edge_agent.clock import SystemClock, uuid7
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.outbox.database import Database
from edge_agent.outbox.rows import Row
from tests.broker import Heard, Subscriber, wait_until
from tests.fault.kills import end_child, start_child
from tests.fault.results import record

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

WAITING = int(os.environ.get("EDGE_AGENT_BACKLOG", "28800"))
"""A final every three seconds for a day."""
ENDPOINT_MS = 600
"""endpoint.silence_ms: a final is due so long after its last word at the earliest; hand-over comes on top."""
PAUSE_S = 0.25
DRAINED_S = 60.0


def fill(path: Path, count: int) -> None:
    """Queue many finals in one commit, as an outage would one by one."""
    now = SystemClock().utc_ms()
    body = b'{"seq":%d,"pad":"' + b"x" * 600 + b'"}'
    database = Database(path)
    with database.transaction():
        database.insert(
            [
                Row(seq=seq, id=uuid7(now), kind="final", payload=body % seq, created_utc_ms=now)
                for seq in range(1, count + 1)
            ]
        )
        database.set_last_seq(count)
    database.close()


def handover_ms(messages: list[Heard]) -> np.ndarray:
    """From just before the commit, which its id tells, to the subscriber, for each final said live."""
    offset_s = time.time() - time.monotonic()
    return np.array(
        [(m.at + offset_s) * 1000 - (UUID(m.body["id"]).int >> 80) for m in messages if "id" in m.body]
    )


def test_a_day_of_finals_drains_within_a_minute(tmp_path: Path) -> None:
    """An agent in a process of its own commits four finals a second while 28,800 are waiting."""
    normal = live_finals(tmp_path / "normal.sqlite3", waiting=0)[1]
    took_s, busy = live_finals(tmp_path / "day.sqlite3", waiting=WAITING)
    normal_ms, busy_ms = np.median(normal), np.percentile(busy, [50, 95, 100])
    ratio = (ENDPOINT_MS + busy_ms[1]) / (ENDPOINT_MS + normal_ms)
    record(
        "drain",
        "A day of finals after an outage",
        {
            "finals waiting": WAITING,
            "drained after s": round(took_s, 1),
            "live finals meanwhile": len(busy),
            "hand-over normally, p50 ms": round(float(normal_ms), 1),
            "hand-over meanwhile, p50 ms": round(float(busy_ms[0]), 1),
            "p95 ms": round(float(busy_ms[1]), 1),
            "max ms": round(float(busy_ms[2]), 1),
            "delay from the last word, p95 meanwhile / p50 normally": round(float(ratio), 2),
        },
    )
    assert took_s <= DRAINED_S
    assert ratio <= 2


def live_finals(path: Path, *, waiting: int) -> tuple[float, np.ndarray]:
    """Seconds until what waited was there (at least 3), and the hand-over of what was said meanwhile."""
    if waiting:
        fill(path, waiting)
    with (
        PrivateBroker() as broker,
        Subscriber(broker.port, topic="edge/child/up/transcript/final") as subscriber,
    ):
        child = start_child(path, broker.url, PAUSE_S)
        assert child.stdout is not None
        reader = threading.Thread(target=child.stdout.read)  # or it would wait for room in the pipe
        reader.start()
        began = time.monotonic()
        try:
            wait_until(
                lambda: len(subscriber.heard) > waiting + 10 and backlog(subscriber, waiting) >= waiting,
                300,
                "the backlog",
            )
            last = max((m.at for m in subscriber.heard if "id" not in m.body), default=began)
            time.sleep(max(0.0, 3.0 - (time.monotonic() - began)))
        finally:
            child.kill()
            reader.join(10)
            end_child(child)
    came = [m for m in subscriber.heard if not waiting or m.at <= last]
    return last - began, handover_ms(came)


def backlog(subscriber: Subscriber, waiting: int) -> int:
    """Different finals of before that arrived."""
    if len(subscriber.heard) < waiting:
        return 0
    return len({m.body["seq"] for m in list(subscriber.heard) if "id" not in m.body})
