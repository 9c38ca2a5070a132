"""Notes of what is being said, so that an utterance in which the process dies is admitted by the next one.

The cutter's thread only says that speech began or ended; the main thread writes, because a write may wait for
the disk. A note is made when speech begins and once a second while it lasts; no sound is ever in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_agent.outbox.rows import Unfinished
from edge_agent.types import Utterance

_INTERVAL_NS = 1_000_000_000
_KEPT = 1024  # more cannot wait for the scribe either


class _Store(Protocol):
    def note(self, notes: Sequence[Unfinished]) -> None: ...


class Notes:
    """What is told at the next start if there is no other end.

    Args:
        store: where they are written; it knows which utterances are finished.
        snapshot: the open utterance of a channel, None in silence.
        ring: called when there is something to write; any thread, quick.
    """

    def __init__(
        self,
        store: _Store,
        snapshot: Callable[[int], Utterance | None],
        ring: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._snapshot, self._ring = store, snapshot, ring
        self._begun: deque[int] = deque(maxlen=_KEPT)
        self._ended: deque[Unfinished] = deque(maxlen=_KEPT)
        self._open: set[int] = set()
        self._due_ns = 0

    def started(self, channel: int) -> None:
        """Speech began; any thread, never waits."""
        self._begun.append(channel)
        self._ring()

    def ended(self, utterance: Utterance) -> None:
        """Speech ended, and the utterance waits for its text; any thread, never waits."""
        self._ended.append(_note(utterance))

    def tick(self, now_ns: int) -> None:
        """Write what is due; one thread, often."""
        begun = set()
        while self._begun:
            begun.add(self._begun.popleft())
        self._open |= begun
        if now_ns >= self._due_ns:
            self._due_ns = now_ns + _INTERVAL_NS
            # Those whose text is committed by now, nearly all, are passed over by the store.
            notes = [self._ended.popleft() for _ in range(len(self._ended))]
            self._write(self._open, notes)
        elif begun:
            self._write(begun, [])

    def _write(self, channels: set[int], notes: list[Unfinished]) -> None:
        for channel in tuple(channels):
            utterance = self._snapshot(channel)
            if utterance is None:
                self._open.discard(channel)
            else:
                notes.append(_note(utterance))
        if notes:
            self._store.note(notes)


def _note(utterance: Utterance) -> Unfinished:
    return Unfinished(
        id=utterance.id,
        start_utc_ms=utterance.start_utc_ms,
        duration_ms=max(0, (utterance.speech_end_ns - utterance.start_ns) // 1_000_000),
    )
