"""The durable queue: what is appended here reaches the broker, or a gap says that it did not.

`append` returns when the row would survive a power cut. A disk that is full, read-only or broken never
stops the caller: rows then wait in memory (flagged in `stats`) and are written down when the disk is back.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from edge_agent.clock import Clock, uuid7
from edge_agent.errors import OutboxError
from edge_agent.outbox import policy
from edge_agent.outbox.database import Counts, Database
from edge_agent.outbox.disk import Disk
from edge_agent.outbox.rows import Drop, GapMaker, OutboxStats, Row, RowKind, StoreFault, Unfinished

_log = logging.getLogger(__name__)

_KINDS = ("final", "gap")
_RETENTION_NS = 60_000_000_000
_LATE = 64


class Outbox:
    """Thread-safe. One agent owns a path; the outbox verb may look in and ask for a replay meanwhile.

    A row that had to wait in memory keeps its seq. If the process dies before the disk is back, that row is
    lost and its seq is given again: only the database remembers.

    Args:
        path: the SQLite file; its directory is made with mode 0700 when it is missing.
        quota_mb: size over which delivered rows, then the oldest queued ones, are given up.
        keep_delivered_h: how long delivered rows stay for replay.
        clock: wall and monotonic time.
        make_gap: builds the gap that admits dropped rows; without it they are only counted.
        guest: another process owns the file: faults raise, nothing is repaired or given up.
    """

    def __init__(
        self,
        path: Path,
        *,
        quota_mb: float = 256,
        keep_delivered_h: float = 72,
        clock: Clock,
        make_gap: GapMaker | None = None,
        guest: bool = False,
    ) -> None:
        self._clock, self._make_gap, self._guest = clock, make_gap, guest
        self._quota_bytes = round(quota_mb * 1024 * 1024)
        self._keep_delivered_h = keep_delivered_h
        self._lock = threading.RLock()
        self._retention_at_ns = 0
        self._open_gap: tuple[int, str, Drop] | None = None
        self._owed: list[Drop] = []
        self._noted: dict[str, Unfinished] = {}  # as they are on disk
        self._finished: deque[str] = deque(maxlen=_LATE)  # a note of them would come too late
        self._disk = Disk(path, clock=clock, guest=guest)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            _log.error("%s cannot be made: %s", path.parent, error.strerror)
        if self._disk.try_write(lambda _: None):
            self._disk.hold_ballast()
        elif guest:
            raise OutboxError(self._disk.fault, remedy="stop the agent, or look at the disk")
        else:
            self._disk.read(lambda _: None)

    # -- the agent's side ---------------------------------------------------------------------------------

    def append(self, *, id: str, kind: RowKind, make_payload: Callable[[int], bytes]) -> int:  # noqa: A002 - the row's id
        """Commit one row and return its seq.

        Args:
            id: idempotency key; a second row with the same id is refused.
            kind: "final" or "gap".
            make_payload: called with the seq, inside the transaction; when it raises, no seq is used up. On
                a failing disk it may be called again.

        Raises:
            OutboxError: the id is already stored.
        """
        with self._lock:
            try:
                seq = self._disk.write(lambda db: self._append_row(db, id, kind, make_payload))
            except StoreFault:
                return self._append_to_memory(id, kind, make_payload)
            self._disk.last_seq = seq
            self._end(id)
            self._keep_quota()
            return seq

    def _append_row(
        self,
        db: Database,
        id: str,  # noqa: A002 - the row's id
        kind: RowKind,
        make_payload: Callable[[int], bytes],
    ) -> int:
        if db.has_id(id):
            raise _known(id)
        seq = max(db.last_seq(), self._disk.last_seq) + 1
        db.insert([self._row(seq, id, kind, make_payload(seq))])
        db.finish([id])
        db.set_last_seq(seq)
        return seq

    def _append_to_memory(
        self,
        id: str,  # noqa: A002 - the row's id
        kind: RowKind,
        make_payload: Callable[[int], bytes],
    ) -> int:
        disk = self._disk
        if any(row.id == id for row in disk.memory.rows.values()) or disk.read(lambda db: db.has_id(id)):
            raise _known(id)
        seq = disk.last_seq + 1
        row = self._row(seq, id, kind, make_payload(seq))
        disk.last_seq = seq
        self._end(id)
        disk.memory.finished.append(id)
        lost = disk.memory.add(row, keep=self._open_gap[0] if self._open_gap else None)
        if lost:
            disk.dropped += len(lost)
            self._owe(policy.drop_of([(r.seq, r.created_utc_ms) for r in lost]))
        return seq

    def _row(self, seq: int, id: str, kind: RowKind, payload: bytes) -> Row:  # noqa: A002 - the row's id
        return Row(seq=seq, id=id, kind=kind, payload=payload, created_utc_ms=self._clock.utc_ms())

    # -- utterances without an end ------------------------------------------------------------------------

    def note(self, notes: Sequence[Unfinished]) -> None:
        """Remember what is being said, so that an utterance in which the process dies can be admitted.

        `append` under the same id, or `forget`, ends it. A failing disk takes no note; tell it again.
        """
        with self._lock:
            changed = [n for n in notes if self._noted.get(n.id) != n and n.id not in self._finished]
            if changed and not self._disk.fault and self._disk.try_write(lambda db: db.note(changed)):
                self._noted.update((n.id, n) for n in changed)

    def forget(self, id: str) -> None:  # noqa: A002 - the row's id
        """The utterance ended without a message."""
        with self._lock:
            noted = self._end(id)
            if noted and not self._disk.try_write(lambda db: db.finish([id])):
                self._disk.memory.finished.append(id)

    def _end(self, id: str) -> bool:  # noqa: A002 - the row's id
        self._finished.append(id)
        return self._noted.pop(id, None) is not None

    def unfinished(self) -> list[Unfinished]:
        """Utterances without an end, oldest first: at the start those in which the last process died."""
        with self._lock:
            # Damage may have brought back the note of one that ended; it has its row.
            found = self._disk.read(lambda db: [n for n in db.unfinished() if not db.has_id(n.id)]) or []
            self._noted.update((note.id, note) for note in found)
            return found

    # -- the courier's side -------------------------------------------------------------------------------

    def next_batch(
        self,
        limit: int,
        *,
        after_seq: int = 0,
        skip: Collection[int] = (),
        kinds: Collection[str] = _KINDS,
    ) -> list[Row]:
        """Undelivered rows to send next: those above `after_seq` (live) first, then the backlog.

        Args:
            limit: at most so many.
            after_seq: the last seq that existed when the connection was made.
            skip: rows on their way.
            kinds: kinds the broker takes at the moment.
        """
        with self._lock:
            memory = self._disk.memory
            unseen = {*skip, *memory.marks}
            wanted = limit + len(unseen)
            live, backlog = self._disk.read(
                lambda db: (
                    db.read_live(after_seq, wanted, kinds),
                    db.read_backlog(after_seq, wanted, kinds),
                )
            ) or ([], [])
            chosen = policy.order([*live, *memory.queued(kinds)], backlog, limit, unseen)
            if self._open_gap and any(row.seq == self._open_gap[0] for row in chosen):
                self._open_gap = None  # it goes out: from now on it must stay as it is
            return chosen

    def mark_delivered(self, seq: int, reason_code: int) -> None:
        """The broker took a row."""
        self.mark_many([(seq, reason_code)])

    def mark_many(self, marks: Sequence[tuple[int, int]]) -> None:
        """The broker took rows: (seq, reason code) pairs, in one transaction.

        A mark that a power cut undoes costs a repetition, no row: it waits for no sync. So a backlog drains
        at the speed of the link, whatever the disk, and few rows are on the way when the process is killed.
        """
        now = self._clock.utc_ms()
        with self._lock:
            triples = [(seq, code, now) for seq, code in marks]
            if not self._disk.try_write(lambda db: db.mark_delivered(triples), durable=False):
                for seq, code, at in triples:
                    self._disk.memory.mark(seq, code, at)

    def set_aside(self, seq: int, reason_code: int) -> None:
        """The broker can never take this row: keep it, do not send it."""
        with self._lock:
            self._disk.try_write(lambda db: db.set_aside(seq, reason_code))

    def count_attempts(self, seqs: Collection[int], reason_code: int | None = None) -> None:
        """Rows were sent and not accepted."""
        with self._lock:
            if seqs:
                self._disk.try_write(lambda db: db.count_attempts(seqs, reason_code))

    def doubt(self, seqs: Collection[int]) -> None:
        """Delivered rows that the broker may have lost: queue them again."""
        with self._lock:
            if seqs and self._disk.try_write(lambda db: db.doubt(seqs)):
                return
            for seq in seqs:
                self._disk.memory.unmark(seq)

    def tend(self) -> None:
        """Once a second: return to the disk when it is back, forget what is old, hold the ballast."""
        now = self._clock.monotonic_ns()
        with self._lock:
            if self._disk.retry_due:
                self._disk.try_write(lambda _: None)
            if now >= self._retention_at_ns and not self._disk.fault:
                self._retention_at_ns = now + _RETENTION_NS
                before = policy.expired_before(self._clock.utc_ms(), self._keep_delivered_h)
                if self._disk.read(lambda db: db.has_delivered_before(before)):
                    self._disk.try_write(lambda db: db.delete_delivered_before(before))
            self._disk.hold_ballast()

    @property
    def last_seq(self) -> int:
        """The highest number ever given."""
        return self._disk.last_seq

    # -- the operator's side --------------------------------------------------------------------------------

    def stats(self) -> OutboxStats:
        """How it stands."""
        with self._lock:
            disk, now = self._disk, self._clock.utc_ms()
            counts = disk.read(lambda db: db.counts()) or Counts()
            waiting = disk.memory.queued(_KINDS)
            ages = [counts.oldest_queued_utc_ms, *(row.created_utc_ms for row in waiting[:1])]
            oldest = min((at for at in ages if at is not None), default=now)
            marked = len(disk.memory.marks)
            return OutboxStats(
                queued=max(0, counts.queued - marked) + len(waiting),
                delivered=counts.delivered + marked + len(disk.memory.rows) - len(waiting),
                set_aside=counts.set_aside,
                in_memory=len(disk.memory.rows),
                oldest_queued_age_s=max(0.0, (now - oldest) / 1000),
                size_bytes=counts.used_bytes,
                dropped_over_quota=counts.dropped + disk.dropped,
                last_seq=max(disk.last_seq, counts.last_seq),
                state="memory" if disk.fault else "durable",
                fault=disk.fault,
                corrupt_files=disk.corrupt_files,
                reserve_held=disk.reserve_held,
            )

    def replay(self, *, since_utc_ms: int | None = None, from_seq: int | None = None) -> int:
        """Queue rows again that were made at or after a time, or from a seq on; how many.

        Raises:
            OutboxError: the disk takes no writes.
        """
        with self._lock:
            return self._disk.write(lambda db: db.requeue(since_utc_ms=since_utc_ms, from_seq=from_seq))

    def purge(self, *, delivered_only: bool = True) -> int:
        """Forget rows now; how many. The numbering goes on.

        Raises:
            OutboxError: the disk takes no writes.
        """
        with self._lock:
            return self._disk.write(lambda db: db.delete_all(delivered_only=delivered_only))

    def close(self) -> None:
        """Write down what can be, and close."""
        with self._lock:
            self._disk.close()

    # -- quota --------------------------------------------------------------------------------------------

    def _keep_quota(self) -> None:
        used = self._disk.read(lambda db: db.used_bytes())
        if used is None or used <= self._quota_bytes:
            return
        try:
            lost = self._disk.write(self._evict)
        except StoreFault:
            return
        if lost:
            if self._open_gap is None:
                _log.error("the outbox is over its quota: undelivered messages are being dropped")
            self._owe(policy.drop_of(lost))

    def _evict(self, db: Database) -> list[tuple[int, int]]:
        counts = db.counts()
        plan = policy.eviction(
            policy.Usage(
                used_bytes=counts.used_bytes,
                quota_bytes=self._quota_bytes,
                delivered=counts.delivered,
                queued=counts.queued + counts.set_aside,
            )
        )
        db.delete_oldest_delivered(plan.delivered)
        lost = db.take_oldest_queued(plan.queued, self._open_gap[0] if self._open_gap else None)
        db.add_dropped(len(lost))
        return lost

    def _owe(self, drop: Drop) -> None:
        """Rows were given up: admit them in a gap. Making that gap may cost rows too, so this loops."""
        if self._make_gap is None:
            return
        self._owed.append(drop)
        if len(self._owed) == 1:  # else the caller below us is at it
            try:
                while self._owed:
                    self._admit(self._make_gap, self._owed[0])
                    del self._owed[0]
            finally:
                self._owed.clear()

    def _admit(self, make_gap: GapMaker, drop: Drop) -> None:
        """One gap for all that was dropped since the last such gap went out."""
        if self._open_gap is None:
            gap_id = uuid7(self._clock.utc_ms())
            seq = self.append(id=gap_id, kind="gap", make_payload=lambda given: make_gap(given, gap_id, drop))
            self._open_gap = (seq, gap_id, drop)
            return
        seq, gap_id, earlier = self._open_gap
        merged = policy.merge(earlier, drop)
        payload = make_gap(seq, gap_id, merged)
        self._open_gap = (seq, gap_id, merged)
        if not self._disk.memory.replace_payload(seq, payload):
            self._disk.try_write(lambda db: db.replace_payload(seq, payload))


def look(path: Path, *, clock: Clock) -> OutboxStats:
    """How the outbox of a running or stopped agent stands, read without touching it.

    Raises:
        OutboxError: it cannot be read.
    """
    db = Database(path, read_only=True)
    try:
        counts = db.counts()
    finally:
        db.close()
    age_ms = 0 if counts.oldest_queued_utc_ms is None else clock.utc_ms() - counts.oldest_queued_utc_ms
    return OutboxStats(
        queued=counts.queued,
        delivered=counts.delivered,
        set_aside=counts.set_aside,
        in_memory=0,
        oldest_queued_age_s=max(0.0, age_ms / 1000),
        size_bytes=counts.used_bytes,
        dropped_over_quota=counts.dropped,
        last_seq=counts.last_seq,
        state="durable",
        fault="",
        corrupt_files=0,
    )


def _known(id: str) -> OutboxError:  # noqa: A002 - the row's id
    return OutboxError(f"the outbox already holds the message {id}", remedy="give each message its own id")
