"""The rules of the outbox, without a disk."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.outbox.policy import (
    HEADROOM,
    MS_PER_HOUR,
    Usage,
    drop_of,
    eviction,
    expired_before,
    merge,
    order,
)
from edge_agent.outbox.rows import Row

counts = st.integers(0, 10_000)


def row(seq: int) -> Row:
    """A row of no other interest."""
    return Row(seq=seq, id=str(seq), kind="final", payload=b"", created_utc_ms=0)


@given(used=st.integers(0, 10**9), quota=st.integers(1, 10**9), delivered=counts, queued=counts)
def test_nothing_goes_while_there_is_room_and_delivered_rows_go_first(
    used: int, quota: int, delivered: int, queued: int
) -> None:
    """Queued rows are touched only when all delivered ones are gone, and the newest always stays."""
    plan = eviction(Usage(used_bytes=used, quota_bytes=quota, delivered=delivered, queued=queued))
    assert 0 <= plan.delivered <= delivered
    assert 0 <= plan.queued <= max(0, queued - 1)
    if used <= quota:
        assert plan.delivered == plan.queued == 0
    if plan.queued:
        assert plan.delivered == delivered


@given(rows=st.integers(2, 10_000), row_bytes=st.integers(100, 5000), share=st.floats(0.1, 0.99))
def test_an_eviction_brings_the_store_under_its_quota(rows: int, row_bytes: int, share: float) -> None:
    """What remains fits, with headroom, unless one row alone is too large."""
    used = rows * row_bytes
    quota = max(1, int(used * share))
    plan = eviction(Usage(used_bytes=used, quota_bytes=quota, delivered=rows // 2, queued=rows - rows // 2))
    left = rows - plan.delivered - plan.queued
    assert left * row_bytes <= quota * (1 - HEADROOM) + 1 or left == 1


@given(
    live=st.lists(st.integers(1001, 2000), unique=True),
    backlog=st.lists(st.integers(1, 1000), unique=True),
    limit=st.integers(0, 50),
    skip=st.sets(st.integers(1, 2000)),
)
def test_live_rows_go_first_and_rows_on_their_way_stay_out(
    live: list[int], backlog: list[int], limit: int, skip: set[int]
) -> None:
    """Order: live by age, then backlog by age; never more than asked, never one twice."""
    chosen = [
        r.seq for r in order([row(s) for s in sorted(live)], [row(s) for s in sorted(backlog)], limit, skip)
    ]
    assert len(chosen) == min(limit, len((set(live) | set(backlog)) - skip))
    assert not set(chosen) & skip
    assert chosen == sorted(s for s in chosen if s > 1000) + sorted(s for s in chosen if s <= 1000)
    if any(s <= 1000 for s in chosen):
        assert set(live) - skip <= set(chosen)


def test_retention_counts_from_delivery() -> None:
    """Seventy-two hours are seventy-two hours."""
    assert expired_before(100 * MS_PER_HOUR, 72) == 28 * MS_PER_HOUR
    assert expired_before(100 * MS_PER_HOUR, 0.5) == 99.5 * MS_PER_HOUR


@given(st.lists(st.lists(st.tuples(st.integers(1, 999), st.integers(0, 999)), min_size=1), min_size=1))
def test_merged_drops_say_the_same_as_one_drop(parts: list[list[tuple[int, int]]]) -> None:
    """Dropping in several goes is admitted as if it had been one."""
    merged = None
    for part in parts:
        merged = merge(merged, drop_of(part))
    assert merged == drop_of([pair for part in parts for pair in part])
