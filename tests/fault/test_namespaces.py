"""Azure's bad networks and worse, in a namespace of the kernel: an agent of its own on the other side."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock, uuid7
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.outbox.store import Outbox
from tests.broker import Subscriber, wait_until
from tests.fault.kills import CHILD, assert_nothing_lost, books_of, drain, end_child, let_begin, stored_in
from tests.fault.namespace import Namespace
from tests.fault.proxy import Link, Proxy
from tests.fault.results import record

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

LIVE_S = float(os.environ.get("EDGE_AGENT_NETWORK_S", "45"))
KEEPALIVE_S = 6
WAITING = 200
"""Finals that waited when the agent began."""


@dataclass(frozen=True)
class Profile:
    """A network: what it does all the time, and what it does now and then."""

    name: str
    link: Link
    loss: float = 0.0
    rate_kbit: int = 0
    troubles: tuple[str, ...] = ("partition", "reset", "unplug")


PROFILES = (
    Profile("offline", Link("offline"), troubles=("partition", "unplug", "partition")),
    Profile("satellite", Link("satellite", delay_s=0.6, jitter_s=0.05), loss=0.02),
    Profile("3G", Link("3G", delay_s=0.1, jitter_s=0.01), rate_kbit=2000),
    Profile("narrow", Link("narrow"), loss=0.01, rate_kbit=64),
    Profile("resets", Link("resets"), loss=0.05, troubles=("reset",) * 6),
)


def queue(path: Path, count: int) -> None:
    """Finals that nobody could take so far."""
    outbox = Outbox(path, clock=SystemClock())
    for _ in range(count):
        new = uuid7(SystemClock().utc_ms())
        outbox.append(
            id=new,
            kind="final",
            make_payload=lambda seq, new=new: b'{"id":"%s","seq":%d}' % (new.encode(), seq),
        )
    outbox.close()


def trouble(network: Namespace, kind: str, seconds: float) -> None:
    """One outage, and its end."""
    ends: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "partition": (network.partition, network.open),
        "reset": (network.reset, network.open),
        "unplug": (network.unplug, network.plug),
    }
    begin, end = ends[kind]
    begin()
    time.sleep(seconds)
    end()


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_no_network_loses_a_final(tmp_path: Path, broker: PrivateBroker, profile: Profile) -> None:
    """Finals of before and of meanwhile: all arrive, repeats are equal, and the numbers have no holes."""
    chance = int(os.environ.get("EDGE_AGENT_SEED", random.randrange(10**6)))
    dice = random.Random(chance)
    path = tmp_path / "outbox.sqlite3"
    queue(path, WAITING)
    committed: list[str] = []
    with (
        Namespace(loss=profile.loss, rate_kbit=profile.rate_kbit) as network,
        Proxy(broker.port, profile.link, chance, host=network.host) as proxy,
        Subscriber(broker.port, topic="edge/child/up/transcript/#") as subscriber,
    ):
        child = subprocess.Popen(
            network.command(sys.executable, str(CHILD), str(path), proxy.url, "0.2", str(KEEPALIVE_S)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        lines = child.stdout
        reader = threading.Thread(target=lambda: committed.extend(line.strip() for line in lines))
        reader.start()
        try:
            let_begin(child)
            wait_until(lambda: arrived(subscriber), 60, "the first final")
            down_s = endure(network, profile, dice)
            mended, wanted = time.monotonic(), set(committed)
            wait_until(lambda: wanted <= arrived(subscriber), 120, "what was said until now")
            caught_up_s = time.monotonic() - mended
            repeats = len(subscriber.heard) - len(arrived(subscriber))
            dropped = network.dropped()
        finally:
            end_child(child)
            reader.join(5)
        drain(broker, path)
        stored = stored_in(path)
        with contextlib.suppress(AssertionError):  # the verdict is in the books
            wait_until(lambda: len(arrived(subscriber)) >= len(stored), 10)
        books = books_of(committed, stored, subscriber)
    record(
        f"namespace-{profile.name}",
        f"Network in a namespace: {profile.name}",
        {
            "delay ms": round(profile.link.delay_s * 1000),
            "loss %": profile.loss * 100,
            "rate kbit/s": profile.rate_kbit or "as it is",
            "outages": ", ".join(profile.troubles),
            "seconds down": round(down_s),
            "packets dropped or reset": dropped,
            "connections": proxy.connections,
            "finals committed": books["committed"],
            "missing": books["missing"],
            "repeats": repeats,
            "unequal repeats": books["unequal"],
            "seq holes": books["seq_holes"],
            "seconds to catch up": round(caught_up_s, 1),
        },
        seed=chance,
    )
    assert_nothing_lost(books, chance)
    assert proxy.connections > ("reset" in profile.troubles), "it felt nothing of the troubles"


def endure(network: Namespace, profile: Profile, dice: random.Random) -> float:
    """Time with outages in it; the seconds of outage."""
    down_s = 0.0
    calm_s = LIVE_S / 2 / (len(profile.troubles) + 1)
    for kind in profile.troubles:
        time.sleep(calm_s * dice.uniform(0.5, 1.5))
        lasts_s = LIVE_S / 2 / len(profile.troubles) * dice.uniform(0.6, 1.2)
        trouble(network, kind, lasts_s)
        down_s += lasts_s
    time.sleep(calm_s)
    return down_s


def arrived(subscriber: Subscriber) -> set[str]:
    """Ids that the subscriber has."""
    return {message.body["id"] for message in list(subscriber.heard)}
