"""When notes of open utterances are made, and how few writes that costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_agent.outbox.rows import Unfinished
from edge_agent.types import Utterance
from edge_agent.unfinished import Notes

S = 1_000_000_000


class Store:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[list[Unfinished]] = []

    def note(self, notes: Sequence[Unfinished]) -> None:
        self.told.append(list(notes))


class Room:
    """Channels in which somebody speaks, or nobody."""

    def __init__(self) -> None:
        self.open: dict[int, Utterance] = {}
        self.store = Store()
        self.notes = Notes(self.store, self.open.get)

    def says(self, channel: int, name: str, seconds: float) -> None:
        self.open[channel] = Utterance(
            id=name,
            channel=channel,
            start_ns=0,
            speech_end_ns=int(seconds * S),
            start_utc_ms=1000,
            clock_synced=True,
            pcm=np.zeros(0, np.float32),
            cut="stop",
        )


def told(name: str, duration_ms: int) -> Unfinished:
    return Unfinished(id=name, start_utc_ms=1000, duration_ms=duration_ms)


def test_silence_writes_nothing() -> None:
    """An idle room costs no write."""
    room = Room()
    for now in range(100):
        room.notes.tick(now * S)
    assert room.store.told == []


def test_speech_is_noted_at_its_start_and_once_a_second() -> None:
    """Fifty looks in a second are one write."""
    room = Room()
    room.notes.tick(0)
    room.says(0, "u1", 0.1)
    room.notes.started(0)
    room.notes.tick(S // 50)
    assert room.store.told == [[told("u1", 100)]]
    for look in range(2, 50):
        room.notes.tick(look * S // 50)
    assert len(room.store.told) == 1
    room.says(0, "u1", 1.0)
    room.notes.tick(S)
    assert room.store.told[1:] == [[told("u1", 1000)]]


def test_what_waits_for_its_text_is_noted_with_its_whole_length() -> None:
    """The store passes over it when its text was committed meanwhile."""
    room = Room()
    room.notes.tick(0)
    room.says(2, "u1", 2.5)
    ended = room.open.pop(2)
    room.notes.started(2)
    room.notes.ended(ended)
    room.notes.tick(S)
    room.notes.tick(2 * S)
    assert room.store.told == [[told("u1", 2500)]]
