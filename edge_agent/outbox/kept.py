"""What kinds of messages an outbox holds."""

from __future__ import annotations

from pathlib import Path

from edge_agent.outbox.database import Database


def gaps(path: Path) -> int:
    """Gaps among all that is kept, delivered or not; read without touching it.

    Raises:
        OutboxError: it cannot be read.
    """
    database = Database(path, read_only=True)
    try:
        return database.gaps()
    finally:
        database.close()
