"""What a connection is told and tells."""

from __future__ import annotations

from typing import TypeAlias

from edge_agent.types import Value


class Will(Value, frozen=True):
    """What the broker publishes, retained and at QoS 1, when we vanish."""

    topic: str
    payload: bytes


class Limits(Value, frozen=True):
    """What the broker said in its CONNACK."""

    receive_maximum: int
    """Unacknowledged QoS 1 publishes it accepts."""
    maximum_packet_bytes: int
    retain: bool


class Acked(Value, frozen=True):
    """A PUBACK: `code` below 0x80 is success; 0x10 = taken, but nobody subscribes."""

    mid: int
    code: int
    name: str


class Message(Value, frozen=True):
    """A message that a subscription brought."""

    topic: str
    payload: bytes
    retain: bool
    response_topic: str = ""
    """Where the sender wants an answer, with `correlation` in it."""
    correlation: bytes | None = None


class Granted(Value, frozen=True):
    """The answer to `request`: a code below 0x80 is success."""

    topic_filter: str
    code: int
    name: str


class Lost(Value, frozen=True):
    """The connection ended, and whether the broker meant it."""

    cause: str
    refused: bool


Event: TypeAlias = Acked | Message | Granted | Lost
