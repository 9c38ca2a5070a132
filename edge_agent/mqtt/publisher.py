"""The `courier` thread: rows of the outbox to the broker, and the device's presence.

A row counts as delivered on a PUBACK with a success code, nothing less. What is said now goes before what
waited. The retained status is published anew after each connect; the will says `offline` when we vanish.
"""

from __future__ import annotations

import logging
import os
import random
import select
import threading
import time
from collections.abc import Mapping, Sequence

from edge_agent.clock import Clock
from edge_agent.errors import BrokerError, BrokerRefused, ConfigError
from edge_agent.mqtt import wire
from edge_agent.mqtt.aside import Aside
from edge_agent.mqtt.backoff import Holds, Retry
from edge_agent.mqtt.client import NO_SUBSCRIBERS, Connection
from edge_agent.mqtt.doubt import Doubt
from edge_agent.mqtt.events import Acked, Granted, Lost, Message
from edge_agent.mqtt.partial_lane import PartialLane
from edge_agent.mqtt.presence import Presence, Slot
from edge_agent.mqtt.queue import ROW_KINDS, Counters, CourierStatistics, Queue, QueuedRow
from edge_agent.mqtt.refusals import FAILURE
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.mqtt.wire import Topics
from edge_agent.types import State

_log = logging.getLogger(__name__)

__all__ = ["Courier", "CourierStatistics", "Queue", "QueuedRow"]

WINDOW = 20
"""Unacknowledged rows at most; brokers queue beyond 20 by default, and more gains nothing on a LAN."""
_TICK_S = 1.0
_MARK_ROWS, _MARK_WITHIN_S = 20, 0.05
"""While a backlog drains, so many acknowledged rows share one commit, or those of so many seconds."""
_FAREWELL_S = 0.5
"""Kept of the time to stop for saying so."""
_PACKET_TOO_LARGE = 0x95
_UNFIT_CODES = frozenset({0x99})  # payload format invalid: no later try can succeed
MAX_INCOMING_BYTES = 128 * 1024
"""Twice the longest command; a broker drops what is larger."""


class Courier:
    """Owns the connection. All methods are safe from any thread and none of them waits, except `stop`.

    Args:
        settings: the broker.
        topics: names of this device's topics.
        outbox: rows to deliver.
        clock: wall time for `since`.
        boot_id: names this run in the status.
        aside: what travels beside the rows: commands, answers, bridges.
        jitter: random numbers in 0..1 for the waits between tries.
    """

    def __init__(
        self,
        settings: MqttSettings,
        topics: Topics,
        outbox: Queue,
        *,
        clock: Clock,
        boot_id: str,
        aside: Aside | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self.progress = 0
        """Rises at least once a second while the thread is well (a blocked connect may take 20 s)."""
        self.failure: BaseException | None = None
        """What ended the thread, when something did."""
        self.retry = Retry()
        self._settings, self._topics, self._outbox = settings, topics, outbox
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._presence = Presence(topics, clock=clock, boot_id=boot_id)
        self._aside = aside or Aside()
        self._aside.wake = self._wake
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._counters = Counters()
        self._partials = PartialLane(topics.partial, self._counters)
        self._connection: Connection | None = None
        self._sent_rows: dict[int, QueuedRow] = {}
        self._sent_slots: dict[int, Slot] = {}
        self._accepted: list[tuple[int, int]] = []
        self._doubt = Doubt(WINDOW)
        self._holds = Holds()
        self._mark_at, self._live_after, self._draining = 0.0, 0, False
        self._more, self._fresh = True, False
        self._reason, self._denial, self._refused = "not connected yet", "", False
        self._next_tick = 0.0
        self._stop_at: float | None = None
        self._farewell = self._drained = False
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    # -- for the other threads ----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def notify(self) -> None:
        """A row was appended."""
        self._more = self._fresh = True
        self._wake()

    def set_status(self, state: State, reasons: Sequence[str] = ()) -> None:
        """Publish this state, now and after each connect; `since` moves when the state changes."""
        self._presence.set_status(state, reasons)
        self._wake()

    def set_info(self, facts: Mapping[str, object]) -> None:
        """Publish these facts, now and after each connect."""
        self._presence.set_info(facts)
        self._wake()

    def set_health(self, gauges: Mapping[str, object]) -> None:
        """Publish these gauges, now and after each connect."""
        self._presence.set_health(gauges)
        self._wake()

    def keep(self, topic: str, payload: bytes) -> None:
        """Publish another retained message, now and after each connect."""
        self._presence.keep(topic, payload)
        self._wake()

    def publish_partial(self, payload: bytes) -> None:
        """Send a partial at once or never: dropped when offline or when the link is behind."""
        if self._partials.put(payload):
            self._wake()

    def statistics(self) -> CourierStatistics:
        """Counters and the state of the connection."""
        connection = self._connection
        return self._counters.statistics(
            connected=connection is not None,
            quiet_s=0.0 if connection is None else connection.quiet_s,
            refused=self._refused or bool(self._denial),
            reason=self._reason or self._denial,
            failures=self.retry.failures,
            in_flight=len(self._sent_rows),
        )

    def stop(self, timeout_s: float = 3.0) -> bool:
        """Deliver what can be delivered in time, say `stopped`, leave cleanly; True when nothing is left."""
        self._more = True
        self._stop_at = time.monotonic() + timeout_s
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s + 1.0)
        return not self._thread.is_alive() and self._drained

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    # -- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._step():
                self.progress += 1
        except Exception as error:  # noqa: BLE001 - the top of a thread: recorded, raised as a flag, ended
            self.failure = error
            _log.exception("the courier ended")
        finally:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _step(self) -> bool:
        """One round; False to end."""
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + _TICK_S
            self._more = self._more or self._stop_at is None  # rows that another process queued again
            self._outbox.tend()
        if self._connection is None:
            if self._stop_at is not None:
                return False
            if now < (next_try := self.retry.at_s(now)):
                self._idle(min(next_try, self._next_tick) - now)
            else:
                self._connect()
            return True
        self._pump(self._connection)
        if self._stop_at is not None and self._leave(self._connection, now):
            return False
        wake_at = min(self._next_tick, self._mark_at) if self._accepted else self._next_tick
        self._serve(self._connection, max(0.0, wake_at - time.monotonic()))
        return True

    def _idle(self, timeout_s: float) -> None:
        poller = select.poll()
        poller.register(self._wake_fd, select.POLLIN)
        if poller.poll(max(1, round(timeout_s * 1000))):
            os.eventfd_read(self._wake_fd)

    def _connect(self) -> None:
        try:
            connection = Connection(
                self._settings,
                client_id=self._topics.device_id,
                will=self._presence.will(),
                max_incoming_bytes=MAX_INCOMING_BYTES,
            )
            connection.connect()
        except (BrokerError, ConfigError) as error:
            refused = isinstance(error, BrokerRefused | ConfigError)
            self._failed(f"{error.cause}; {error.remedy}", refused=refused)
            return
        self._counters.connects += 1
        self._reason, self._refused = "", False
        self._live_after, self._more = self._outbox.last_seq, True
        self._presence.reborn()
        self._aside.connected(connection)
        self._connection = connection
        self._partials.connected(connected=True)
        _log.info("connected to %s", self._settings.url)

    def _failed(self, reason: str, *, refused: bool) -> None:
        wait_s = self.retry.failed(time.monotonic(), refused=refused, jitter=self._jitter.random())
        if reason != self._reason:
            _log.warning("%s (next try in %.0f s)", reason, wait_s)
        self._reason, self._refused = reason, refused

    def _leave(self, connection: Connection, now: float) -> bool:
        """The last things to do; True when done or out of time."""
        assert self._stop_at is not None
        if now >= self._stop_at:
            connection.disconnect(0.1)
        elif self._farewell:
            if self._sent_slots or self._presence.status.dirty or not self._aside.idle:
                return False
            connection.disconnect(min(1.0, self._stop_at - now))
        else:
            self._drained = not (self._sent_rows or self._more or self._accepted or self._aside.held)
            if self._drained or now >= self._stop_at - _FAREWELL_S:
                self.set_status("stopped", ())
                self._farewell = True
            return False
        self._connection = None
        return True

    # -- sending ------------------------------------------------------------------------------------------

    def _pump(self, connection: Connection) -> None:
        self._send_slots(connection)
        sent = 0 if self._farewell else self._send_rows(connection)
        self._aside.pump(connection, self._free_window(connection))
        behind = sent > 0 or connection.busy or self._free_window(connection) <= 0
        self._partials.send(connection, behind=behind)

    def _send_slots(self, connection: Connection) -> None:
        for slot, payload in self._presence.due():
            if self._free_window(connection) <= 0 or not self._may_send(slot.topic):
                self._presence.again(slot)
            elif not connection.fits(slot.topic, payload):
                self._reason = f"the message for {slot.topic} is larger than the broker's packet limit"
                _log.error(self._reason)
            else:
                mid = connection.publish(
                    slot.topic, payload, qos=slot.qos, retain=True, expiry_s=slot.expiry_s
                )
                if slot.qos:
                    self._sent_slots[mid] = slot

    def _send_rows(self, connection: Connection) -> int:
        room = self._free_window(connection) - len(self._aside.held)
        kinds = [kind for kind in ROW_KINDS if self._may_send(kind)]
        # A backlog goes in bursts: a broker that writes down each change writes once a burst, not once a row.
        if self._sent_rows and room < WINDOW // 2 and not self._fresh:
            return 0
        if room <= 0 or not self._more or not kinds:
            return 0
        self._more = self._fresh = False  # before reading: a row appended meanwhile sets them again
        on_their_way = {row.seq for row in self._sent_rows.values()}
        on_their_way.update((*(seq for seq, _ in self._accepted), *self._aside.held))
        rows = self._outbox.next_batch(room, after_seq=self._live_after, skip=on_their_way, kinds=kinds)
        self._draining = len(rows) == room
        self._more = self._more or self._draining
        for row in rows:
            self._send_row(connection, row)
        return len(rows)

    def _send_row(self, connection: Connection, row: QueuedRow) -> None:
        topic = self._topic_of(row)
        payload: bytes | None = row.payload
        if not connection.fits(topic, row.payload):
            payload = wire.shrink_transcript(row.payload, connection.payload_room(topic))
            if payload is None:
                _log.error("message %d is larger than the broker's packet limit and was set aside", row.seq)
                self._counters.set_aside += 1
                self._outbox.set_aside(row.seq, _PACKET_TOO_LARGE)
                return
            self._counters.truncated += 1
        mid = connection.publish(topic, payload or b"")
        self._sent_rows[mid] = row
        self._doubt.sent(mid)
        self._aside.row_sent(row)

    def _topic_of(self, row: QueuedRow) -> str:
        return self._topics.final if row.kind == "final" else self._topics.gap

    def _free_window(self, connection: Connection) -> int:
        return min(WINDOW, connection.limits.receive_maximum) - connection.in_flight

    def _may_send(self, what: str) -> bool:
        return self._holds.open(what, time.monotonic())

    # -- answers ------------------------------------------------------------------------------------------

    def _serve(self, connection: Connection, timeout_s: float) -> None:
        for event in connection.service(timeout_s, self._wake_fd):
            if isinstance(event, Acked):
                self._on_ack(event)
            elif isinstance(event, Message | Granted):
                self._aside.came(event)
            elif isinstance(event, Lost):
                self._on_lost(event)
        for seq, code in self._aside.complete():
            self._accept(seq, code)
        in_bulk = self._draining and self._sent_rows and len(self._accepted) < _MARK_ROWS
        if self._accepted and (not in_bulk or time.monotonic() >= self._mark_at):
            self._mark()

    def _mark(self) -> None:
        self._outbox.mark_many(self._accepted)
        self._counters.delivered += len(self._accepted)
        self._accepted = []

    def _on_ack(self, ack: Acked) -> None:
        slot = self._sent_slots.pop(ack.mid, None)
        row = self._sent_rows.pop(ack.mid, None)
        if row is not None:
            self._more = True
            self._doubt.answered(ack.mid)
            if ack.code < FAILURE:
                if self._aside.row_taken(row.seq, ack.code):
                    self._accept(row.seq, ack.code)
                self._counters.no_subscribers += ack.code == NO_SUBSCRIBERS
                self._taken(row.kind)
            elif ack.code in _UNFIT_CODES:
                self._counters.set_aside += 1
                self._outbox.set_aside(row.seq, ack.code)
                self._aside.row_refused(row.seq)
            else:
                self._aside.row_refused(row.seq)
                self._outbox.count_attempts([row.seq], ack.code)
                self._denied(row.kind, self._topic_of(row), ack)
        elif slot is not None:
            if ack.code < FAILURE:
                self._taken(slot.topic)
            else:
                self._presence.again(slot)
                self._denied(slot.topic, slot.topic, ack)
        else:
            self._aside.acked(ack)

    def _accept(self, seq: int, code: int) -> None:
        if not self._accepted:
            self._mark_at = time.monotonic() + _MARK_WITHIN_S
        self._accepted.append((seq, code))
        self._doubt.accepted(seq, time.monotonic())

    def _taken(self, what: str) -> None:
        # Only now: a broker that accepts the login and then throws us out is no success.
        self.retry.failures = 0
        if self._holds.accepted(what) and not self._holds:
            self._denial = ""

    def _denied(self, what: str, topic: str, ack: Acked) -> None:
        self._counters.denied += 1
        wait_s = self._holds.refused(what, time.monotonic(), jitter=self._jitter.random())
        if wait_s is not None:
            self._denial = f"the broker refused a message on {topic}: {ack.name}"
            _log.warning("%s (next try in %.0f s)", self._denial, wait_s)

    def _on_lost(self, lost: Lost) -> None:
        self._connection = None
        self._partials.connected(connected=False)
        self._aside.lost()
        if self._accepted:
            self._mark()
        self._outbox.doubt(self._doubt.lost(time.monotonic()))
        unanswered = [row.seq for row in self._sent_rows.values()]
        self._sent_rows.clear()
        self._sent_slots.clear()
        self._outbox.count_attempts(unanswered)
        self._failed(lost.cause, refused=lost.refused)
