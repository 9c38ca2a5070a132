"""No power cut loses what the outbox has acknowledged, or damages it."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.outbox.rows import Unfinished
from edge_agent.outbox.store import Outbox
from tests.fault.power import Act, Tape, lay_out, recorded
from tests.fault.results import record

NAME = "outbox.sqlite3"
CLOCK = SystemClock()


def live(path: Path, tape: Tape, dice: random.Random, rounds: int) -> None:
    """A small life: utterances begin and end, finals are delivered, doubted, forgotten; it restarts once.

    On the tape, "+id" is an acknowledged row and "?id" an acknowledged note.
    """
    outbox = Outbox(path, clock=CLOCK)
    delivered = 0
    for number in range(rounds):
        name = f"u{number:04}"
        if dice.random() < 0.7:
            outbox.note([Unfinished(id=name, start_utc_ms=number, duration_ms=0)])
            tape.acts.append(Act("acknowledged", f"?{name}"))
        if dice.random() < 0.1:
            tape.acts.append(Act("acknowledged", f"-{name}"))  # from here on either is right
            outbox.forget(name)
            continue
        body = f"{name} ".encode() * dice.choice((10, 100, 700))
        tape.acts.append(Act("acknowledged", f"-{name}"))
        outbox.append(id=name, kind="final", make_payload=lambda _seq, body=body: body)
        tape.acts.append(Act("acknowledged", f"+{name}", data=body))
        if dice.random() < 0.5 and outbox.last_seq > delivered:
            outbox.mark_many([(seq, 0) for seq in range(delivered + 1, outbox.last_seq + 1)])
            delivered = outbox.last_seq
        if dice.random() < 0.05:
            outbox.doubt([delivered])
        if number == rounds // 2:
            outbox.close()
            outbox = Outbox(path, clock=CLOCK)
    outbox.close()


def promised(tape: Tape, end: int) -> tuple[dict[str, bytes], set[str]]:
    """What was acknowledged before the cut: rows with their payloads, and notes without an end."""
    rows, notes = {}, set()
    for act in tape.acts[:end]:
        if act.what == "acknowledged":
            mark, name = act.file[0], act.file[1:]
            if mark == "+":
                rows[name] = act.data
            elif mark == "?":
                notes.add(name)
            else:
                notes.discard(name)
    return rows, notes


def judge(folder: Path, rows: dict[str, bytes], notes: set[str]) -> Counter[str]:
    """Open a state as the next start would."""
    outbox = Outbox(folder / NAME, clock=CLOCK)
    found_notes = {note.id for note in outbox.unfinished()}
    stats = outbox.stats()
    outbox.close()
    with sqlite3.connect(folder / NAME) as store:
        found = dict(store.execute("SELECT id, payload FROM rows"))
        seqs = [seq for (seq,) in store.execute("SELECT seq FROM rows ORDER BY seq")]
        whole = store.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    store.close()
    return Counter(
        states=1,
        lost=sum(found.get(name) != body for name, body in rows.items()),
        lost_notes=len(notes - found_notes - set(found)),
        doubled=len(found_notes & set(found)),
        corrupt=(not whole) + stats.corrupt_files + (stats.state != "durable"),
        seq_holes=int(seqs != list(range(1, len(seqs) + 1))),
    )


def cuts(tape: Tape, states: int, dice: random.Random) -> list[tuple[int, float]]:
    """Where to cut, and how much of what is not synced reaches the disk: first each synced prefix with all
    that followed until just before the next sync, then random instants."""
    syncs = [place for place, act in enumerate(tape.acts) if act.what == "sync"]
    chosen = [(place, share) for place in syncs for share in (0.0, 0.5)]
    dice.shuffle(chosen)
    while len(chosen) < states:
        chosen.append((dice.randrange(1, len(tape.acts) + 1), dice.choice((0.0, 0.2, 0.5, 0.8, 1.0))))
    return chosen[:states]


def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    states: int,
    rounds: int,
    seed: int,
    mode: str = "FULL",
) -> Counter[str]:
    """Live, cut, open, judge."""
    dice = random.Random(seed)
    (tmp_path / "alive").mkdir()
    with recorded(monkeypatch, mode) as tape:
        live(tmp_path / "alive" / NAME, tape, dice, rounds)
    sums: Counter[str] = Counter()
    for end, share in cuts(tape, states, dice):
        folder = tmp_path / "after"
        folder.mkdir()
        lay_out(tape.state(end, dice, share), folder)
        sums += judge(folder, *promised(tape, end))
        shutil.rmtree(folder)
    return sums


def seed() -> int:
    return int(os.environ.get("EDGE_AGENT_SEED", random.randrange(10**6)))


WRONGS = ("lost", "lost_notes", "doubled", "corrupt", "seq_holes")


def test_sixty_power_cuts_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synced prefixes, each with and without a part of what was not synced."""
    chance = seed()
    sums = run(tmp_path, monkeypatch, states=60, rounds=60, seed=chance)
    print(f"\n  seed {chance}: {dict(sums)}")
    assert sums["states"] == 60
    assert {wrong: sums[wrong] for wrong in WRONGS} == dict.fromkeys(WRONGS, 0)


def test_the_bench_sees_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With synchronous=NORMAL, the setting that is often recommended, acknowledged rows are lost."""
    sums = run(tmp_path, monkeypatch, states=60, rounds=60, seed=1, mode="NORMAL")
    assert sums["lost"] > 0
    assert sums["corrupt"] == 0


@pytest.mark.faults
def test_hundreds_of_power_cuts_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every synced prefix of a longer life, and random instants besides."""
    chance = seed()
    sums = run(tmp_path, monkeypatch, states=500, rounds=150, seed=chance)
    record(
        "power-cut",
        "Power cuts (simulated through a recording VFS)",
        {"states": sums["states"], **{wrong.replace("_", " "): sums[wrong] for wrong in WRONGS}},
        seed=chance,
    )
    assert sums["states"] >= 400
    assert {wrong: sums[wrong] for wrong in WRONGS} == dict.fromkeys(WRONGS, 0)
