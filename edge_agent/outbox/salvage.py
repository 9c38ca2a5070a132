"""A damaged store: out of the way first, then what can still be read from it."""

from __future__ import annotations

from pathlib import Path

from edge_agent.outbox.database import Database
from edge_agent.outbox.rows import Row, StoreFault, Unfinished

_KEPT_FILES = 3


def set_aside(path: Path, utc_ms: int) -> Path:
    """Rename the database and its WAL; only the last few such files are kept. Returns the new path.

    Raises:
        StoreFault: the disk does not even rename.
    """
    kept = path.with_name(f"{path.name}.corrupt-{utc_ms}")
    try:
        path.rename(kept)
        wal = path.with_name(path.name + "-wal")
        if wal.exists():
            wal.rename(kept.with_name(kept.name + "-wal"))
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        old = sorted(
            p for p in path.parent.glob(f"{path.name}.corrupt-*") if p.suffix.rpartition("-")[2].isdigit()
        )
        for surplus in old[:-_KEPT_FILES]:
            surplus.unlink()
            surplus.with_name(surplus.name + "-wal").unlink(missing_ok=True)
    except OSError as error:
        raise StoreFault("io", f"the damaged outbox {path} cannot be set aside: {error.strerror}") from error
    return kept


def copy(kept: Path, into: Database, last_seq: int) -> int:
    """Copy the readable rows of a damaged store; the seq above which numbering goes on.

    Args:
        kept: the set-aside file.
        into: the new store.
        last_seq: the highest number known otherwise, 0 when none is.
    """
    rows: list[Row] = []
    unfinished: list[Unfinished] = []
    aside: list[tuple[int, int]] = []
    highest = last_seq
    try:
        source = Database(kept, read_only=True, check=False)
    except StoreFault:
        source = None
    if source is not None:
        for row, was_aside in source.all_rows():
            rows.append(row)
            if was_aside:
                aside.append((row.seq, row.reason or 0))
        highest = max(highest, _remembered(source), *(row.seq for row in rows))
        unfinished = source.unfinished()
        source.close()
    with into.transaction():
        into.insert(rows)
        for seq, reason in aside:
            into.set_aside(seq, reason)
        into.note(unfinished)
        into.set_last_seq(highest)
    return highest


def _remembered(source: Database) -> int:
    try:
        return source.last_seq()
    except StoreFault:
        return 0
