"""Utterances without an end: remembered until they have one, on whatever disk."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.clock import SystemClock
from edge_agent.outbox.rows import Unfinished
from edge_agent.outbox.store import Outbox

CLOCK = SystemClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the outbox will be."""
    return tmp_path / "outbox.sqlite3"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    """An empty outbox."""
    made = Outbox(path, clock=CLOCK)
    yield made
    made.close()


def begun(name: str, duration_ms: int = 0) -> Unfinished:
    return Unfinished(id=name, start_utc_ms=1_800_000_000_000, duration_ms=duration_ms)


def end(outbox: Outbox, name: str) -> None:
    outbox.append(id=name, kind="final", make_payload=lambda _seq: b"{}")


def after_a_death(path: Path) -> list[Unfinished]:
    """What the next process finds."""
    found = Outbox(path, clock=CLOCK)
    try:
        return found.unfinished()
    finally:
        found.close()


def test_what_is_being_said_outlives_the_process(outbox: Outbox, path: Path) -> None:
    """Noted on disk at once, with the longest duration told."""
    outbox.note([begun("u1")])
    outbox.note([begun("u1", 1500), begun("u2")])
    assert after_a_death(path) == [begun("u1", 1500), begun("u2")]


def test_a_note_that_damage_brought_back_is_passed_over(outbox: Outbox, path: Path) -> None:
    """Lost pages of the WAL may undo that a note was taken back, and not the row: it has had its end."""
    end(outbox, "u1")
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO unfinished VALUES ('u1', 0, 0), ('u2', 0, 0)")
    assert [note.id for note in after_a_death(path)] == ["u2"]


def test_a_message_under_the_same_id_ends_it(outbox: Outbox, path: Path) -> None:
    """In one transaction with the message."""
    outbox.note([begun("u1"), begun("u2")])
    end(outbox, "u1")
    assert after_a_death(path) == [begun("u2")]


def test_a_rejected_utterance_is_forgotten(outbox: Outbox, path: Path) -> None:
    """It needs no message, and no gap either."""
    outbox.note([begun("u1")])
    outbox.forget("u1")
    assert after_a_death(path) == []


def test_a_note_that_comes_too_late_is_not_taken(outbox: Outbox, path: Path) -> None:
    """Ended before the writer came to it, with a message or without: it stays ended."""
    end(outbox, "u1")
    outbox.forget("u2")
    outbox.note([begun("u1"), begun("u2"), begun("u3")])
    assert after_a_death(path) == [begun("u3")]


def test_a_store_of_an_earlier_version_learns_it(path: Path) -> None:
    """It has no place for notes; opening it makes one, and reading it without writing finds none."""
    Outbox(path, clock=CLOCK).close()
    with sqlite3.connect(path) as store:
        store.execute("DROP TABLE unfinished")
    store.close()
    old = Outbox(path, clock=CLOCK)
    old.note([begun("u1")])
    old.close()
    assert after_a_death(path) == [begun("u1")]


def test_a_damaged_store_hands_its_notes_on(path: Path) -> None:
    """What can be read of it is not forgotten."""
    old = Outbox(path, clock=CLOCK)
    old.note([begun("u1")])
    for number in range(300):
        old.append(id=f"r{number}", kind="final", make_payload=lambda _seq: b"x" * 900)
    old.close()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 4096] = b"\xff" * 4096
    path.write_bytes(damaged)
    path.with_name(path.name + "-wal").touch()  # it was not closed cleanly: looked through when opened
    assert after_a_death(path) == [begun("u1")]
    assert list(path.parent.glob("*.corrupt-*"))


def test_an_end_that_the_disk_did_not_take_is_written_down_later(
    outbox: Outbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither forgotten while the disk refuses, nor told twice when it is back."""
    outbox.note([begun("said"), begun("rejected"), begun("open")])
    broken = sqlite3.OperationalError("disk I/O error")
    with monkeypatch.context() as patch:
        patch.setattr("edge_agent.outbox.database.Database.transaction", _fails(broken))
        end(outbox, "said")
        outbox.forget("rejected")
        outbox.note([begun("open", 3000)])
        assert outbox.stats().state == "memory"
    time.sleep(1.1)  # a failing disk is left alone for a second
    outbox.tend()
    assert outbox.stats().state == "durable"
    assert after_a_death(path) == [begun("open")]


def _fails(error: sqlite3.Error) -> object:
    from edge_agent.outbox.database import _translated

    def transaction(_database: object, *, durable: bool = True) -> object:
        with _translated():
            raise error

    return transaction


ACTS = st.lists(st.tuples(st.sampled_from(["note", "end", "forget", "die"]), st.integers(0, 5)), max_size=40)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
def test_every_history_leaves_exactly_the_open_ones(
    acts: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever happens in whatever order, with deaths in between: open means noted and not ended."""
    path = tmp_path_factory.mktemp("history") / "outbox.sqlite3"
    outbox = Outbox(path, clock=CLOCK)
    opened: set[str] = set()
    ended: set[str] = set()
    for act, number in acts:
        name = f"u{number}"
        if act == "die":
            outbox = Outbox(path, clock=CLOCK)  # the old one is never closed
            outbox.unfinished()
        elif act == "note" and name not in ended:
            outbox.note([begun(name, number)])
            opened.add(name)
        elif act in {"end", "forget"} and name not in ended:
            if act == "end":
                end(outbox, name)
            else:
                outbox.forget(name)
            ended.add(name)
    assert {note.id for note in outbox.unfinished()} == opened - ended
    outbox.close()
