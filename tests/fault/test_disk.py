"""The service on a disk that fills up, turns read-only or rots: the ears never stop, and it heals alone."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.outbox.store import Outbox
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess
from tests.e2e.test_run import looped, settings
from tests.fault.results import record
from tests.unit.outbox.test_faults import CLOCK, _fill, _filled, _flip, add, drain, remount, small_disk

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

RECOVERED_S = 5.0
ALARM = "transcripts wait in memory"
HEALED = "the outbox is on disk again"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system for the state."""
    with small_disk(tmp_path / "disk", "6m") as folder:
        yield folder


def hears(subscriber: Subscriber, finals: int, limit_s: float = 90) -> None:
    """So many finals from now on."""
    wanted = len(subscriber.on("/transcript/final")) + finals
    wait_until(lambda: len(subscriber.on("/transcript/final")) >= wanted, limit_s, "it still hears")


def admits(subscriber: Subscriber) -> bool:
    """The newest status is degraded because of the outbox."""
    newest = subscriber.on("/up/status")[-1].body
    return newest["state"] == "degraded" and any(why.startswith("outbox") for why in newest["reasons"])


def whole(subscriber: Subscriber) -> bool:
    """No number is missing below the highest."""
    seqs = {m.body["seq"] for m in subscriber.on("/transcript/final") + subscriber.on("/gap")}
    return seqs == set(range(1, max(seqs, default=0) + 1))


def trouble(
    box: AgentProcess, subscriber: Subscriber, name: str, begin: Callable[[], None], end: Callable[[], None]
) -> None:
    """Break the disk, hear on, mend it, and measure."""
    hears(subscriber, 1)
    begin()
    wait_until(lambda: ALARM in box.log, 60, "the alarm")
    alarmed = time.monotonic()
    wait_until(lambda: admits(subscriber), 60, "degraded because of the outbox")
    told_s = max(0.0, time.monotonic() - alarmed)
    hears(subscriber, 2)
    end()
    began = time.monotonic()
    wait_until(lambda: HEALED in box.log, 30, "healed")
    healed_s = time.monotonic() - began
    hears(subscriber, 1)
    assert box.terminate(60) == 0
    record(
        f"disk-{name.replace(' ', '-')}",
        f"Disk: {name} under the running service",
        {
            "degraded so long after the first row it refused, s": round(told_s, 1),
            "finals heard": len(subscriber.on("/transcript/final")),
            "numbers without a hole": whole(subscriber),
            "on disk again after s": round(healed_s, 2),
        },
    )
    assert whole(subscriber)
    assert healed_s <= RECOVERED_S
    assert told_s <= RECOVERED_S


def test_a_full_disk(disk: Path, broker: PrivateBroker, subscriber: Subscriber, tmp_path: Path) -> None:
    """A neighbour takes all there is, ballast included, and goes."""

    def fill() -> None:
        deadline = time.monotonic() + 60
        while ALARM not in box.log and time.monotonic() < deadline:  # the agent frees its ballast once
            _fill(disk / f"neighbour-{time.monotonic_ns()}")
            time.sleep(0.05)

    def free() -> None:
        for file in disk.glob("neighbour-*"):
            file.unlink()

    box = AgentProcess(disk / "state", *settings(broker, looped()))
    box.log_path = tmp_path / "box.log"  # not on the disk in question
    with box:
        trouble(box, subscriber, "full", fill, free)


def test_a_read_only_disk(disk: Path, broker: PrivateBroker, subscriber: Subscriber, tmp_path: Path) -> None:
    """As the kernel does it after an error; files that are open for writing must be let go first."""
    box = AgentProcess(disk / "state", *settings(broker, looped()))
    box.log_path = tmp_path / "box.log"  # not on the disk in question
    with box:
        hears(subscriber, 1)
        box.terminate(60)
        remount(disk, "ro")
        box.start()
        wait_until(lambda: ALARM in box.log, 60, "the alarm")
        hears(subscriber, 2)
        remount(disk, "rw")
        began = time.monotonic()
        wait_until(lambda: HEALED in box.log, 30, "healed")
        healed_s = time.monotonic() - began
        hears(subscriber, 1)
        assert box.terminate(60) == 0
    record(
        "disk-read-only",
        "Disk: read-only at the start of the service, then writable",
        {
            "finals heard": len(subscriber.on("/transcript/final")),
            "numbers without a hole": whole(subscriber),
            "on disk again after s": round(healed_s, 2),
        },
    )
    assert whole(subscriber)
    assert healed_s <= RECOVERED_S


@pytest.mark.parametrize("part", ["database", "WAL"])
def test_a_store_that_rots(tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, part: str) -> None:
    """Flipped bytes after a kill: the service starts, sets aside what is damaged, and hears."""
    chance = int(os.environ.get("EDGE_AGENT_SEED", random.randrange(10**6)))
    dice = random.Random(chance)
    box = AgentProcess(tmp_path / "state", *settings(broker, looped()))
    store = tmp_path / "state/outbox.sqlite3"
    ready_s = []
    for _ in range(3):
        with box:
            began = time.monotonic()
            hears(subscriber, 2, 120)
            ready_s.append(time.monotonic() - began)
            box.kill()
        damaged = store if part == "database" else store.with_name(store.name + "-wal")
        if damaged.exists() and damaged.stat().st_size:
            _flip(damaged, dice, count=dice.choice((8, 64)))
    with box:
        hears(subscriber, 2, 120)
        assert box.terminate(60) == 0
    seqs = [m.body["seq"] for m in subscriber.on("/transcript/final")]
    ids = {m.body["id"]: m.body["seq"] for m in subscriber.on("/transcript/final") + subscriber.on("/gap")}
    record(
        f"disk-rotten-{part}",
        f"Disk: flipped bytes in the {part}, three times",
        {
            "finals heard": len(seqs),
            "numbers used twice": len(ids) - len(set(ids.values())),
            "stores set aside": len(list(store.parent.glob("outbox.sqlite3.corrupt-*[0-9]"))),
            "two finals heard after the start, s": ", ".join(f"{one:.1f}" for one in ready_s),
        },
        seed=chance,
    )
    assert len(ids) == len(set(ids.values())), "a number was given twice"


def test_damage_is_mended_in_time(tmp_path: Path) -> None:
    """A large store, damaged: how long until the next row is on disk."""
    longest_s, again = 0.0, 0
    for seed in range(40):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path = _filled(folder, rows=3000)
        dice = random.Random(seed)
        _flip(path, dice, count=dice.choice((1, 8, 64)))
        began = time.thread_time()
        outbox = Outbox(path, clock=CLOCK)
        add(outbox, "new")
        sent = drain(outbox)
        longest_s = max(longest_s, time.thread_time() - began)
        again += len(sent) - len(set(sent))
        outbox.close()
        subprocess.run(["rm", "-r", str(folder)], check=True)
    record(
        "disk-salvage",
        "Disk: forty damaged stores of 3,000 rows",
        {"longest until a new row and all others were out, CPU s": round(longest_s, 2), "sent twice": again},
    )
    assert longest_s < RECOVERED_S
    assert again == 0
