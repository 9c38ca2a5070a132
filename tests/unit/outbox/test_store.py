"""The durable queue on a real SQLite file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.clock import SystemClock
from edge_agent.errors import OutboxError
from edge_agent.outbox.rows import Drop
from edge_agent.outbox.store import Outbox, look


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now_ms = 1_800_000_000_000

    def monotonic_ns(self) -> int:
        return self.now_ms * 1_000_000

    def utc_ms(self) -> int:
        return self.now_ms

    def synced(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    """Starts in 2027."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the outbox will be; its directory does not exist yet."""
    return tmp_path / "state" / "outbox.sqlite3"


@pytest.fixture
def outbox(path: Path, clock: Clock) -> Iterator[Outbox]:
    """An empty outbox."""
    made = Outbox(path, clock=clock)
    yield made
    made.close()


def add(outbox: Outbox, name: str, *, size: int = 100) -> int:
    """Append a final of about `size` bytes."""
    return outbox.append(
        id=name, kind="final", make_payload=lambda seq: b'{"seq":%d,"pad":"%s"}' % (seq, b"x" * size)
    )


def gap_payload(seq: int, gap_id: str, drop: Drop) -> bytes:
    """What tests take for a gap."""
    return msgspec.json.encode({"seq": seq, "id": gap_id, "drop": drop})


def test_numbers_are_gapless_over_finals_and_gaps(outbox: Outbox) -> None:
    """One numbering for both, starting at 1, handed to whoever builds the payload."""
    assert add(outbox, "a") == 1
    assert outbox.append(id="b", kind="gap", make_payload=lambda seq: b"%d" % seq) == 2
    assert add(outbox, "c") == 3
    assert [(r.seq, r.kind) for r in outbox.next_batch(9)] == [(1, "final"), (2, "gap"), (3, "final")]
    assert outbox.next_batch(9)[1].payload == b"2"


def test_an_id_is_taken_once(outbox: Outbox) -> None:
    """The same id twice is refused and uses no number."""
    add(outbox, "a")
    with pytest.raises(OutboxError, match="already holds the message a"):
        add(outbox, "a")
    assert add(outbox, "b") == 2


def test_a_payload_that_cannot_be_built_uses_no_number(outbox: Outbox) -> None:
    """An error in `make_payload` comes through and leaves nothing behind."""
    with pytest.raises(ZeroDivisionError):
        outbox.append(id="a", kind="final", make_payload=lambda seq: b"%d" % (seq // 0))
    assert outbox.stats().queued == 0
    assert add(outbox, "a") == 1


def test_numbers_go_on_after_everything_was_purged_and_reopened(
    outbox: Outbox, path: Path, clock: Clock
) -> None:
    """A number is never used twice, not even when no row remembers it."""
    for name in "abc":
        add(outbox, name)
    assert outbox.purge(delivered_only=False) == 3
    outbox.close()
    again = Outbox(path, clock=clock)
    assert again.last_seq == 3
    assert add(again, "d") == 4
    again.close()


def test_files_are_private(outbox: Outbox, path: Path) -> None:
    """Transcripts are for the agent's user only: 0700 and 0600, side files included."""
    add(outbox, "a")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    files = list(path.parent.iterdir())
    assert {f.name.removeprefix(path.name) for f in files} == {"", "-wal", "-shm", ".ballast", ".seq"}
    assert {f.stat().st_mode & 0o777 for f in files} == {0o600}


def test_commits_are_made_for_a_power_cut(outbox: Outbox) -> None:
    """WAL with synchronous=FULL and a short WAL."""
    db = outbox._disk._db._db
    pragmas = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "wal_autocheckpoint")}  # fmt: skip  # noqa: E501 - one table
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "wal_autocheckpoint": 16}


def test_delivered_rows_leave_the_queue_and_stay_for_replay(outbox: Outbox) -> None:
    """Marked rows are not sent again until replay asks for them, byte for byte as they were."""
    for name in "abcd":
        add(outbox, name)
    sent = outbox.next_batch(9)
    outbox.mark_many([(1, 0), (2, 0x10)])
    outbox.mark_delivered(3, 0)
    assert [r.seq for r in outbox.next_batch(9)] == [4]
    assert outbox.replay(from_seq=2) == 2
    again = {r.seq: r.payload for r in outbox.next_batch(9)}
    assert again == {r.seq: r.payload for r in sent if r.seq >= 2}


def test_replay_by_time(outbox: Outbox, clock: Clock) -> None:
    """Rows made at or after a time are queued again."""
    add(outbox, "a")
    clock.now_ms += 1000
    add(outbox, "b")
    outbox.mark_many([(1, 0), (2, 0)])
    assert outbox.replay(since_utc_ms=clock.now_ms) == 1
    assert [r.id for r in outbox.next_batch(9)] == ["b"]


def test_live_rows_go_first_but_replayed_ones_do_not(outbox: Outbox) -> None:
    """Above the mark goes first; a replayed row is backlog, however high its number."""
    for name in "abcdef":
        add(outbox, name)
    assert [r.seq for r in outbox.next_batch(9, after_seq=4)] == [5, 6, 1, 2, 3, 4]
    assert [r.seq for r in outbox.next_batch(3, after_seq=4, skip={5, 1})] == [6, 2, 3]
    outbox.mark_delivered(5, 0)
    outbox.replay(from_seq=5)
    assert [r.seq for r in outbox.next_batch(9, after_seq=4)] == [6, 1, 2, 3, 4, 5]


def test_kinds_that_the_broker_refuses_are_left_out(outbox: Outbox) -> None:
    """Held kinds do not block the others."""
    add(outbox, "a")
    outbox.append(id="g", kind="gap", make_payload=lambda _: b"")
    assert [r.kind for r in outbox.next_batch(9, kinds=("gap",))] == ["gap"]


def test_a_row_set_aside_is_kept_but_not_sent(outbox: Outbox) -> None:
    """It can be replayed once the broker takes it."""
    add(outbox, "a")
    outbox.set_aside(1, 0x95)
    assert outbox.next_batch(9) == []
    assert outbox.stats().set_aside == 1
    assert outbox.replay(from_seq=1) == 1
    assert len(outbox.next_batch(9)) == 1


def test_a_doubted_delivery_waits_again(outbox: Outbox) -> None:
    """Only delivered rows are concerned; the row goes out as it was, and not as backlog."""
    add(outbox, "a")
    add(outbox, "b")
    sent = outbox.next_batch(1)
    outbox.mark_delivered(1, 0)
    outbox.doubt([1, 2, 99])
    assert outbox.stats().delivered == 0
    assert outbox.next_batch(9)[0].payload == sent[0].payload
    assert [r.seq for r in outbox.next_batch(9)] == [1, 2]


def test_delivered_rows_are_forgotten_after_their_time(outbox: Outbox, clock: Clock) -> None:
    """72 hours after delivery, not earlier; undelivered rows never."""
    add(outbox, "a")
    add(outbox, "b")
    outbox.mark_delivered(1, 0)
    clock.now_ms += 71 * 3_600_000
    outbox.tend()
    assert outbox.stats().delivered == 1
    clock.now_ms += 2 * 3_600_000
    outbox.tend()
    stats = outbox.stats()
    assert (stats.delivered, stats.queued) == (0, 1)
    assert stats.oldest_queued_age_s == 73 * 3600


class TestQuota:
    """Over the quota, delivered rows go first; then the oldest queued ones, admitted in one gap."""

    def test_delivered_rows_go_first(self, path: Path, clock: Clock) -> None:
        """As long as delivered rows can make room, nothing undelivered is lost."""
        outbox = Outbox(path, quota_mb=0.5, clock=clock, make_gap=gap_payload)
        for number in range(600):
            seq = add(outbox, f"r{number}", size=2000)
            if number % 10:
                outbox.mark_delivered(seq, 0)
        stats = outbox.stats()
        assert stats.size_bytes <= 0.5 * 2**20
        assert (stats.dropped_over_quota, stats.queued) == (0, 60)
        outbox.close()

    def test_the_oldest_queued_rows_go_next_and_one_gap_counts_them(self, path: Path, clock: Clock) -> None:
        """Every number that is missing afterwards is covered by the gap."""
        outbox = Outbox(path, quota_mb=0.25, clock=clock, make_gap=gap_payload)
        for number in range(400):
            clock.now_ms += 1000
            add(outbox, f"r{number}", size=2000)
        stats = outbox.stats()
        rows = outbox.next_batch(1000)
        gaps = [msgspec.json.decode(r.payload) for r in rows if r.kind == "gap"]
        assert len(gaps) == 1
        assert stats.size_bytes <= 0.25 * 2**20
        assert gaps[0]["drop"]["count"] == stats.dropped_over_quota > 0
        present = {r.seq for r in rows}
        missing = set(range(1, outbox.last_seq + 1)) - present
        assert len(missing) == stats.dropped_over_quota
        assert (min(missing), max(missing)) == (gaps[0]["drop"]["first_seq"], gaps[0]["drop"]["last_seq"])
        outbox.close()

    def test_a_gap_that_went_out_is_not_changed_any_more(self, path: Path, clock: Clock) -> None:
        """What a consumer may have seen stays as it is; later drops get a gap of their own."""
        outbox = Outbox(path, quota_mb=0.25, clock=clock, make_gap=gap_payload)

        def overflow(name: str) -> list[bytes]:
            for number in range(200):
                add(outbox, f"{name}{number}", size=2000)
            return [r.payload for r in outbox.next_batch(1000) if r.kind == "gap"]

        first, both = overflow("a"), overflow("b")
        assert len(first) == 1
        assert len(both) == 2
        assert both[0] == first[0]
        outbox.close()


def test_many_threads_share_it(path: Path) -> None:
    """Appends from several threads beside a reader that marks: gapless, nothing lost."""
    outbox = Outbox(path, clock=SystemClock())
    seen: list[int] = []

    def produce(name: str) -> None:
        for number in range(40):
            add(outbox, f"{name}{number}")

    producers = [threading.Thread(target=produce, args=(name,)) for name in "abc"]
    for thread in producers:
        thread.start()
    while len(seen) < 120:
        batch = outbox.next_batch(7)
        outbox.mark_many([(r.seq, 0) for r in batch])
        seen += [r.seq for r in batch]
    for thread in producers:
        thread.join(10)
    outbox.close()
    assert sorted(seen) == list(range(1, 121))


def test_another_process_may_look_and_ask_for_a_replay(outbox: Outbox, path: Path, clock: Clock) -> None:
    """`look` touches nothing; a guest's replay is seen by the owner."""
    add(outbox, "a")
    add(outbox, "b")
    outbox.mark_delivered(1, 0)
    before = {f.name for f in path.parent.iterdir()}
    stats = look(path, clock=clock)
    assert (stats.queued, stats.delivered, stats.last_seq) == (1, 1, 2)
    assert {f.name for f in path.parent.iterdir()} == before
    guest = Outbox(path, clock=clock, guest=True)
    assert guest.replay(from_seq=1) == 1
    guest.close()
    assert {r.seq for r in outbox.next_batch(9)} == {1, 2}
    assert outbox.stats().queued == 2


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(
        st.one_of(st.just("append"), st.just("deliver"), st.just("crash"), st.just("purge")), max_size=30
    )
)
def test_any_history_of_crashes_keeps_ids_and_numbers_apart(
    tmp_path_factory: pytest.TempPathFactory, story: list[str]
) -> None:
    """A model of appends, deliveries, purges and reopenings: no number twice, no hole, none lost."""
    path = tmp_path_factory.mktemp("history") / "outbox.sqlite3"
    clock, given_out, delivered = Clock(), [], set()
    outbox = Outbox(path, clock=clock)
    for step in story:
        if step == "append":
            given_out.append(add(outbox, f"r{len(given_out)}"))
        elif step == "deliver":
            for r in outbox.next_batch(1):
                outbox.mark_delivered(r.seq, 0)
                delivered.add(r.seq)
        elif step == "purge":
            outbox.purge()
        else:
            outbox._disk._db.close()  # no goodbye: as a killed process leaves it
            outbox = Outbox(path, clock=clock)
    assert given_out == list(range(1, len(given_out) + 1))
    assert {r.seq for r in outbox.next_batch(100)} == set(given_out) - delivered
    outbox.close()
