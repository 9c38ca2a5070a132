"""The values of the outbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from edge_agent.errors import OutboxError
from edge_agent.types import Value

_SEQ_MAX = 2**53
"""JSON's limit for whole numbers; a larger seq is damage, and numbers must go on above the largest."""
RowKind: TypeAlias = Literal["final", "gap"]
FaultKind: TypeAlias = Literal["full", "read_only", "corrupt", "io", "busy"]


class Row(Value, frozen=True):
    """One queued message."""

    seq: int
    """The device's own number: gapless over finals and gaps, never used twice."""
    id: str
    kind: RowKind
    payload: bytes
    created_utc_ms: int
    attempts: int = 0
    """Times it was sent without being accepted."""
    delivered_utc_ms: int | None = None
    reason: int | None = None
    """MQTT reason code of the last answer."""


class Unfinished(Value, frozen=True):
    """An utterance that has neither final nor gap yet: what is told of it when the process dies."""

    id: str
    start_utc_ms: int
    duration_ms: int
    """Of its speech so far."""


class Drop(Value, frozen=True):
    """Queued rows that were given up, oldest first."""

    first_seq: int
    last_seq: int
    count: int
    from_utc_ms: int
    """Creation time of the first of them."""
    to_utc_ms: int


GapMaker: TypeAlias = Callable[[int, str, Drop], bytes]
"""(seq, id, what was dropped) -> payload of the gap that admits it."""


class OutboxStats(Value, frozen=True):
    """How the outbox stands."""

    queued: int
    delivered: int
    """Rows kept for replay."""
    set_aside: int
    """Rows the broker can never take (too large); kept, not retried."""
    in_memory: int
    """Rows that are not on disk because the disk takes none; lost with the process."""
    oldest_queued_age_s: float
    size_bytes: int
    dropped_over_quota: int
    last_seq: int
    state: Literal["durable", "memory"]
    fault: str
    """Why `state` is "memory", in words; empty when durable."""
    corrupt_files: int
    """Stores that were set aside as corrupt since the start."""
    reserve_held: bool = True
    """The disk space held back for bad times is still there; False: the disk is full, or nearly."""

    @property
    def trouble(self) -> str:
        """What is wrong with the disk, in words; empty when nothing is."""
        if self.state != "durable":
            return f"kept in memory only, {self.fault}"
        return "" if self.reserve_held else "the disk is full, the space held back for that is in use"


class StoreFault(OutboxError):
    """The database cannot do what was asked, by kind of failure."""

    def __init__(self, kind: FaultKind, cause: str) -> None:
        remedies: dict[FaultKind, str] = {
            "full": "free space on the disk",
            "read_only": "remount the disk writable",
            "corrupt": "look at the set-aside file",
            "io": "check the disk",
            "busy": "end the other process that holds the outbox",
        }
        super().__init__(cause, remedy=remedies[kind])
        self.kind: FaultKind = kind


def row_of(values: tuple[object, ...]) -> Row:
    """A row as the table holds it (the columns of Row in their order, then more).

    Raises:
        StoreFault: it is damaged.
    """
    seq, id_, kind, payload, created, attempts, delivered, reason, *_ = values
    if not (
        isinstance(seq, int) and 0 < seq <= _SEQ_MAX and isinstance(id_, str) and isinstance(payload, bytes)
    ):
        raise StoreFault("corrupt", "the outbox holds a damaged row")
    if kind not in ("final", "gap") or not isinstance(created, int) or not isinstance(attempts, int):
        raise StoreFault("corrupt", "the outbox holds a damaged row")
    return Row(
        seq=seq,
        id=id_,
        kind="final" if kind == "final" else "gap",
        payload=payload,
        created_utc_ms=created,
        attempts=attempts,
        delivered_utc_ms=delivered if isinstance(delivered, int) else None,
        reason=reason if isinstance(reason, int) else None,
    )
