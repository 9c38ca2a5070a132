"""What travels beside the rows of the outbox: bridge messages and answers out, commands in.

Nothing here delays a final: rows are sent first, and what waits here is bounded. A row for which bridges made
messages counts as delivered only when those are acknowledged too, so a final is not lost to a bridge either.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from edge_agent.mqtt.client import Acked, Connection, Granted, Message
from edge_agent.mqtt.queue import QueuedRow
from edge_agent.mqtt.refusals import FAILURE
from edge_agent.mqtt.wire import TranscriptBody
from edge_agent.types import Value

_log = logging.getLogger(__name__)

HELD_POSTS = 256
HELD_MESSAGES = 64
HELD_BYTES = 1 << 20
PER_SECOND = 20
_ASK_AGAIN_S = 30.0
"""A refused subscription is asked for again: the broker's permissions may have been mended."""


class Post(Value, frozen=True):
    """A message to send, at least once while there is room for it, and not from the disk."""

    topic: str
    payload: bytes
    expiry_s: int | None = None
    content_type: str = "application/json"
    correlation: bytes | None = None
    live_only: bool = False
    """Dropped while there is no connection: an event of the past is worth nothing."""


class MakePosts(Protocol):
    """What bridges make of a final."""

    def __call__(self, body: TranscriptBody, /) -> Sequence[Post]: ...


class AsideStatistics(Value, frozen=True):
    """Counters since the start."""

    received: int
    received_dropped: int
    sent: int
    dropped: int
    denied: int
    subscriptions_refused: tuple[str, ...]


class _Tied:
    """A row that waits for its bridge messages."""

    def __init__(self, seq: int, waiting: int) -> None:
        self.seq, self.waiting = seq, waiting
        self.code: int | None = None  # of the row's own acknowledgement, once it is there


class Aside:
    """`put`, `take` and `statistics` from any thread; the rest belongs to the courier.

    Args:
        filters: topics to subscribe to after each connect.
        ring: called when a message came in; must be quick.
        make_posts: what bridges say of a final.
    """

    def __init__(
        self,
        filters: Sequence[str] = (),
        *,
        ring: Callable[[], None] = lambda: None,
        make_posts: MakePosts | None = None,
    ) -> None:
        self.wake: Callable[[], None] = lambda: None
        """Set by the courier: something to send is there."""
        self._filters, self._ring, self._make_posts = tuple(filters), ring, make_posts
        self._lock = threading.Lock()
        self._posts: deque[Post] = deque()
        self._inbox: deque[Message] = deque()
        self._inbox_bytes = 0
        self._bridged: deque[tuple[_Tied, Post]] = deque()
        self._tied: dict[int, _Tied] = {}
        self._complete: list[tuple[int, int]] = []
        self._bridges_turn = False
        self._denied_topics: set[str] = set()
        self._sent: dict[int, tuple[_Tied | None, Post]] = {}
        self._allowance, self._allowed_at = float(HELD_MESSAGES), time.monotonic()
        self._online = False
        self._refused: dict[str, float] = {}
        self._received = self._received_dropped = self._sent_count = self._dropped = self._denied = 0

    # -- any thread -------------------------------------------------------------------------------------

    def put(self, post: Post) -> bool:
        """Send it when there is room on the way; False when it was dropped."""
        with self._lock:
            if len(self._posts) >= HELD_POSTS or (post.live_only and not self._online):
                self._dropped += 1
                return False
            self._posts.append(post)
        self.wake()
        return True

    def take(self) -> list[Message]:
        """Messages that came in since the last call."""
        with self._lock:
            came = list(self._inbox)
            self._inbox.clear()
            self._inbox_bytes = 0
        return came

    def statistics(self) -> AsideStatistics:
        """A snapshot of the counters."""
        return AsideStatistics(
            received=self._received,
            received_dropped=self._received_dropped,
            sent=self._sent_count,
            dropped=self._dropped,
            denied=self._denied,
            subscriptions_refused=tuple(self._refused),
        )

    # -- the courier --------------------------------------------------------------------------------------

    @property
    def held(self) -> list[int]:
        """Rows that the broker took while messages of their bridges are still on the way."""
        return [seq for seq, tied in self._tied.items() if tied.code is not None]

    @property
    def idle(self) -> bool:
        """Nothing waits or is on the way."""
        return not (self._posts or self._bridged or self._sent)

    def connected(self, connection: Connection) -> None:
        """A new connection: ask for our topics. The answers come as events; nothing waits for them."""
        self._online = True
        self._refused.clear()
        for topic_filter in self._filters:
            connection.request(topic_filter)

    def lost(self) -> None:
        """The connection ended: answers on their way are sent again, rows bring their messages anew."""
        with self._lock:
            self._online = False
            again = [post for tied, post in self._sent.values() if tied is None and not post.live_only]
            self._posts.extendleft(reversed(again))
        self._sent.clear()
        self._bridged.clear()
        self._tied.clear()
        self._complete.clear()

    def row_sent(self, row: QueuedRow) -> None:
        """A row is on its way: queue what the bridges say of it."""
        if self._make_posts is None or row.kind != "final":
            return
        try:
            posts = self._make_posts(msgspec.json.decode(row.payload, type=TranscriptBody))
        except msgspec.DecodeError as error:
            _log.warning("message %d is not understood by the bridges: %s", row.seq, error)
            return
        if posts:
            tied = self._tied[row.seq] = _Tied(row.seq, len(posts))
            self._bridged.extend((tied, post) for post in posts)

    def row_taken(self, seq: int, code: int) -> bool:
        """The broker took a row; False while messages of its bridges are still on the way."""
        tied = self._tied.get(seq)
        if tied is None:
            return True
        tied.code = code
        self._settle(tied)
        return False

    def complete(self) -> list[tuple[int, int]]:
        """(seq, code) of the rows whose bridge messages have all been answered since the last call."""
        done, self._complete = self._complete, []
        return done

    def row_refused(self, seq: int) -> None:
        """The broker did not take a row: what the bridges say of it comes with the next try."""
        self._tied.pop(seq, None)
        self._bridged = deque(entry for entry in self._bridged if entry[0].seq != seq)

    def pump(self, connection: Connection, room: int) -> None:
        """Send what waits, at most `room` messages that want an acknowledgement."""
        now = time.monotonic()
        for topic_filter, due in list(self._refused.items()):
            if now >= due:
                self._refused[topic_filter] = now + _ASK_AGAIN_S
                connection.request(topic_filter)
        while room > 0 and (self._posts or self._bridged):
            tied: _Tied | None = None
            # In turn: a flood of answers must not hold up the messages that rows wait for, nor the reverse.
            self._bridges_turn = bool(self._bridged) and (not self._bridges_turn or not self._posts)
            if self._bridges_turn:
                tied, post = self._bridged.popleft()
            else:
                with self._lock:
                    post = self._posts.popleft()
            if connection.fits(post.topic, post.payload):
                self._send(connection, tied, post)
                room -= 1
            else:
                self._dropped += 1
                _log.error("the message for %s is larger than the broker's packet limit", post.topic)
                self._answered(tied)

    def _send(self, connection: Connection, tied: _Tied | None, post: Post) -> None:
        mid = connection.publish(
            post.topic,
            post.payload,
            expiry_s=post.expiry_s,
            content_type=post.content_type,
            correlation=post.correlation,
        )
        self._sent_count += 1
        self._sent[mid] = (tied, post)

    def acked(self, ack: Acked) -> None:
        """One of ours was answered."""
        found = self._sent.pop(ack.mid, None)
        if found is None:
            return
        tied, post = found
        if ack.code < FAILURE:
            self._denied_topics.discard(post.topic)
        else:
            self._denied += 1
            if post.topic not in self._denied_topics and len(self._denied_topics) < HELD_MESSAGES:
                self._denied_topics.add(post.topic)  # said once, not for each final
                _log.warning("the broker refuses messages on %s: %s", post.topic, ack.name)
        self._answered(tied)

    def _answered(self, tied: _Tied | None) -> None:
        if tied is not None:
            tied.waiting -= 1
            self._settle(tied)

    def _settle(self, tied: _Tied) -> None:
        if tied.code is not None and tied.waiting <= 0 and self._tied.get(tied.seq) is tied:
            del self._tied[tied.seq]
            self._complete.append((tied.seq, tied.code))

    def came(self, event: Message | Granted) -> None:
        """A message or the answer to a subscription."""
        if isinstance(event, Granted):
            self._granted(event)
            return
        with self._lock:
            self._received += 1
            full = len(self._inbox) >= HELD_MESSAGES or self._inbox_bytes + len(event.payload) > HELD_BYTES
            if full or not self._pace():
                self._received_dropped += 1
            else:
                self._inbox.append(event)
                self._inbox_bytes += len(event.payload)
        self._ring()

    def _pace(self) -> bool:
        """At most so many messages a second are looked at: reading them costs the time of everything else."""
        now = time.monotonic()
        self._allowance = min(HELD_MESSAGES, self._allowance + (now - self._allowed_at) * PER_SECOND)
        self._allowed_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _granted(self, event: Granted) -> None:
        if event.code < FAILURE:
            self._refused.pop(event.topic_filter, None)
            return
        if event.topic_filter not in self._refused:
            _log.warning("the broker refused the subscription to %s: %s", event.topic_filter, event.name)
        self._refused[event.topic_filter] = time.monotonic() + _ASK_AGAIN_S
