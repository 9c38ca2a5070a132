"""The database while the disk lasts, and memory while it does not: which of them serves, and the way back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge_agent.clock import Clock
from edge_agent.outbox import salvage
from edge_agent.outbox.ballast import Ballast
from edge_agent.outbox.database import Database
from edge_agent.outbox.mark import Mark
from edge_agent.outbox.memory import MemoryLane
from edge_agent.outbox.rows import StoreFault

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_RETRY_NS = 1_000_000_000
_TRIES = 4  # ballast, then delivered rows, then one damaged file, each answered with one more try


class Disk:
    """Not locked: the Outbox serialises its callers.

    Args:
        path: the SQLite file.
        clock: paces the tries after a fault.
        guest: another process owns the file: report faults, repair nothing.
    """

    def __init__(self, path: Path, *, clock: Clock, guest: bool = False) -> None:
        self.memory = MemoryLane()
        self.dropped = 0
        """Rows given up that the database does not count yet."""
        self.fault = ""
        """Why the disk takes no rows; empty when it does."""
        self.corrupt_files = 0
        self._path, self._clock, self._guest = path, clock, guest
        self._ballast = Ballast(path.with_name(path.name + ".ballast"))
        self._mark = Mark(path.with_name(path.name + ".seq"))
        self._last_seq = 0 if guest else self._mark.read()
        self._db: Database | None = None
        self._retry_at_ns = 0

    @property
    def last_seq(self) -> int:
        """The highest number ever given, on disk or in memory."""
        return self._last_seq

    @last_seq.setter
    def last_seq(self, seq: int) -> None:
        if not self._guest and seq > self._last_seq:
            self._mark.write(seq)
        self._last_seq = seq

    def write(self, action: Callable[[Database], _T], *, durable: bool = True) -> _T:
        """Run `action` in a transaction, durable when this returns; rows in memory are written down first.

        With `durable` false, a power cut (not the end of the process) may undo what `action` did.

        Raises:
            StoreFault: the disk takes nothing at the moment. What `action` raises itself comes through.
        """
        if self.fault and self._clock.monotonic_ns() < self._retry_at_ns:
            raise StoreFault("io", self.fault)
        for _ in range(_TRIES):
            try:
                db = self._writable()
                waiting = self.memory or self.dropped
                with db.transaction(durable=durable or bool(waiting)):
                    if waiting:
                        self._write_memory(db)
                    result = action(db)
            except StoreFault as fault:
                if self._help(fault):
                    continue
                self._note(fault)
                raise
            self._is_well()
            return result
        failing = StoreFault("io", "the outbox database keeps failing")
        self._note(failing)
        raise failing

    def try_write(self, action: Callable[[Database], object], *, durable: bool = True) -> bool:
        """As `write`; False instead of a fault."""
        try:
            self.write(action, durable=durable)
        except StoreFault:
            return False
        return True

    def read(self, action: Callable[[Database], _T]) -> _T | None:
        """Run a reading `action`; None when the database cannot be read."""
        for _ in range(_TRIES):
            try:
                if self._db is None:
                    if not self.fault or not self._path.exists():
                        return None
                    self._db = Database(self._path, read_only=True)
                    self.last_seq = max(self.last_seq, self._db.last_seq())
                return action(self._db)
            except StoreFault as fault:
                if not self._help(fault):
                    self._note(fault)
                    return None
        return None

    @property
    def retry_due(self) -> bool:
        """Time to see whether the disk is back."""
        return bool(self.fault) and self._clock.monotonic_ns() >= self._retry_at_ns

    def hold_ballast(self) -> None:
        """Reserve space for bad times, if the disk has some to spare."""
        if not self._guest:
            self._ballast.take()

    @property
    def reserve_held(self) -> bool:
        """Is that space there."""
        return self._guest or self._ballast.held

    def close(self) -> None:
        """Write down what can be, and close."""
        if self.memory:
            self.try_write(lambda _: None)
        if self.memory.rows:
            _log.error("%d rows end with the process: %s", len(self.memory.rows), self.fault)
        self._drop_connection()

    def _writable(self) -> Database:
        if self._db is not None and self._db.read_only:
            self._drop_connection()
        if self._db is None:
            self._db = Database(self._path)
            self.last_seq = max(self.last_seq, self._db.last_seq())
        return self._db

    def _write_memory(self, db: Database) -> None:
        db.insert(list(self.memory.rows.values()))
        db.mark_delivered([(seq, code, at) for seq, (code, at) in self.memory.marks.items()])
        db.finish(self.memory.finished)
        db.add_dropped(self.dropped)
        db.set_last_seq(max(self.last_seq, db.last_seq()))

    def _help(self, fault: StoreFault) -> bool:
        """True when another try may succeed."""
        if self._guest:
            return False
        if fault.kind == "full":
            if self._ballast.release():
                _log.warning("the disk is full; the space held back for that is in use now")
                return True
            return self._free_delivered()
        if fault.kind == "corrupt":
            return self._replace(fault)
        if fault.kind != "busy":
            self._drop_connection()
        return False

    def _free_delivered(self) -> bool:
        if self._db is None or self._db.read_only:
            return False
        try:
            delivered = self._db.counts().delivered
            with self._db.transaction():
                self._db.delete_oldest_delivered(max(16, delivered // 10))
        except StoreFault:
            return False
        return delivered > 0

    def _replace(self, fault: StoreFault) -> bool:
        """Set the damaged store aside and begin a new one with what can be read of it."""
        self._drop_connection()
        try:
            kept = salvage.set_aside(self._path, self._clock.utc_ms())
            self.corrupt_files += 1
            self._db = Database(self._path)
            self.last_seq = salvage.copy(kept, self._db, self.last_seq)
        except StoreFault as second:
            _log.error("%s; and then %s", fault.cause, second.cause)
            return False
        _log.error("%s; set aside as %s, a new one begun", fault.cause, kept.name)
        return True

    def _drop_connection(self) -> None:
        self._mark.close()
        if self._db is not None:
            self._db.close()
            self._db = None

    def _note(self, fault: StoreFault) -> None:
        if not self.fault and not self._guest:
            _log.error("%s; transcripts wait in memory", fault.cause)
        self.fault = fault.cause
        self._retry_at_ns = self._clock.monotonic_ns() + _RETRY_NS

    def _is_well(self) -> None:
        self.memory.clear()
        self.dropped = 0
        if self.fault:
            _log.warning("the outbox is on disk again")
            self.fault = ""
