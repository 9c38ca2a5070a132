"""The durable queue: what is appended here reaches the broker, or a gap says that it did not.

`append` returns when the row would survive a power cut. A disk that is full, read-only or broken never
stops the caller: rows then wait in memory (flagged in `stats`) and are written down when the disk is back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

from edge_agent.clock import Clock, uuid7
from edge_agent.errors import OutboxError
from edge_agent.outbox import policy, salvage
from edge_agent.outbox.ballast import Ballast
from edge_agent.outbox.database import Database
from edge_agent.outbox.memory import MemoryLane
from edge_agent.outbox.rows import Drop, GapMaker, OutboxStats, Row, RowKind, StoreFault

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

ALL_KINDS = ("final", "gap")
_RETRY_NS = 1_000_000_000
_RETENTION_NS = 60_000_000_000


class Outbox:
    """Thread-safe. One agent owns a path; readers and the outbox verb may look in from other processes.

    Args:
        path: the SQLite file; its directory is made with mode 0700.
        quota_mb: size over which delivered rows, then the oldest queued ones, are given up.
        keep_delivered_h: how long delivered rows stay for replay.
        clock: wall and monotonic time.
        make_gap: builds the gap that admits dropped rows; without it they are only counted.
    """

    def __init__(
        self,
        path: Path,
        *,
        quota_mb: float = 256,
        keep_delivered_h: float = 72,
        clock: Clock,
        make_gap: GapMaker | None = None,
    ) -> None:
        self._path, self._clock, self._make_gap = path, clock, make_gap
        self._quota_bytes = round(quota_mb * 1024 * 1024)
        self._keep_delivered_h = keep_delivered_h
        self._lock = threading.RLock()
        self._memory = MemoryLane()
        self._ballast = Ballast(path.with_name(path.name + ".ballast"))
        self._db: Database | None = None
        self._fault = ""
        self._retry_at_ns = 0
        self._retention_at_ns = 0
        self._last_seq = 0
        self._dropped_in_memory = 0
        self._corrupt_files = 0
        self._open_gap: tuple[int, str, Drop] | None = None
        self._open()

    # -- the agent's side ---------------------------------------------------------------------------------

    def append(self, *, id: str, kind: RowKind, make_payload: Callable[[int], bytes]) -> int:  # noqa: A002 - the row's id
        """Commit one row and return its seq.

        Args:
            id: idempotency key; a second row with the same id is refused.
            kind: "final" or "gap".
            make_payload: called with the seq inside the transaction; when it raises, no seq is used up.

        Raises:
            OutboxError: the id is already stored.
        """
        with self._lock:
            try:
                seq = self._durably(lambda db: self._append_row(db, id, kind, make_payload))
            except StoreFault as fault:
                self._note(fault)
                return self._append_memory(id, kind, make_payload)
            self._last_seq = seq
            self._keep_quota()
            return seq

    def _append_row(self, db: Database, id: str, kind: RowKind, make_payload: Callable[[int], bytes]) -> int:  # noqa: A002
        with db.transaction():
            if db.has_id(id):
                raise OutboxError(
                    f"the outbox already holds the message {id}", remedy="give each message its own id"
                )
            seq = max(db.last_seq(), self._last_seq) + 1
            db.insert([self._row(seq, id, kind, make_payload(seq))])
            db.set_last_seq(seq)
        return seq

    def _append_memory(self, id: str, kind: RowKind, make_payload: Callable[[int], bytes]) -> int:  # noqa: A002
        seq = self._last_seq + 1
        row = self._row(seq, id, kind, make_payload(seq))
        self._last_seq = seq
        lost = self._memory.add(row)
        if lost:
            self._dropped_in_memory += len(lost)
            self._admit(policy.drop_of([(r.seq, r.created_utc_ms) for r in lost]))
        return seq

    def _row(self, seq: int, id: str, kind: RowKind, payload: bytes) -> Row:  # noqa: A002
        return Row(seq=seq, id=id, kind=kind, payload=payload, created_utc_ms=self._clock.utc_ms())

    # -- the courier's side -------------------------------------------------------------------------------

    def next_batch(
        self,
        limit: int,
        *,
        after_seq: int = 0,
        skip: Collection[int] = (),
        kinds: Collection[str] = ALL_KINDS,
    ) -> list[Row]:
        """Undelivered rows to send next: those above `after_seq` (live) first, then the backlog.

        Args:
            limit: at most so many.
            after_seq: the last seq that existed when the connection was made.
            skip: rows on their way.
            kinds: kinds the broker takes at the moment.
        """
        with self._lock:
            unseen = {*skip, *self._memory.marks}
            wanted = limit + len(unseen)
            try:
                live, backlog = self._readable(
                    lambda db: (
                        db.read_live(after_seq, wanted, kinds),
                        db.read_backlog(after_seq, wanted, kinds),
                    )
                ) or ([], [])
            except StoreFault as fault:
                self._note(fault)
                live, backlog = [], []
            chosen = policy.order([*live, *self._memory.queued(kinds)], backlog, limit, unseen)
            if self._open_gap and any(row.seq == self._open_gap[0] for row in chosen):
                self._open_gap = None  # it is being read: from now on it must stay as it is
            return chosen

    def mark_delivered(self, seq: int, reason_code: int) -> None:
        """The broker took a row."""
        self.mark_many([(seq, reason_code)])

    def mark_many(self, marks: Sequence[tuple[int, int]]) -> None:
        """The broker took rows: (seq, reason code) pairs, in one transaction."""
        now = self._clock.utc_ms()
        with self._lock:
            on_disk = [(seq, code, now) for seq, code in marks if seq not in self._memory.rows]
            try:
                self._durably(lambda db: _in_transaction(db, lambda: db.mark_delivered(on_disk)))
            except StoreFault as fault:
                self._note(fault)
                for seq, code in marks:
                    self._memory.mark(seq, code, now)
                return
            for seq, code in marks:
                if seq in self._memory.rows:
                    self._memory.mark(seq, code, now)

    def set_aside(self, seq: int, reason_code: int) -> None:
        """The broker can never take this row: keep it, do not send it."""
        self._try(lambda db: _in_transaction(db, lambda: db.set_aside(seq, reason_code)))

    def count_attempts(self, seqs: Collection[int], reason_code: int | None = None) -> None:
        """Rows were sent and not accepted."""
        if seqs:
            self._try(lambda db: _in_transaction(db, lambda: db.count_attempts(seqs, reason_code)))

    def tend(self) -> None:
        """Once a second: return to the disk when it is back, hold the ballast, forget what is old."""
        now = self._clock.monotonic_ns()
        with self._lock:
            if self._fault and now >= self._retry_at_ns:
                self._try(lambda _: None)
            if now >= self._retention_at_ns and not self._fault:
                self._retention_at_ns = now + _RETENTION_NS
                before = policy.expired_before(self._clock.utc_ms(), self._keep_delivered_h)
                self._try(lambda db: _in_transaction(db, lambda: db.delete_delivered_before(before)))
                self._ballast.take()

    @property
    def last_seq(self) -> int:
        """The highest number ever given."""
        return self._last_seq

    # -- the operator's side --------------------------------------------------------------------------------

    def stats(self) -> OutboxStats:
        """How it stands; costs a count over the rows."""
        with self._lock:
            try:
                counts = self._readable(lambda db: (db.counts(), db.used_bytes(), db.dropped()))
            except StoreFault as fault:
                self._note(fault)
                counts = None
            (queued, delivered, aside, oldest), used, dropped = counts or ((0, 0, 0, None), 0, 0)
            waiting = self._memory.queued(ALL_KINDS)
            times = [t for t in (oldest, *(r.created_utc_ms for r in waiting[:1])) if t is not None]
            age_s = max(0.0, (self._clock.utc_ms() - min(times)) / 1000) if times else 0.0
            marked = len(self._memory.marks)
            return OutboxStats(
                queued=max(0, queued - marked) + len(waiting),
                delivered=delivered + marked + len(self._memory.rows) - len(waiting),
                set_aside=aside,
                in_memory=len(self._memory.rows),
                oldest_queued_age_s=round(age_s, 3),
                size_bytes=used,
                dropped_over_quota=dropped + self._dropped_in_memory,
                last_seq=self._last_seq,
                state="memory" if self._fault else "durable",
                fault=self._fault,
                corrupt_files=self._corrupt_files,
            )

    def replay(self, *, since_utc_ms: int | None = None, from_seq: int | None = None) -> int:
        """Queue rows again that were made at or after a time, or from a seq on; how many.

        Raises:
            OutboxError: the disk takes no writes.
        """
        with self._lock:
            return self._durably(
                lambda db: _in_transaction(
                    db, lambda: db.requeue(since_utc_ms=since_utc_ms, from_seq=from_seq)
                )
            )

    def purge(self, *, delivered_only: bool = True) -> int:
        """Forget rows now; how many. The numbering goes on.

        Raises:
            OutboxError: the disk takes no writes.
        """
        with self._lock:
            return self._durably(
                lambda db: _in_transaction(db, lambda: db.delete_all(delivered_only=delivered_only))
            )

    def close(self) -> None:
        """Write down what can be, and close."""
        with self._lock:
            if self._memory:
                self._try(lambda _: None)
            if self._memory.rows:
                _log.error("%d rows were lost with the process: %s", len(self._memory.rows), self._fault)
            if self._db is not None:
                self._db.close()
                self._db = None

    # -- faults -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            self._note(StoreFault("read_only", f"{self._path.parent} cannot be made: {error.strerror}"))
            return
        try:
            self._durably(lambda _: None)
        except StoreFault as fault:
            self._note(fault)
        else:
            self._ballast.take()

    def _try(self, action: Callable[[Database], object]) -> None:
        with self._lock:
            try:
                self._durably(action)
            except StoreFault as fault:
                self._note(fault)

    def _durably(self, action: Callable[[Database], _T]) -> _T:
        """Run `action` on a database that takes writes, helping it over what can be helped.

        Raises:
            StoreFault: nothing helps at the moment.
        """
        if self._fault and self._clock.monotonic_ns() < self._retry_at_ns:
            raise StoreFault("io", self._fault)
        for _ in range(4):
            try:
                db = self._writable()
                if self._memory:
                    self._flush_memory(db)
                result = action(db)
            except StoreFault as fault:
                if not self._help(fault):
                    raise
            else:
                self._recovered()
                return result
        raise StoreFault("io", "the outbox database keeps failing")

    def _writable(self) -> Database:
        if self._db is not None and self._db.read_only:
            self._db.close()
            self._db = None
        if self._db is None:
            self._db = Database(self._path)
            self._last_seq = max(self._last_seq, self._db.last_seq())
        return self._db

    def _readable(self, action: Callable[[Database], _T]) -> _T | None:
        if self._db is None:
            if self._fault and self._path.exists():
                self._db = Database(self._path, read_only=True)
                self._last_seq = max(self._last_seq, self._db.last_seq())
            else:
                return None
        return action(self._db)

    def _help(self, fault: StoreFault) -> bool:
        """True when another try may succeed."""
        if fault.kind == "full":
            return self._ballast.release() or self._free_delivered()
        if fault.kind == "corrupt":
            self._set_store_aside(fault)
            return True
        if self._db is not None and fault.kind != "busy":
            self._db.close()
            self._db = None
        return False

    def _free_delivered(self) -> bool:
        if self._db is None or self._db.read_only:
            return False
        try:
            before = self._db.counts()[1]
            with self._db.transaction():
                self._db.delete_oldest_delivered(max(16, before // 10))
        except StoreFault:
            return False
        return before > 0

    def _set_store_aside(self, fault: StoreFault) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        self._corrupt_files += 1
        kept = salvage.set_aside(self._path, self._clock.utc_ms())
        _log.error("%s; it was set aside as %s and a new one begun", fault.cause, kept)
        self._db = Database(self._path)
        self._last_seq = salvage.copy(kept, self._db, self._last_seq)

    def _flush_memory(self, db: Database) -> None:
        memory = self._memory
        with db.transaction():
            db.insert(list(memory.rows.values()))
            db.mark_delivered([(seq, code, at) for seq, (code, at) in memory.marks.items()])
            db.add_dropped(self._dropped_in_memory)
            db.set_last_seq(max(self._last_seq, db.last_seq()))
        memory.clear()
        self._dropped_in_memory = 0

    def _note(self, fault: StoreFault) -> None:
        if not self._fault:
            _log.error("%s; transcripts wait in memory", fault)
        self._fault = fault.cause
        self._retry_at_ns = self._clock.monotonic_ns() + _RETRY_NS

    def _recovered(self) -> None:
        if self._fault:
            _log.warning("the outbox is durable again")
            self._fault = ""

    # -- quota --------------------------------------------------------------------------------------------

    def _keep_quota(self) -> None:
        db = self._db
        if db is None:
            return
        try:
            used = db.used_bytes()
            if used <= self._quota_bytes:
                return
            queued, delivered, aside, _ = db.counts()
            plan = policy.eviction(
                policy.Usage(
                    used_bytes=used,
                    quota_bytes=self._quota_bytes,
                    delivered=delivered,
                    queued=queued + aside,
                )
            )
            lost = self._evict(db, plan)
        except StoreFault as fault:
            self._note(fault)
            return
        if lost:
            _log.error("over the quota: %d undelivered rows were dropped", len(lost))
            self._admit(policy.drop_of(lost))

    def _evict(self, db: Database, plan: policy.Eviction) -> list[tuple[int, int]]:
        with db.transaction():
            db.delete_oldest_delivered(plan.delivered)
            lost = db.take_oldest_queued(plan.queued, self._open_gap[0] if self._open_gap else None)
            db.add_dropped(len(lost))
        return lost

    def _admit(self, drop: Drop) -> None:
        """One gap for all that was dropped since the last such gap was sent."""
        make_gap = self._make_gap
        if make_gap is None:
            return
        if self._open_gap is not None:
            seq, gap_id, earlier = self._open_gap
            merged = policy.merge(earlier, drop)
            payload = make_gap(seq, gap_id, merged)
            self._open_gap = (seq, gap_id, merged)
            held = self._memory.rows.get(seq)
            if held is not None:
                self._memory.rows[seq] = self._row(seq, gap_id, "gap", payload)
            else:
                self._try(lambda db: _in_transaction(db, lambda: db.replace_payload(seq, payload)))
            return
        gap_id = uuid7(self._clock.utc_ms())
        seq = self.append(id=gap_id, kind="gap", make_payload=lambda number: make_gap(number, gap_id, drop))
        self._open_gap = (seq, gap_id, drop)


def _in_transaction(db: Database, action: Callable[[], _T]) -> _T:
    with db.transaction():
        return action()
