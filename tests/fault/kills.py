"""kill -9 of an agent at random instants, its broker's mixed in; the coordinator's books say what it cost.

    python -m tests.fault.kills [--kills 500] [--seed 1] [--record]

Finals come at some eighty a second, and each agent is killed at a random instant after 0 to 240 of them: in
life, with one every three seconds, that is a kill every six minutes for two days.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from edge_agent.clock import SystemClock
from edge_agent.mqtt import wire
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.mqtt.publisher import Courier
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.outbox.database import Database
from edge_agent.outbox.store import Outbox
from tests.broker import Subscriber, wait_until
from tests.fault.results import record

CLOCK = SystemClock()
CHILD = Path(__file__).resolve().parents[1] / "e2e/courier_child.py"
PAUSE_S = 0.01
LIFE_FINALS = 240
"""Most finals from the first to the kill; at one every three seconds that is twelve minutes."""
WRONGS = ("missing", "announced_but_not_stored", "unequal", "seq_holes")


def start_child(path: Path, url: str, pause_s: float = 0.0, *, begin: bool = True) -> subprocess.Popen[str]:
    """An agent that commits and delivers for ever, and prints what it committed; with `begin` false, soon."""
    child = subprocess.Popen(
        [sys.executable, str(CHILD), str(path), url, str(pause_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if begin:
        let_begin(child)
    return child


def let_begin(child: subprocess.Popen[str]) -> None:
    """It opens the outbox and goes to work."""
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.close()


def end_child(child: subprocess.Popen[str]) -> None:
    """kill -9, and leave nothing of it."""
    child.kill()
    child.wait(5)
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


def kill_9_run(
    broker: PrivateBroker,
    path: Path,
    *,
    kills: int,
    broker_kills: int,
    seed: int,
    pause_s: float = 0.0,
    life_finals: int = 0,
) -> Counter[str]:
    """Kill the child at random instants; the coordinator's books afterwards."""
    chance = random.Random(seed)
    committed: list[str] = []
    broker_turns = set(chance.sample(range(kills), broker_kills))
    with Subscriber(broker.port, topic="edge/child/up/transcript/#") as subscriber:
        following = start_child(path, broker.url, pause_s, begin=False)
        try:
            for turn in range(kills):
                child, following = following, start_child(path, broker.url, pause_s, begin=False)
                breaks = (chance.uniform(0.2, 0.4)) if turn in broker_turns else 0.0
                life = chance.randint(1, life_finals or 1), chance.uniform(0.0, 0.05 if life_finals else 0.5)
                _one_life(broker, child, committed, life, breaks)
        finally:
            end_child(following)
        drain(broker, path)
        stored = stored_in(path)
        with contextlib.suppress(AssertionError):  # the verdict is in the books
            wait_until(lambda: len({m.body["seq"] for m in subscriber.heard}) >= len(stored), 10)
        return books_of(committed, stored, subscriber)


def _one_life(
    broker: PrivateBroker,
    child: subprocess.Popen[str],
    committed: list[str],
    life: tuple[int, float],
    alone_s: float,
) -> None:
    """`life`: so many finals and seconds until the kill. `alone_s` > 0: the broker is killed before.

    So long has the agent to notice: what died with the broker's memory is sent again by the one that sent it.
    """
    assert child.stdout is not None
    lines = child.stdout
    reader = threading.Thread(target=lambda: committed.extend(line.strip() for line in lines))
    known = len(committed)
    reader.start()
    let_begin(child)
    wait_until(lambda: len(committed) >= known + life[0], 120, "the child commits")
    time.sleep(life[1])
    if alone_s:
        broker.kill()
        time.sleep(alone_s)
    child.kill()
    reader.join(5)
    end_child(child)
    if alone_s:
        broker.start()


def drain(broker: PrivateBroker, path: Path) -> None:
    """What the last agent left goes out."""
    outbox = Outbox(path, clock=CLOCK)
    courier = Courier(
        MqttSettings(url=broker.url), wire.Topics("edge", "child"), outbox, clock=CLOCK, boot_id="b"
    )
    courier.start()
    try:
        wait_until(lambda: outbox.stats().queued == 0, 30, "the rest drained")
        assert courier.stop(3.0)
    finally:
        courier.stop(0.1)
        outbox.close()


def books_of(committed: list[str], stored: dict[int, str], subscriber: Subscriber) -> Counter[str]:
    """What was announced, what is on disk and what arrived, compared."""
    bytes_of: dict[str, set[bytes]] = {}
    for message in subscriber.heard:
        bytes_of.setdefault(message.body["id"], set()).add(message.payload)
    return Counter(
        committed=len(stored),
        announced_but_not_stored=len(set(committed) - set(stored.values())),
        missing=len(set(stored.values()) - set(bytes_of)),
        duplicates=len(subscriber.heard) - len(bytes_of),
        unequal=sum(len(same) > 1 for same in bytes_of.values()),
        seq_holes=len(set(range(1, max(stored) + 1)) - set(stored)),
    )


def stored_in(path: Path) -> dict[int, str]:
    """Seq and id of all rows."""
    database = Database(path, read_only=True)
    try:
        return {row.seq: row.id for row, _ in database.all_rows()}
    finally:
        database.close()


def assert_nothing_lost(books: Counter[str], seed: int) -> None:
    """Print the books and judge all but the repeats."""
    print(f"seed {seed}: {dict(books)}")
    assert books["committed"] > 0
    for wrong in WRONGS:
        assert books[wrong] == 0, books


def measure(broker: PrivateBroker, path: Path, *, kills: int, seed: int, written: bool) -> Counter[str]:
    """The whole run with its figures; a broker kill for every five of the agent."""
    began = time.monotonic()
    books = kill_9_run(
        broker,
        path,
        kills=kills,
        broker_kills=kills // 5,
        seed=seed,
        pause_s=PAUSE_S,
        life_finals=LIFE_FINALS,
    )
    figures: dict[str, object] = {
        "kills": kills,
        "broker kills": kills // 5,
        "finals committed": books["committed"],
        **{wrong.replace("_", " "): books[wrong] for wrong in WRONGS},
        "duplicates": books["duplicates"],
        "duplicates % of committed": round(100 * books["duplicates"] / max(1, books["committed"]), 2),
        "duplicates per kill": round(books["duplicates"] / (kills + kills // 5), 2),
        "seconds": round(time.monotonic() - began),
    }
    if written:
        record("kills", "kill -9 of the agent, the broker's mixed in", figures, seed=seed)
    else:
        print(figures)
    return books


def main(arguments: list[str] | None = None) -> int:
    """Run; 1 when something was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--record", action="store_true", help="write the figures to tests/fault/RESULTS.md")
    options = parser.parse_args(arguments)
    with PrivateBroker() as broker, tempfile.TemporaryDirectory() as folder:
        books = measure(
            broker,
            Path(folder) / "outbox.sqlite3",
            kills=options.kills,
            seed=options.seed,
            written=options.record,
        )
    return int(any(books[wrong] for wrong in WRONGS) or books["duplicates"] > 0.01 * books["committed"])


if __name__ == "__main__":
    sys.exit(main())
