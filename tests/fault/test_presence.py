"""What the broker says of a device is so: killed, stopped, unplugged, back. And what it lost comes again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.outbox.store import Outbox
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess, edge_agent
from tests.e2e.test_courier import connected, courier, final
from tests.e2e.test_run import looped, settings
from tests.fault.kills import CHILD, end_child, let_begin
from tests.fault.namespace import Namespace
from tests.fault.proxy import Link, Proxy
from tests.fault.results import record

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

KILL_S, CABLE_S = 2.0, 45.0
KEEPALIVE_S = MqttSettings().keepalive_s
"""As shipped: the broker waits one and a half of them."""


def said(subscriber: Subscriber) -> str:
    """The newest status."""
    heard = subscriber.on("/up/status")
    return str(heard[-1].body["state"]) if heard else ""


def seconds_until(subscriber: Subscriber, state: str, limit_s: float) -> float:
    """How long it took until the broker said so."""
    began = time.monotonic()
    wait_until(lambda: said(subscriber) == state, limit_s, state)
    return time.monotonic() - began


def test_the_status_is_true(tmp_path: Path) -> None:
    """Killed: offline at once; the broker restarted: online again; stopped: stopped."""
    with PrivateBroker() as broker, Subscriber(broker.port) as subscriber:
        box = AgentProcess(tmp_path / "state", *settings(broker, looped()))
        figures: dict[str, object] = {}
        with box:
            figures["online after the start, s"] = round(seconds_until(subscriber, "online", 90), 1)
            box.kill()
            killed_s = seconds_until(subscriber, "offline", 30)
            figures["offline after kill -9, s"] = round(killed_s, 2)
            box.start()
            seconds_until(subscriber, "online", 90)
            seen = len(subscriber.on("/up/status"))
            broker.restart()
            began = time.monotonic()
            wait_until(
                lambda: [m for m in subscriber.on("/up/status")[seen:] if m.body["state"] == "online"], 60
            )
            figures["online after a restart of the broker, s"] = round(time.monotonic() - began, 1)
            box.terminate(30)
            figures["stopped after a clean end, s"] = round(seconds_until(subscriber, "stopped", 30), 2)
    record("presence", "Presence of the service", figures)
    assert killed_s <= KILL_S


def test_a_pulled_cable_is_noticed_on_both_sides(tmp_path: Path, broker: PrivateBroker) -> None:
    """The interface goes down without a word: offline in time, and online after the return."""
    with (
        Namespace() as network,
        Proxy(broker.port, Link("plain"), host=network.host) as proxy,
        Subscriber(broker.port) as subscriber,
    ):
        command = [sys.executable, str(CHILD), str(tmp_path / "o.sqlite3"), proxy.url, "1", str(KEEPALIVE_S)]
        child = subprocess.Popen(
            network.command(*command), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        try:
            let_begin(child)
            wait_until(lambda: said(subscriber) == "online", 60, "online")
            network.unplug()
            offline_s = seconds_until(subscriber, "offline", 90)
            time.sleep(2)
            network.plug()
            online_s = seconds_until(subscriber, "online", 90)
        finally:
            end_child(child)
    record(
        "cable",
        "Presence: the cable pulled, with the shipped keepalive",
        {"offline after s": round(offline_s, 1), "online after the return, s": round(online_s, 1)},
    )
    assert offline_s <= CABLE_S


def test_a_broker_that_lost_everything_is_made_good(tmp_path: Path) -> None:
    """All rows of the last 72 hours go out again by their numbers: the same ids, the same bytes."""
    count = int(os.environ.get("EDGE_AGENT_REPLAY", "2000"))
    path = tmp_path / "state/outbox.sqlite3"
    outbox = Outbox(path, clock=SystemClock())
    heard: list[dict[str, bytes]] = []
    for again in (False, True):
        with (
            PrivateBroker() as broker,
            Subscriber(broker.port) as subscriber,
            courier(broker.url, outbox) as made,
        ):
            wait_until(connected(made), 30)
            if again:
                done = edge_agent("outbox", "replay", "--from-seq", "1", EDGE_AGENT_STATE=str(path.parent))
                assert done.returncode == 0, done.stderr
            else:
                for _ in range(count):
                    final(outbox)
            made.notify()
            wait_until(lambda: len(subscriber.on("/final")) >= count, 120, "all of them")
            wait_until(lambda: outbox.stats().queued == 0, 60)
            heard.append({m.body["id"]: m.payload for m in subscriber.on("/final")})
    outbox.close()
    same = sum(heard[1].get(name) == body for name, body in heard[0].items())
    record(
        "replay",
        "A broker that lost everything, made good by a replay",
        {"finals": count, "back again": len(heard[1]), "with the same bytes": same},
    )
    assert same == count
