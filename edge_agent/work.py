"""What waits for the scribe: finished utterances and gaps in order; early decodes and partials in spare time.

The bound is seconds of audio. Over it the oldest waiting utterance becomes a gap (cause "overload") in its
place; a recording that can be held back is held back instead.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from edge_agent.clock import Clock
from edge_agent.partials import Growing, PartialConfig, Partials
from edge_agent.types import Gap, GapCause, Utterance, Value

_WAIT_S = 0.5
_ERRAND_PATIENCE_S = 5.0
_LATE_NS = 20_000_000_000


class Arrived(Value, frozen=True):
    """A finished utterance and the monotonic time its end was declared."""

    utterance: Utterance
    at_ns: int
    told: Any = None
    """Growing: what partials told of it; None when there were none."""


class Early(Value, frozen=True):
    """An utterance at its first silence: probably finished."""

    utterance: Utterance


class PartialDue(Value, frozen=True):
    """It is time to say what was heard so far on a channel."""

    channel: int


class Errand(Value, frozen=True):
    """Something else for the thread that owns the engine, done in a pause."""

    run: Callable[[], None]
    urgent: bool = False


Piece: TypeAlias = Arrived | Gap | Early | PartialDue | Errand


class Work:
    """Filled by the cutter, emptied by the scribe.

    Args:
        clock: for arrival times and due partials.
        queue_s: seconds of audio that may wait.
        live: False: producers wait while it is full instead of losing audio.
        partials: how often the open utterances are told.
    """

    def __init__(self, *, clock: Clock, queue_s: float, live: bool, partials: PartialConfig) -> None:
        self._clock, self._queue_s, self._live = clock, queue_s, live
        self._changed = threading.Condition()
        self._pieces: deque[Arrived | Gap] = deque()
        self._early: dict[int, Utterance] = {}
        self._partials = Partials(partials)
        self._queued_s = 0.0
        self.dropped = 0
        """Utterances that became gaps because too much waited."""
        self._late: deque[tuple[int, float]] = deque(maxlen=2)
        self._errands: deque[tuple[int, Errand]] = deque()
        self._speaking: set[int] = set()
        self._taken: Piece | None = None
        self._busy = False
        self._closed = False

    @property
    def queued_s(self) -> float:
        """Seconds of audio that wait."""
        return self._queued_s

    # The cutter's side.

    def final(self, utterance: Utterance) -> None:
        """Add a finished utterance."""
        with self._changed:
            while not self._live and self._over(utterance) and not self._closed:
                self._changed.wait(_WAIT_S)
            while self._over(utterance) and self._drop_oldest():
                pass
            self._early.pop(utterance.channel, None)
            self._speaking.discard(utterance.channel)
            told = self._partials.ended(utterance.channel)
            self._pieces.append(Arrived(utterance=utterance, at_ns=self._clock.monotonic_ns(), told=told))
            self._queued_s += utterance.duration_s
            self._changed.notify_all()

    def gap(self, gap: Gap) -> None:
        """Add a gap behind what came before it."""
        with self._changed:
            self._pieces.append(gap)
            self._changed.notify_all()

    def started(self, channel: int, start_ns: int | None = None) -> None:
        """Speech began, its sound at `start_ns`: partials are due from now on."""
        with self._changed:
            self._speaking.add(channel)
            self._partials.started(channel, self._clock.monotonic_ns(), start_ns)
            self._changed.notify_all()

    def paused(self, utterance: Utterance) -> None:
        """The first silence: decode early, stop telling partials."""
        with self._changed:
            self._early[utterance.channel] = utterance
            self._partials.paused(utterance.channel, paused=True)
            self._changed.notify_all()

    def resumed(self, channel: int) -> None:
        """Speech went on: an early decode that has not begun is not needed."""
        with self._changed:
            self._early.pop(channel, None)
            self._partials.paused(channel, paused=False)
            self._changed.notify_all()

    # The scribe's side.

    def take(self, timeout_s: float) -> Piece | None:
        """The next piece, finals before early decodes before partials; None when there is none in time."""
        with self._changed:
            piece = self._pick()
            if piece is None and not self._closed:
                self._changed.wait(self._partials.wait_s(self._clock.monotonic_ns(), timeout_s))
                piece = self._pick()
            self._taken = piece
            self._busy = piece is not None
            return piece

    def done(self) -> None:
        """The piece taken last is finished."""
        with self._changed:
            self._taken, self._busy = None, False
            self._changed.notify_all()

    def claim(self, arrived: Arrived) -> bool:
        """Before committing: False when `close` has already given the utterance up."""
        with self._changed:
            mine = self._taken is arrived
            self._taken = None
            return mine

    def told(self, late_ms: float) -> None:
        """A final was committed so long after its end had been declared, less what its length excuses."""
        self._late.append((self._clock.monotonic_ns(), late_ms))

    def growing(self, channel: int) -> Growing | None:
        """What was told of the open utterance of a channel."""
        return self._partials.growing(channel)

    # The main thread's side.

    @property
    def late_ms(self) -> float:
        """How late the last two finals were, the less late of them; 0 when one of them is long ago."""
        since_ns = self._clock.monotonic_ns() - _LATE_NS
        last = [late_ms for at_ns, late_ms in self._late.copy() if at_ns > since_ns]
        return min(last) if len(last) == self._late.maxlen else 0.0

    def set_partials(self, config: PartialConfig) -> None:
        """Tell partials so from the next utterance on; a recording fed faster than real time tells none."""
        with self._changed:
            self._partials.configure(config if self._live else PartialConfig(enabled=False))

    def errand(
        self, run: Callable[[], None], *, patience_s: float = _ERRAND_PATIENCE_S, urgent: bool = False
    ) -> None:
        """Have it run by the scribe when nothing waits and nobody speaks; after `patience_s` as soon as
        nothing waits, or if it is urgent, before what waits: it may be the cure for that."""
        with self._changed:
            patience_ns = self._clock.monotonic_ns() + int(patience_s * 1e9)
            self._errands.append((patience_ns, Errand(run=run, urgent=urgent)))
            self._changed.notify_all()

    def pace_partials(self, factor: float, *, off: bool = False) -> None:
        """Tell partials at `factor` times the configured interval from now on, or none."""
        with self._changed:
            self._partials.pace.factor, self._partials.pace.off = factor, off
            self._changed.notify_all()

    @property
    def closing(self) -> bool:
        """True once `finish` was called and nothing waits."""
        with self._changed:
            return self._closed and not self._pieces

    def finish(self) -> None:
        """Nothing more comes; what waits is still to be taken."""
        with self._changed:
            self._closed = True
            self._early.clear()
            self._changed.notify_all()

    def give_up(self) -> list[Gap]:
        """Out of time: everything left, and what is being decoded, as gaps."""
        with self._changed:
            left: list[Arrived | Gap] = list(self._pieces)
            if isinstance(self._taken, Arrived | Gap):
                left.insert(0, self._taken)
                self._taken = None
            self._pieces.clear()
            self._queued_s = 0.0
        return [piece if isinstance(piece, Gap) else gap_of(piece.utterance, "restart") for piece in left]

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing waits or is being worked on."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pieces and not self._busy, timeout_s)

    # Inside, with the lock held.

    def _pick(self) -> Piece | None:
        if self._errands and self._errands[0][1].urgent and self._clock.monotonic_ns() >= self._errands[0][0]:
            return self._errands.popleft()[1]
        if self._pieces:
            piece = self._pieces.popleft()
            if isinstance(piece, Arrived):
                self._queued_s -= piece.utterance.duration_s
            return piece
        if self._closed:
            return None
        if self._early:
            return Early(utterance=self._early.pop(next(iter(self._early))))
        now_ns = self._clock.monotonic_ns()
        channel = self._partials.due(now_ns)
        if channel is not None:
            return PartialDue(channel=channel)
        if self._errands and (not self._speaking or now_ns >= self._errands[0][0]):
            return self._errands.popleft()[1]
        return None

    def _over(self, utterance: Utterance) -> bool:
        return bool(self._pieces) and self._queued_s + utterance.duration_s > self._queue_s

    def _drop_oldest(self) -> bool:
        """Turn the oldest waiting utterance into a gap in its place; False when none waits."""
        for place, piece in enumerate(self._pieces):
            if isinstance(piece, Arrived):
                self._pieces[place] = gap_of(piece.utterance, "overload")
                self.dropped += 1
                self._queued_s -= piece.utterance.duration_s
                return True
        return False


def gap_of(utterance: Utterance, cause: GapCause) -> Gap:
    """The gap that stands for an utterance nobody will read."""
    return Gap(
        start_ns=utterance.start_ns,
        duration_ms=(utterance.speech_end_ns - utterance.start_ns) / 1e6,
        cause=cause,
        channel=utterance.channel,
        id=utterance.id,
    )
