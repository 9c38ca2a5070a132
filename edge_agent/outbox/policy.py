"""The rules of the outbox: what goes next, what is given up, what is forgotten. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from edge_agent.outbox.rows import Drop, Row
from edge_agent.types import Value

MEMORY_ROWS = 1000
"""Rows kept in memory while the disk takes none."""
HEADROOM = 0.02
"""Share of the quota that one eviction frees, so that not every append evicts."""
MS_PER_HOUR = 3_600_000


class Usage(Value, frozen=True):
    """Fill of the store."""

    used_bytes: int
    quota_bytes: int
    delivered: int
    queued: int


class Eviction(Value, frozen=True):
    """Rows to delete, oldest first of each sort."""

    delivered: int
    queued: int


def eviction(usage: Usage) -> Eviction:
    """What must go to come under the quota: delivered rows first, queued ones only when those do not suffice.

    The newest queued row always stays: what is said now is worth more than what was said long ago.
    """
    over = usage.used_bytes - usage.quota_bytes
    rows = usage.delivered + usage.queued
    if over <= 0 or rows == 0:
        return Eviction(delivered=0, queued=0)
    row_bytes = max(1.0, usage.used_bytes / rows)
    needed = math.ceil((over + HEADROOM * usage.quota_bytes) / row_bytes)
    delivered = min(needed, usage.delivered)
    queued = min(needed - delivered, max(0, usage.queued - 1))
    return Eviction(delivered=delivered, queued=queued)


def expired_before(now_utc_ms: int, keep_delivered_h: float) -> int:
    """Rows delivered before this time are forgotten."""
    return now_utc_ms - round(keep_delivered_h * MS_PER_HOUR)


def order(live: Sequence[Row], backlog: Sequence[Row], limit: int, skip: Collection[int]) -> list[Row]:
    """The next rows to send: what is said now before what waited, each oldest first."""
    chosen = [row for row in (*live, *backlog) if row.seq not in skip]
    return chosen[:limit]


def merge(earlier: Drop | None, later: Drop) -> Drop:
    """Two drops as one."""
    if earlier is None:
        return later
    return Drop(
        first_seq=min(earlier.first_seq, later.first_seq),
        last_seq=max(earlier.last_seq, later.last_seq),
        count=earlier.count + later.count,
        from_utc_ms=min(earlier.from_utc_ms, later.from_utc_ms),
        to_utc_ms=max(earlier.to_utc_ms, later.to_utc_ms),
    )


def drop_of(rows: Sequence[tuple[int, int]]) -> Drop:
    """The drop of (seq, created_utc_ms) pairs, at least one."""
    seqs, times = [seq for seq, _ in rows], [created for _, created in rows]
    return Drop(
        first_seq=min(seqs), last_seq=max(seqs), count=len(rows), from_utc_ms=min(times), to_utc_ms=max(times)
    )
