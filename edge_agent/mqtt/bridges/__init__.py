"""Other conventions spoken beside our own, each off until it is switched on. None of them carries sound.

A bridge turns each final into messages that are sent with it, and messages of its own topics into Actions.
Bridges see finals only after the outbox has them, and a final counts as delivered only when its bridge
messages are delivered too: at least once, like the final itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from edge_agent.mqtt.aside import Post
from edge_agent.mqtt.commands import Action
from edge_agent.mqtt.events import Message
from edge_agent.mqtt.wire import TranscriptBody
from edge_agent.types import Value


class Tell(Value, frozen=True):
    """The bridge's retained messages are wanted again."""


Ask: TypeAlias = Action | Tell


class Bridge(Protocol):
    """One convention. `incoming` is called on the main thread, `posts` on the courier's."""

    @property
    def name(self) -> str:
        """As in [bridges] of the configuration; who muted, when it mutes."""
        ...

    @property
    def filters(self) -> tuple[str, ...]:
        """Topics to subscribe to."""
        ...

    def retained(self) -> Sequence[tuple[str, bytes]]:
        """(topic, payload) that the broker keeps for us."""
        ...

    def posts(self, body: TranscriptBody, /) -> Sequence[Post]:
        """What to say of a final."""
        ...

    def incoming(self, message: Message, /) -> Sequence[Ask]:
        """What a message asks for; nothing when it is not ours or cannot be read. Never raises."""
        ...


class Bridges:
    """Those that are switched on."""

    def __init__(self, bridges: Sequence[Bridge]) -> None:
        self._bridges = tuple(bridges)

    @property
    def filters(self) -> tuple[str, ...]:
        """Topics of all of them."""
        return tuple(topic for bridge in self._bridges for topic in bridge.filters)

    def retained(self) -> list[tuple[str, bytes]]:
        """Retained messages of all of them."""
        return [kept for bridge in self._bridges for kept in bridge.retained()]

    def posts(self, body: TranscriptBody, /) -> list[Post]:
        """What all of them say of a final."""
        return [post for bridge in self._bridges for post in bridge.posts(body)]

    def incoming(self, message: Message) -> list[tuple[str, Ask]]:
        """(bridge, what it asks for); what is retained is an order from the past, except a bridge's birth."""
        return [(bridge.name, ask) for bridge in self._bridges for ask in bridge.incoming(message)]
