"""Power cuts, simulated: a SQLite VFS that records every write and sync, and the states they may leave.

After a cut, everything before a file's last sync is there; of what was written since, any part may be: each
write whole, torn between two sectors, or not at all. (The idea is that of SQLite's own crash tests.)
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from edge_agent.outbox import database

SECTOR = 512


@dataclass
class Act:
    """One thing that happened to a file: written (data at an offset), cut, synced or deleted."""

    what: str
    file: str
    offset: int = 0
    data: bytes = b""


@dataclass
class Tape:
    """All acts in their order."""

    acts: list[Act] = field(default_factory=list)

    def write(self, file: str, data: bytes, offset: int) -> None:
        """SQLite wrote to a file."""
        self.acts.append(Act("write", file, offset, data))

    def state(self, end: int, dice: random.Random | None, share: float = 0.5) -> dict[str, bytes]:
        """The files as a cut after the first `end` acts may leave them.

        Args:
            end: number of acts that happened.
            dice: chooses among the unsynced ones; None: all of those are lost.
            share: how likely each of them reached the disk.
        """
        synced = {}
        for place, act in enumerate(self.acts[:end]):
            if act.what == "sync":
                synced[act.file] = place
        files: dict[str, bytearray] = {}
        for place, act in enumerate(self.acts[:end]):
            if act.what == "delete":
                files.pop(act.file, None)
            elif place < synced.get(act.file, -1):
                _apply(files, act, act.data)
            elif dice is not None and dice.random() < share:
                _apply(files, act, _torn(act.data, dice))
        return {name: bytes(content) for name, content in files.items()}


def _torn(data: bytes, dice: random.Random) -> bytes:
    if len(data) <= SECTOR or dice.random() < 0.7:
        return data
    return data[: SECTOR * dice.randrange(1, -(-len(data) // SECTOR))]


def _apply(files: dict[str, bytearray], act: Act, data: bytes) -> None:
    content = files.setdefault(act.file, bytearray())
    if act.what == "cut":
        del content[act.offset :]
    elif act.what == "write":
        content.extend(bytes(max(0, act.offset - len(content))))
        content[act.offset : act.offset + len(data)] = data


class _RecordingVfs(apsw.VFS):
    def __init__(self, name: str, tape: Tape) -> None:
        self._tape = tape
        super().__init__(name, base="unix")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _RecordingFile(name, flags, self._tape)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self._tape.acts.append(Act("delete", Path(filename).name))


class _RecordingFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], tape: Tape) -> None:
        self._tape = tape
        self._file = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "temporary").name
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._tape.write(self._file, bytes(data), offset)

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._tape.acts.append(Act("cut", self._file, newsize))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._tape.acts.append(Act("sync", self._file))


class _Cursor:
    """The part of sqlite3.Cursor that the outbox uses."""

    def __init__(self, cursor: apsw.Cursor, changes: int) -> None:
        self._rows = iter(cursor.fetchall())
        self.rowcount = changes

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows


class _Connection:
    """The part of sqlite3.Connection that the outbox uses, on the other SQLite."""

    def __init__(self, path: Path, vfs: str, synchronous: str) -> None:
        self._db = apsw.Connection(str(path), vfs=vfs)
        self._synchronous = synchronous

    def execute(self, statement: str, given: tuple[Any, ...] = ()) -> _Cursor:
        if statement.endswith("synchronous = FULL"):
            statement = f"PRAGMA synchronous = {self._synchronous}"
        before = self._db.total_changes()
        try:
            cursor = self._db.execute(statement, given)
            return _Cursor(cursor, self._db.total_changes() - before)
        except apsw.Error as error:
            raise sqlite3.OperationalError(str(error)) from error

    def executemany(self, statement: str, given: list[tuple[Any, ...]]) -> None:
        self._db.executemany(statement, given)

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    @property
    def total_changes(self) -> int:
        return self._db.total_changes()

    def close(self) -> None:
        self._db.close()


@contextmanager
def recorded(monkeypatch: Any, synchronous: str = "FULL") -> Iterator[Tape]:
    """Inside, every Outbox that opens for writing is recorded."""
    tape = Tape()
    vfs = _RecordingVfs(f"recording-{id(tape)}", tape)
    with monkeypatch.context() as patch:
        patch.setattr(
            database,
            "_connect",
            lambda path, *, read_only: _Connection(path, f"recording-{id(tape)}", synchronous),
        )
        yield tape
    vfs.unregister()


def lay_out(files: dict[str, bytes], folder: Path) -> None:
    """Write a state to a folder. What only this machine's memory knew (the -shm file) is gone."""
    for name, content in files.items():
        if not name.endswith("-shm"):
            (folder / name).write_bytes(content)
