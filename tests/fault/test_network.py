"""Bad networks: what was committed arrives, dead links are noticed, and waiting costs nothing."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.outbox.store import Outbox
from tests.broker import Subscriber, wait_until
from tests.e2e.test_courier import CLOCK, connected, courier, final
from tests.fault.proxy import MOBILE, SATELLITE, Link, Proxy
from tests.fault.results import record


def seed() -> int:
    return int(os.environ.get("EDGE_AGENT_SEED", random.randrange(10**6)))


def deliver(
    tmp_path: Path,
    broker: PrivateBroker,
    link: Link,
    *,
    rows: int,
    live_s: float,
    chance: int,
    outages: int = 0,
) -> dict[str, object]:
    """Rows that waited and rows that come meanwhile, over that link; the books."""
    dice = random.Random(chance)
    outbox = Outbox(tmp_path / "outbox.sqlite3", clock=CLOCK)
    for _ in range(rows):
        final(outbox)
    began = time.monotonic()
    with (
        Subscriber(broker.port, topic="edge/dev/up/transcript/final") as subscriber,
        Proxy(broker.port, link, chance) as proxy,
        courier(proxy.url, outbox, keepalive_s=4, connect_timeout_s=5) as made,
    ):
        downs = sorted(dice.uniform(0, live_s) for _ in range(outages))
        while time.monotonic() - began < live_s:
            final(outbox)
            made.notify()
            if downs and time.monotonic() - began > downs[0]:
                downs.pop(0)
                proxy.state = dice.choice(("offline", "silent"))
                time.sleep(dice.uniform(0.5, 2.5))
                proxy.state = "open"
            time.sleep(0.2)
        wait_until(lambda: outbox.stats().queued == 0, 120, "all delivered")
        took_s = time.monotonic() - began
        wanted = set(range(1, outbox.last_seq + 1))
        wait_until(lambda: {m.body["seq"] for m in subscriber.heard} >= wanted, 20, "all received")
        received = [m.body["id"] for m in subscriber.heard]
        connects = made.statistics().connects
        resets = proxy.reset_connections
        made.stop(2.0)
    outbox.close()
    bodies: dict[str, set[bytes]] = {}
    for message in subscriber.heard:
        bodies.setdefault(message.body["id"], set()).add(message.payload)
    return {
        "committed": len(wanted),
        "missing": len(wanted) - len(bodies),
        "repeats": len(received) - len(bodies),
        "unequal repeats": sum(len(same) > 1 for same in bodies.values()),
        "connections": connects,
        "resets": resets,
        "seconds": round(took_s, 1),
    }


def assert_nothing_lost(figures: dict[str, object]) -> None:
    assert figures["missing"] == 0
    assert figures["unequal repeats"] == 0


def test_a_link_that_comes_and_goes_loses_nothing(tmp_path: Path, broker: PrivateBroker) -> None:
    """3G with outages, resets and silences, for some seconds."""
    chance = seed()
    figures = deliver(tmp_path, broker, MOBILE, rows=60, live_s=4, chance=chance, outages=2)
    print(f"\n  seed {chance}: {figures}")
    assert_nothing_lost(figures)


def test_a_half_open_link_is_noticed_in_time(tmp_path: Path, broker: PrivateBroker) -> None:
    """The other side falls silent without closing: gone after 1.5 keepalives, then found again."""
    outbox = Outbox(tmp_path / "outbox.sqlite3", clock=CLOCK)
    keepalive_s = 2
    with (
        Proxy(broker.port, Link("plain")) as proxy,
        courier(proxy.url, outbox, keepalive_s=keepalive_s, connect_timeout_s=1) as made,
    ):
        wait_until(connected(made))
        time.sleep(0.5)
        proxy.state = "silent"
        began = time.monotonic()
        wait_until(lambda: not made.statistics().connected, 10)
        noticed_s = time.monotonic() - began
        wait_until(lambda: "said nothing" in made.statistics().reason, 1, "the reason, a moment later")
        steps, spent = made.progress, time.process_time()
        time.sleep(2.5)
        # Accepted and never answered: each try takes its time-out, and the waits between them grow.
        assert made.progress - steps < 30
        assert time.process_time() - spent < 0.5
        proxy.state = "open"
        wait_until(connected(made), 20, "connected again")
    outbox.close()
    print(f"\n  noticed after {noticed_s:.1f} s with a keepalive of {keepalive_s} s")
    assert noticed_s <= 1.5 * keepalive_s + 1.2, "1.5 keepalives and a tick"


@pytest.mark.faults
def test_a_half_open_link_is_noticed_with_the_shipped_keepalive(
    tmp_path: Path, broker: PrivateBroker
) -> None:
    """Silence without an end, in the service's own time."""
    outbox = Outbox(tmp_path / "outbox.sqlite3", clock=CLOCK)
    keepalive_s = MqttSettings().keepalive_s
    with Proxy(broker.port, Link("plain")) as proxy, courier(proxy.url, outbox) as made:
        wait_until(connected(made), 30)
        proxy.state = "silent"
        began = time.monotonic()
        wait_until(lambda: not made.statistics().connected, 2 * keepalive_s + 10)
        noticed_s = time.monotonic() - began
        proxy.state = "open"
        wait_until(connected(made), 120, "connected again")
        back_s = time.monotonic() - began - noticed_s
    outbox.close()
    record(
        "half-open",
        "A link that is dead and does not say so",
        {
            "keepalive s": keepalive_s,
            "noticed after s": round(noticed_s, 1),
            "connected after the return, s": round(back_s, 1),
        },
    )
    assert noticed_s <= 1.5 * keepalive_s + 1.2


@pytest.mark.faults
@pytest.mark.parametrize("link", [SATELLITE, MOBILE], ids=lambda link: link.name)
def test_profiles_of_bad_networks_lose_nothing(tmp_path: Path, broker: PrivateBroker, link: Link) -> None:
    """Satellite and 3G, with offline windows, for half a minute each."""
    chance = seed()
    figures = deliver(tmp_path, broker, link, rows=300, live_s=30, chance=chance, outages=4)
    record(f"network-{link.name}", f"Network: {link.name}, with four outages", figures, seed=chance)
    assert_nothing_lost(figures)
