"""Long runs: memory, threads and descriptors stay where they are; hundreds of kills lose nothing."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge_agent.mqtt.private_broker import PrivateBroker
from tests.broker import wait_until
from tests.corpus import clips
from tests.fault.kills import assert_nothing_lost, measure
from tests.fault.results import record

MINUTES = float(os.environ.get("EDGE_AGENT_SOAK_MINUTES", "3"))
SPEED = float(os.environ.get("EDGE_AGENT_SOAK_SPEED", "10"))
"""Times the speed of sound; 0: as fast as it is recognised."""
KILLS = int(os.environ.get("EDGE_AGENT_KILLS", "500"))
SAMPLE_S = 2.0
PROMISED_MB_PER_H = 1.0
PROMISED_AFTER_MIN = 30
"""A promise about hours cannot be judged in less."""

pytestmark = [pytest.mark.faults, pytest.mark.timeout(int(MINUTES * 60) + 3600)]


def held(pid: int) -> tuple[float, int, int]:
    """Resident MB, descriptors, threads of a process."""
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    return pages * 4096 / 1e6, len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


def slope_per_hour(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Least-squares slope of (seconds, value), and half its 95 % interval, per hour."""
    times, values = [t for t, _ in points], [v for _, v in points]
    fit = statistics.linear_regression(times, values)
    middle = statistics.fmean(times)
    spread = sum((t - middle) ** 2 for t in times)
    rest = sum((v - fit.intercept - fit.slope * t) ** 2 for t, v in points)
    error = (rest / max(1, len(points) - 2) / spread) ** 0.5
    return fit.slope * 3600, 1.96 * error * 3600


def test_memory_threads_and_descriptors_stay(tmp_path: Path, broker: PrivateBroker) -> None:
    """Recordings for ever, at ten times their speed; EDGE_AGENT_SOAK_MINUTES makes it longer."""
    english = [clip for clip in clips() if clip.language == "en" and 1.0 < clip.duration_s < 12]
    spoken = [str(clip.path) for clip in english[:100]]
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.fault.soak_child", str(tmp_path / "state")),
            *(broker.url, str(SPEED), *spoken),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    heard = [0.0]
    ready = threading.Event()

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("listening"):
                ready.set()
            else:
                heard.append(float(line))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(60)
        began = time.monotonic()
        points = []
        while time.monotonic() - began < MINUTES * 60:
            assert child.poll() is None, "the agent ended"
            points.append((time.monotonic() - began, *held(child.pid)))
            time.sleep(SAMPLE_S)
        took_s = time.monotonic() - began
    finally:
        child.kill()
        child.wait(10)
        reader.join(5)
    settled = points[len(points) // 3 :] if MINUTES <= PROMISED_AFTER_MIN else points[len(points) // 2 :]
    slope, sure = slope_per_hour([(at, rss) for at, rss, _, _ in settled])
    speed = heard[-1] / took_s
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "outbox.sqlite3")) as store:
        told = dict(store.execute("SELECT kind, count(*) FROM rows GROUP BY kind"))
    record(
        "soak" if MINUTES > PROMISED_AFTER_MIN else "soak-short",
        "Memory at many times the speed of sound",
        {
            "minutes": round(took_s / 60, 1),
            "times real time": round(speed, 1),
            "recordings": len(spoken),
            "finals": told.get("final", 0),
            "gaps": told.get("gap", 0),
            "RSS MB at the end": round(settled[-1][1], 1),
            "RSS slope MB/h": f"{slope:.1f} ± {sure:.1f}",
            "RSS slope MB per hour of sound": f"{slope / speed:.2f}",
            "descriptors, least to most": f"{min(p[2] for p in settled)} to {max(p[2] for p in settled)}",
            "threads, least to most": f"{min(p[3] for p in settled)} to {max(p[3] for p in settled)}",
        },
    )
    assert not told.get("gap"), "sound was lost"
    assert speed >= 0.95 * SPEED, "recognition does not keep up"
    assert max(p[2] for p in settled) - min(p[2] for p in settled) <= 3, "descriptors grow"
    assert max(p[3] for p in settled) - min(p[3] for p in settled) <= 1, "threads grow"
    assert settled[-1][1] - settled[0][1] < 20, "memory grows"
    if MINUTES > PROMISED_AFTER_MIN:
        assert slope <= PROMISED_MB_PER_H


def test_five_hundred_kills_lose_nothing(tmp_path: Path, broker: PrivateBroker) -> None:
    """kill -9 at random instants, the broker's mixed in; at most one final in a hundred comes twice."""
    chance = int(os.environ.get("EDGE_AGENT_SEED", random.randrange(10**6)))
    books = measure(broker, tmp_path / "outbox.sqlite3", kills=KILLS, seed=chance, written=True)
    assert_nothing_lost(books, chance)
    assert books["duplicates"] <= 0.01 * books["committed"]


def test_the_real_agent_admits_every_utterance_it_dies_in(tmp_path: Path, broker: PrivateBroker) -> None:
    """The whole service killed in mid-sentence, again and again: what partials told of has one end."""
    from tests.broker import Subscriber
    from tests.e2e.agent_process import AgentProcess
    from tests.e2e.test_run import looped, settings

    chance = int(os.environ.get("EDGE_AGENT_SEED", random.randrange(10**6)))
    dice = random.Random(chance)
    box = AgentProcess(tmp_path / "state", *settings(broker, looped()))
    kills = max(5, KILLS // 50)
    with Subscriber(broker.port) as subscriber:
        for _ in range(kills):
            seen = len(subscriber.on("/transcript/partial"))
            with box:
                wait_until(
                    lambda seen=seen: len(subscriber.on("/transcript/partial")) > seen, 60, "a partial"
                )
                time.sleep(dice.uniform(0, 1.5))
                box.kill()
        with box:
            finals = len(subscriber.on("/transcript/final"))
            wait_until(lambda: len(subscriber.on("/transcript/final")) > finals, 60, "a last final")
            box.terminate()
        begun = {m.body["id"] for m in subscriber.on("/transcript/partial")}
        ends: dict[str, set[int]] = {}
        for message in subscriber.on("/transcript/final") + subscriber.on("/gap"):
            ends.setdefault(message.body["id"], set()).add(message.body["seq"])
    gaps = {m.body["id"] for m in subscriber.on("/gap") if m.body["cause"] == "restart"}
    seqs = sorted(seq for several in ends.values() for seq in several)
    record(
        "interrupted",
        "The service killed in mid-sentence",
        {
            "kills": kills,
            "utterances begun": len(begun),
            "without an end": len(begun - set(ends)),
            "with two ends": sum(len(several) > 1 for several in ends.values()),
            "restart gaps": len(gaps),
        },
        seed=chance,
    )
    assert begun <= set(ends)
    assert all(len(several) == 1 for several in ends.values())
    assert seqs == list(range(1, len(seqs) + 1))
