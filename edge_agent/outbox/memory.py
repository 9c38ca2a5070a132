"""Rows and marks that the disk would not take, kept until it does. Bounded; not locked."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection

import msgspec

from edge_agent.outbox.policy import MEMORY_ROWS
from edge_agent.outbox.rows import Row


class MemoryLane:
    """At most `MEMORY_ROWS` rows in the order of their seq, and what became of rows that are on disk."""

    def __init__(self) -> None:
        self.rows: OrderedDict[int, Row] = OrderedDict()
        self.finished: deque[str] = deque(maxlen=MEMORY_ROWS)
        """Utterances whose end could not be written down."""
        self.marks: dict[int, tuple[int, int]] = {}
        """seq of a row on disk -> (reason code, utc_ms) of a delivery that could not be written down."""

    def add(self, row: Row, *, keep: int | None = None) -> list[Row]:
        """Keep a row; the queued rows (never `keep`) that had to go for it. Delivered ones go first."""
        lost = []
        while len(self.rows) >= MEMORY_ROWS:
            others = [r for r in self.rows.values() if r.seq != keep]
            victim = next((r for r in others if r.delivered_utc_ms is not None), others[0])
            del self.rows[victim.seq]
            if victim.delivered_utc_ms is None:
                lost.append(victim)
        self.rows[row.seq] = row
        return lost

    def queued(self, kinds: Collection[str]) -> list[Row]:
        """Rows that wait, oldest first."""
        return [r for r in self.rows.values() if r.delivered_utc_ms is None and r.kind in kinds]

    def mark(self, seq: int, reason: int, utc_ms: int) -> None:
        """A row was delivered, wherever it is kept."""
        row = self.rows.get(seq)
        if row is None:
            self.marks[seq] = (reason, utc_ms)
        else:
            self.rows[seq] = msgspec.structs.replace(row, reason=reason, delivered_utc_ms=utc_ms)

    def unmark(self, seq: int) -> None:
        """A row waits again."""
        self.marks.pop(seq, None)
        row = self.rows.get(seq)
        if row is not None:
            self.rows[seq] = msgspec.structs.replace(row, delivered_utc_ms=None)

    def replace_payload(self, seq: int, payload: bytes) -> bool:
        """Rewrite a row that nobody has seen yet; False when it is not here."""
        row = self.rows.get(seq)
        if row is not None:
            self.rows[seq] = msgspec.structs.replace(row, payload=payload)
        return row is not None

    def clear(self) -> None:
        """Everything reached the disk."""
        self.rows.clear()
        self.marks.clear()
        self.finished.clear()

    def __bool__(self) -> bool:
        return bool(self.rows or self.marks or self.finished)
