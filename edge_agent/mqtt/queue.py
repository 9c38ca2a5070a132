"""What the courier takes from, and what it reports."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from edge_agent.types import Value

ROW_KINDS = ("final", "gap")


class QueuedRow(Protocol):
    """What the courier needs to know of a row."""

    @property
    def seq(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def payload(self) -> bytes: ...


class Queue(Protocol):
    """The durable queue that the courier empties. No method raises because of a bad disk."""

    @property
    def last_seq(self) -> int:
        """The highest number ever given."""
        ...

    def next_batch(
        self,
        limit: int,
        *,
        after_seq: int = 0,
        skip: Collection[int] = (),
        kinds: Collection[str] = ROW_KINDS,
    ) -> Sequence[QueuedRow]:
        """Undelivered rows, those above `after_seq` first."""
        ...

    def mark_many(self, marks: Sequence[tuple[int, int]]) -> None:
        """The broker took these (seq, reason code)."""
        ...

    def set_aside(self, seq: int, reason_code: int) -> None:
        """The broker can never take this row."""
        ...

    def count_attempts(self, seqs: Collection[int], reason_code: int | None = None) -> None:
        """These were sent and not accepted."""
        ...

    def doubt(self, seqs: Collection[int]) -> None:
        """These were accepted just before the connection broke: send them again."""
        ...

    def tend(self) -> None:
        """Housekeeping, once a second."""
        ...


class CourierStatistics(Value, frozen=True):
    """Counters since the start, and how the connection stands."""

    connected: bool
    quiet_s: float
    """Since the broker last said anything; 0 without a connection."""
    refused: bool
    """The broker answers and says no (login, certificate, permission)."""
    reason: str
    """Why there is no connection, or what is refused; empty when all is well."""
    connects: int
    failures_in_a_row: int
    delivered: int
    no_subscribers: int
    """Of those delivered: nobody listened."""
    denied: int
    truncated: int
    set_aside: int
    partials_sent: int
    partials_dropped: int
    in_flight: int


class Counters:
    """What the courier counts; one writer."""

    def __init__(self) -> None:
        self.connects = self.delivered = self.no_subscribers = self.denied = 0
        self.truncated = self.set_aside = self.partials_sent = self.partials_dropped = 0

    def statistics(
        self,
        *,
        connected: bool,
        quiet_s: float,
        refused: bool,
        reason: str,
        failures: int,
        in_flight: int,
    ) -> CourierStatistics:
        """A snapshot."""
        return CourierStatistics(
            connected=connected,
            quiet_s=round(quiet_s, 1),
            refused=refused,
            reason=reason,
            connects=self.connects,
            failures_in_a_row=failures,
            delivered=self.delivered,
            no_subscribers=self.no_subscribers,
            denied=self.denied,
            truncated=self.truncated,
            set_aside=self.set_aside,
            partials_sent=self.partials_sent,
            partials_dropped=self.partials_dropped,
            in_flight=in_flight,
        )
