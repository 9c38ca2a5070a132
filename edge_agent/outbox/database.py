"""The SQLite file of the outbox: the only SQL of the project.

WAL with synchronous=FULL: a commit survives a power cut. The small auto-checkpoint keeps the WAL so short
that a full disk can be drained. Every sqlite3 error leaves as a StoreFault.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_agent.outbox.rows import FaultKind, Row, StoreFault, Unfinished, row_of
from edge_agent.types import Value

SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 2.0  # less than a thread may stand still before it counts as hung
_PROBED = 200_000  # numbers asked for one by one in a damaged store: 72 h of finals, about a second
_SCHEMA = """
CREATE TABLE rows (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  payload BLOB NOT NULL,
  created_utc_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  delivered_utc_ms INTEGER,
  reason INTEGER,
  state TEXT NOT NULL DEFAULT 'queued',
  replayed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX queued ON rows (seq) WHERE state = 'queued';
CREATE INDEX aside ON rows (seq) WHERE state = 'aside';
CREATE INDEX delivered ON rows (delivered_utc_ms) WHERE state = 'delivered';
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('last_seq', 0), ('dropped', 0);
PRAGMA user_version = 1;
"""
_LATER = (
    "CREATE TABLE IF NOT EXISTS unfinished (id TEXT PRIMARY KEY, start_utc_ms INTEGER, duration_ms INTEGER)"
)
_DAMAGE = (sqlite3.Error, UnicodeDecodeError)  # the latter for flipped bits in a text or a column's name
_KINDS: dict[int, FaultKind] = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_CANTOPEN: "read_only",
    sqlite3.SQLITE_PERM: "read_only",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
}


class Counts(Value, frozen=True):
    """Fill of the database."""

    queued: int = 0
    delivered: int = 0
    set_aside: int = 0
    oldest_queued_utc_ms: int | None = None
    used_bytes: int = 0
    dropped: int = 0
    last_seq: int = 0


class Database:
    """One connection. Not locked: the Outbox serialises its callers."""

    def __init__(self, path: Path, *, read_only: bool = False, check: bool = True) -> None:
        """Open the file, make it when it is missing, and check it when it was not closed cleanly.

        Raises:
            StoreFault: also when the file is damaged or of a newer version.
        """
        self.path, self.read_only = path, read_only
        self._counted: tuple[tuple[int, int], Counts] | None = None
        unclean = path.with_name(path.name + "-wal").exists() and not read_only
        self._db = _connect(path, read_only=read_only)
        try:
            with _translated():
                self._prepare(check=check and unclean)
        except StoreFault:
            self.close()
            raise

    def _prepare(self, *, check: bool) -> None:
        db = self._db
        if not self.read_only:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA wal_autocheckpoint = 16")
            db.execute("PRAGMA secure_delete = FAST")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreFault("corrupt", f"{self.path} is of a newer version ({version})")
        if version == 0 and not self.read_only:
            with self.transaction():
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
        if not self.read_only:
            db.execute(_LATER)  # not in the schema: earlier versions made stores without it, and can use it
        if check:  # costs a read of the whole file, so only after an unclean end
            self._check()

    def _check(self) -> None:
        found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreFault("corrupt", f"{self.path}: {found}")

    def close(self) -> None:
        """Close; the last one out checkpoints and removes the WAL."""
        try:
            self._db.close()
        except sqlite3.Error:
            return

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """All or nothing, durable on exit; any exception rolls back.

        With `durable` false it survives the end of the process, but a power cut may undo it: no sync is
        waited for. What was durable before stays so.
        """
        with _translated():
            self._db.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # -- inside a transaction ---------------------------------------------------------------------------

    def last_seq(self) -> int:
        """The highest number ever given."""
        return self._meta("last_seq")

    def set_last_seq(self, seq: int) -> None:
        """Numbers go on above `seq`."""
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'last_seq'", (seq,))

    def add_dropped(self, count: int) -> None:
        """Count rows that were given up."""
        self._db.execute("UPDATE meta SET value = value + ? WHERE key = 'dropped'", (count,))

    def has_id(self, id: str) -> bool:  # noqa: A002 - the column's name
        """Is a row with this id stored."""
        with _translated():
            return bool(self._db.execute("SELECT 1 FROM rows WHERE id = ?", (id,)).fetchone())

    def insert(self, rows: Sequence[Row]) -> None:
        """Add rows; rows that are already there stay as they are."""
        self._db.executemany(
            "INSERT OR IGNORE INTO rows (seq, id, kind, payload, created_utc_ms, attempts,"
            " delivered_utc_ms, reason, state) VALUES (?,?,?,?,?,?,?,?,?)",
            [
                (r.seq, r.id, r.kind, r.payload, r.created_utc_ms, r.attempts, r.delivered_utc_ms, r.reason,
                 'queued' if r.delivered_utc_ms is None else 'delivered')
                for r in rows
            ],
        )  # fmt: skip

    def note(self, notes: Sequence[Unfinished]) -> None:
        """Remember utterances that are not finished, or how long they are now; finished ones are not."""
        self._db.executemany(
            "INSERT INTO unfinished SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM rows WHERE id = ?1)"
            " ON CONFLICT (id) DO UPDATE SET duration_ms = excluded.duration_ms",
            [(note.id, note.start_utc_ms, note.duration_ms) for note in notes],
        )

    def finish(self, ids: Collection[str]) -> None:
        """These utterances are finished."""
        self._db.executemany("DELETE FROM unfinished WHERE id = ?", [(id_,) for id_ in ids])

    def replace_payload(self, seq: int, payload: bytes) -> None:
        """Rewrite a row that nobody has seen yet."""
        self._db.execute("UPDATE rows SET payload = ? WHERE seq = ?", (payload, seq))

    def mark_delivered(self, marks: Sequence[tuple[int, int, int]]) -> None:
        """Mark (seq, reason code, utc_ms) triples as delivered."""
        query = "UPDATE rows SET state = 'delivered', reason = ?2, delivered_utc_ms = ?3 WHERE seq = ?1"
        before = self._db.total_changes
        self._db.executemany(query, marks)
        if self._db.total_changes - before < len(marks):  # forgotten meanwhile, or not found for damage
            self._check()

    def doubt(self, seqs: Collection[int]) -> None:
        """These delivered rows wait again."""
        self._db.executemany(
            "UPDATE rows SET state = 'queued', attempts = attempts + 1, delivered_utc_ms = NULL"
            " WHERE seq = ? AND state = 'delivered'",
            [(seq,) for seq in seqs],
        )

    def set_aside(self, seq: int, reason: int) -> None:
        """Never send this row again unless it is replayed."""
        self._db.execute(
            "UPDATE rows SET state = 'aside', reason = ?, attempts = attempts + 1 WHERE seq = ?",
            (reason, seq),
        )

    def count_attempts(self, seqs: Collection[int], reason: int | None) -> None:
        """These were sent and not accepted."""
        self._db.executemany(
            "UPDATE rows SET attempts = attempts + 1, reason = ? WHERE seq = ?", [(reason, s) for s in seqs]
        )

    def delete_oldest_delivered(self, count: int) -> None:
        """Forget the rows that were delivered first."""
        self._db.execute(
            "DELETE FROM rows WHERE seq IN (SELECT seq FROM rows WHERE state = 'delivered'"
            " ORDER BY delivered_utc_ms LIMIT ?)",
            (count,),
        )

    def take_oldest_queued(self, count: int, keep: int | None) -> list[tuple[int, int]]:
        """Give up the oldest undelivered rows (never `keep`); their (seq, created_utc_ms).

        Gaps go last: they are small, and each may be all that tells of what is missing.
        """
        found = self._db.execute(
            "SELECT seq, created_utc_ms FROM rows WHERE state != 'delivered' AND seq IS NOT ?"
            " ORDER BY kind = 'gap', seq LIMIT ?",
            (keep, count),
        ).fetchall()
        self._db.executemany("DELETE FROM rows WHERE seq = ?", [(seq,) for seq, _ in found])
        return found

    def delete_delivered_before(self, utc_ms: int) -> int:
        """Forget rows delivered before that time."""
        query = "DELETE FROM rows WHERE state = 'delivered' AND delivered_utc_ms < ?"
        return self._db.execute(query, (utc_ms,)).rowcount

    def delete_all(self, *, delivered_only: bool) -> int:
        """Empty the store."""
        if delivered_only:
            return self._db.execute("DELETE FROM rows WHERE state = 'delivered'").rowcount
        return self._db.execute("DELETE FROM rows").rowcount

    def requeue(self, *, since_utc_ms: int | None, from_seq: int | None) -> int:
        """Queue delivered and set-aside rows again."""
        return self._db.execute(
            "UPDATE rows SET state = 'queued', replayed = 1, delivered_utc_ms = NULL"
            " WHERE state != 'queued' AND created_utc_ms >= ? AND seq >= ?",
            (since_utc_ms or 0, from_seq or 0),
        ).rowcount

    # -- reading ----------------------------------------------------------------------------------------

    def read_live(self, after_seq: int, limit: int, kinds: Collection[str]) -> list[Row]:
        """Queued rows above `after_seq` that were not replayed, oldest first."""
        return self._read(
            "SELECT * FROM rows WHERE state = 'queued' AND instr(?, kind) AND seq > ? AND replayed = 0"
            " ORDER BY seq LIMIT ?",
            (",".join(kinds), after_seq, limit),
        )

    def read_backlog(self, through_seq: int, limit: int, kinds: Collection[str]) -> list[Row]:
        """All other queued rows, oldest first."""
        return self._read(
            "SELECT * FROM rows WHERE state = 'queued' AND instr(?, kind) AND (seq <= ? OR replayed = 1)"
            " ORDER BY seq LIMIT ?",
            (",".join(kinds), through_seq, limit),
        )

    def _read(self, query: str, given: tuple[str, int, int]) -> list[Row]:
        with _translated():
            found = self._db.execute(query, given).fetchall()
        rows = [row_of(values) for values in found]
        if any(values[8] != "queued" for values in found) or len({row.seq for row in rows}) < len(rows):
            # A damaged index would send them for ever, or twice.
            raise StoreFault("corrupt", "the outbox names rows as queued that are not")
        return rows

    def counts(self) -> Counts:
        """Numbers of rows and bytes; counted anew only after a change, by whichever process."""
        with _translated():
            version = (self._db.total_changes, self._one("PRAGMA data_version"))
            if self._counted is None or self._counted[0] != version:
                self._counted = (version, self._count())
            return self._counted[1]

    def _count(self) -> Counts:
        oldest = self._db.execute(
            "SELECT created_utc_ms FROM rows WHERE state = 'queued' ORDER BY seq LIMIT 1"
        ).fetchone()
        return Counts(
            queued=self._one("SELECT count(*) FROM rows WHERE state = 'queued'"),
            delivered=self._one("SELECT count(*) FROM rows WHERE state = 'delivered'"),
            set_aside=self._one("SELECT count(*) FROM rows WHERE state = 'aside'"),
            oldest_queued_utc_ms=oldest[0] if oldest else None,
            used_bytes=self.used_bytes(),
            dropped=self._meta("dropped"),
            last_seq=self._meta("last_seq"),
        )

    def gaps(self) -> int:
        """Gaps among all rows."""
        with _translated():
            return self._one("SELECT count(*) FROM rows WHERE kind = 'gap'")

    def has_delivered_before(self, utc_ms: int) -> bool:
        """Is there a row that was delivered before that time."""
        query = "SELECT 1 FROM rows WHERE state = 'delivered' AND delivered_utc_ms < ? LIMIT 1"
        with _translated():
            return bool(self._db.execute(query, (utc_ms,)).fetchone())

    def used_bytes(self) -> int:
        """Bytes of pages in use."""
        with _translated():
            pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
            return pages * self._one("PRAGMA page_size")

    def unfinished(self) -> list[Unfinished]:
        """Utterances without an end, oldest first; none in a store that is damaged there."""
        try:
            values = self._db.execute("SELECT * FROM unfinished ORDER BY id").fetchall()
        except _DAMAGE:
            return []
        return [
            Unfinished(id=id_, start_utc_ms=start, duration_ms=length)
            for id_, start, length in values
            if isinstance(id_, str) and isinstance(start, int) and isinstance(length, int)
        ]

    def all_rows(self) -> Iterator[tuple[Row, bool]]:
        """Every row that can be read, with "was set aside"; damaged pages are stepped over."""
        seen: set[int] = set()
        for query in ("SELECT * FROM rows ORDER BY seq", "SELECT * FROM rows ORDER BY seq DESC"):
            for values in self._until_damage(query):
                if values[0] in seen:
                    break
                seen.add(values[0])
                yield row_of(values), values[8] == "aside"
        missing = range(min(seen), min(max(seen), min(seen) + _PROBED)) if seen else range(0)
        for seq in (seq for seq in missing if seq not in seen):
            for values in self._until_damage("SELECT * FROM rows WHERE seq = ?", seq):
                yield row_of(values), values[8] == "aside"

    def _until_damage(self, query: str, *given: int) -> Iterator[tuple[Any, ...]]:
        try:
            for values in self._db.execute(query, given):
                row_of(values)
                yield values
        except (*_DAMAGE, StoreFault):
            return

    def _meta(self, key: str) -> int:
        with _translated():
            found = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return int(found[0]) if found else 0

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        try:  # Born private; SQLite gives its side files the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            kind: FaultKind = "full" if error.errno == errno.ENOSPC else "read_only"
            raise StoreFault(kind, f"the outbox {path} cannot be opened: {error.strerror}") from error
        mode = "mode=rw"
    elif os.access(path.parent, os.W_OK) or path.with_name(path.name + "-wal").exists():
        mode = "mode=ro"
    else:
        mode = "mode=ro&immutable=1"  # nobody can write here, and SQLite could not make its lock file
    with _translated():
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?{mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        usual = sqlite3.SQLITE_CORRUPT if isinstance(error, UnicodeDecodeError) else sqlite3.SQLITE_IOERR
        code = getattr(error, "sqlite_errorcode", usual) & 0xFF
        raise StoreFault(_KINDS.get(code, "io"), f"the outbox database failed: {error}") from error
