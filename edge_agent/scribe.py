"""The `scribe` thread: utterances in, committed finals and gaps out, in order, none lost.

The final decode starts while the endpoint is still waiting for its silence: `paused` hands over the utterance
so far, and when the silence holds the finished hypothesis is committed at once. Finals always go before
such early decodes. The queue is bounded by seconds of audio; when it is full the oldest utterance becomes a
gap (cause "overload"), so that each utterance ends in exactly one final or gap.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from typing import Protocol

from edge_agent.clock import Clock
from edge_agent.engine.base import Engine
from edge_agent.errors import EngineError
from edge_agent.types import DecodeOptions, Gap, GapCause, Hypothesis, Latency, Utterance, Value

_log = logging.getLogger(__name__)

_WAIT_S = 0.5
_KEPT_LATENCIES = 256
_FAILURES_ALLOWED = 6
"""Failed decodes in a row (three utterances, each tried twice) after which the engine is given up."""


class Commit(Protocol):
    """Where finished utterances go: durable before it returns."""

    def final(self, utterance: Utterance, hypothesis: Hypothesis, latency: Latency) -> str:
        """Commit a final; answers the name of the guard that rejected it, or an empty string."""
        ...

    def gap(self, gap: Gap) -> None:
        """Commit a gap."""
        ...


class ScribeStatistics(Value, frozen=True):
    """Counters since the start; milliseconds over the last finals."""

    finals: int
    gaps: int
    rejected: dict[str, int]
    early_decodes: int
    early_wasted: int
    engine_errors: int
    queued_s: float
    latency_p50_ms: float
    latency_p95_ms: float
    decode_p50_ms: float
    decode_p95_ms: float
    real_time_factor: float
    last_final_ns: int


class _Arrived(Value, frozen=True):
    """An utterance and the monotonic time its end was declared."""

    utterance: Utterance
    at_ns: int


class _Early(Value, frozen=True):
    """What an early decode heard."""

    utterance: Utterance
    hypothesis: Hypothesis
    done_ns: int


class Scribe:
    """Owns the engine's time.

    Args:
        engine: recogniser; called from this thread only.
        options: of every decode.
        commit: durable hand-over.
        clock: for latencies.
        queue_s: seconds of audio that may wait.
        live: False for recordings fed faster than real time: producers then wait instead of losing audio, and
            the latency is the sum of its parts because the sample clock runs ahead of the wall.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        options: DecodeOptions,
        commit: Commit,
        clock: Clock,
        queue_s: float = 120.0,
        live: bool = True,
    ) -> None:
        self.progress = 0
        """Rises with each finished piece of work, and each idle wait."""
        self.failure: EngineError | None = None
        """Set when the engine failed too often; the thread has then ended."""
        self._engine, self._options, self._commit, self._clock = engine, options, commit, clock
        self._queue_s, self._live = queue_s, live
        self._work: deque[_Arrived | Gap] = deque()
        self._queued_s = 0.0
        self._early: dict[int, Utterance] = {}
        self._ready: dict[int, _Early] = {}
        self._wakes = threading.Condition()
        self._stopping = False
        self._busy = False
        self._current: _Arrived | None = None
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._totals: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._decodes: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._heard_s = self._spent_s = 0.0
        self._failures_in_a_row = 0
        self._last_final_ns = 0
        self._thread = threading.Thread(target=self._run, name="scribe", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    # Called by the cutter.

    def final(self, utterance: Utterance) -> None:
        """Take a finished utterance; over the bound, the oldest waiting one becomes a gap."""
        with self._wakes:
            while not self._live and self._over(utterance) and self._thread.is_alive() and not self._stopping:
                self._wakes.wait(_WAIT_S)
            while self._over(utterance) and self._drop_oldest():
                pass
            self._early.pop(utterance.channel, None)
            self._work.append(_Arrived(utterance=utterance, at_ns=self._clock.monotonic_ns()))
            self._queued_s += utterance.duration_s
            self._wakes.notify_all()

    def gap(self, gap: Gap) -> None:
        """Take a gap; it keeps its place behind the utterances before it."""
        with self._wakes:
            self._work.append(gap)
            self._wakes.notify_all()

    def paused(self, utterance: Utterance) -> None:
        """Take the utterance so far at the first silence: decode it early when nothing else waits."""
        with self._wakes:
            self._early[utterance.channel] = utterance
            self._wakes.notify_all()

    def resumed(self, channel: int) -> None:
        """Speech went on: an early decode that has not begun is not needed."""
        with self._wakes:
            self._early.pop(channel, None)

    # Called by the main thread.

    def stop(self, timeout_s: float) -> None:
        """Finish what waits within the time-out; what cannot be finished becomes gaps (cause "restart")."""
        with self._wakes:
            self._stopping = True
            self._early.clear()
            self._wakes.notify_all()
        self._thread.join(timeout_s)
        with self._wakes:
            left, self._work = list(self._work), deque()
            self._queued_s = 0.0
            if self._current is not None:
                left.insert(0, self._current)
                self._current = None
        for piece in left:
            self._commit_gap(piece if isinstance(piece, Gap) else _gap_of(piece.utterance, "restart"))

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing waits or is being decoded."""
        with self._wakes:
            return self._wakes.wait_for(lambda: not self._work and not self._busy, timeout_s)

    def statistics(self) -> ScribeStatistics:
        """A snapshot of the counters."""
        with self._wakes:
            return ScribeStatistics(
                finals=self._counts["finals"],
                gaps=self._counts["gaps"],
                rejected=dict(self._rejected),
                early_decodes=self._counts["early"],
                early_wasted=self._counts["early"] - self._counts["early_used"],
                engine_errors=self._counts["errors"],
                queued_s=self._queued_s,
                latency_p50_ms=_percentile(self._totals, 0.5),
                latency_p95_ms=_percentile(self._totals, 0.95),
                decode_p50_ms=_percentile(self._decodes, 0.5),
                decode_p95_ms=_percentile(self._decodes, 0.95),
                real_time_factor=self._spent_s / self._heard_s if self._heard_s else 0.0,
                last_final_ns=self._last_final_ns,
            )

    # The thread.

    def _run(self) -> None:
        while self.failure is None:
            piece = self._next()
            if piece is None:
                return
            try:
                self._do(piece)
            finally:
                with self._wakes:
                    self._busy = False
                    self.progress += 1
                    self._wakes.notify_all()

    def _next(self) -> _Arrived | Gap | Utterance | None:
        """The next piece of work, finals first; None when stopping and nothing waits."""
        with self._wakes:
            while not self._work and not self._early:
                if self._stopping:
                    return None
                self._wakes.wait(_WAIT_S)
                self.progress += 1
            self._busy = True
            if self._work:
                piece = self._work.popleft()
                if isinstance(piece, _Arrived):
                    self._queued_s -= piece.utterance.duration_s
                    self._current = piece
                return piece
            channel = next(iter(self._early))
            return self._early.pop(channel)

    def _do(self, piece: _Arrived | Gap | Utterance) -> None:
        if isinstance(piece, Gap):
            self._commit_gap(piece)
        elif isinstance(piece, Utterance):
            self._decode_early(piece)
        else:
            self._finish(piece)

    def _decode_early(self, utterance: Utterance) -> None:
        hypothesis = self._decode(utterance)
        if hypothesis is not None:
            self._counts["early"] += 1
            self._ready[utterance.channel] = _Early(
                utterance=utterance, hypothesis=hypothesis, done_ns=self._clock.monotonic_ns()
            )

    def _finish(self, arrived: _Arrived) -> None:
        utterance = arrived.utterance
        began_ns = self._clock.monotonic_ns()
        early = self._early_result(utterance)
        hypothesis = early.hypothesis if early else self._decode(utterance)
        self._ready.pop(utterance.channel, None)
        if hypothesis is None:
            if self._still_mine(arrived):
                self._commit_gap(_gap_of(utterance, "restart"))
            return
        if early:
            # Only the part of the early decode that the endpoint had to wait for counts.
            began_ns = arrived.at_ns
            latency = self._latency(arrived, began_ns, max(began_ns, early.done_ns))
        else:
            latency = self._latency(arrived, began_ns, self._clock.monotonic_ns())
        if not self._still_mine(arrived):
            return
        reason = self._commit.final(utterance, hypothesis, latency)
        with self._wakes:
            if reason:
                self._rejected[reason] += 1
                return
            self._counts["finals"] += 1
            self._totals.append(latency.total)
            self._decodes.append(latency.decode)
            self._last_final_ns = self._clock.monotonic_ns()

    def _still_mine(self, arrived: _Arrived) -> bool:
        """False when `stop` ran out of patience and has already committed a gap for it."""
        with self._wakes:
            mine = self._current is arrived
            self._current = None
        return mine

    def _early_result(self, utterance: Utterance) -> _Early | None:
        """The early decode, when it heard exactly this audio."""
        early = self._ready.get(utterance.channel)
        if early is None or early.utterance.id != utterance.id:
            return None
        if len(early.utterance.pcm) != len(utterance.pcm):
            return None
        self._counts["early_used"] += 1
        return early

    def _decode(self, utterance: Utterance) -> Hypothesis | None:
        """Decode with one retry; None when the engine failed twice."""
        early = self._ready.get(utterance.channel)
        draft = early.hypothesis if early is not None and early.utterance.id == utterance.id else None
        for attempt in (1, 2):
            began_ns = self._clock.monotonic_ns()
            try:
                hypothesis = self._engine.transcribe(utterance.pcm, options=self._options, draft=draft)
            except EngineError as error:
                self._counts["errors"] += 1
                _log.error("decode failed", extra={"cause": error.cause, "attempt": attempt})
                self._failures_in_a_row += 1
                if self._failures_in_a_row >= _FAILURES_ALLOWED:
                    self.failure = error
                continue
            self._failures_in_a_row = 0
            self._spent_s += (self._clock.monotonic_ns() - began_ns) / 1e9
            self._heard_s += utterance.duration_s
            return hypothesis
        return None

    def _latency(self, arrived: _Arrived, began_ns: int, done_ns: int) -> Latency:
        decode = (done_ns - began_ns) / 1e6
        queue = (self._clock.monotonic_ns() - arrived.at_ns) / 1e6 - decode
        endpoint = (arrived.at_ns - arrived.utterance.speech_end_ns) / 1e6
        if not self._live:
            endpoint = (arrived.utterance.ended_ns - arrived.utterance.speech_end_ns) / 1e6
        endpoint = max(0.0, endpoint)
        return Latency(endpoint=endpoint, queue=queue, decode=decode, total=endpoint + queue + decode)

    def _commit_gap(self, gap: Gap) -> None:
        self._commit.gap(gap)
        with self._wakes:
            self._counts["gaps"] += 1

    def _over(self, utterance: Utterance) -> bool:
        return bool(self._work) and self._queued_s + utterance.duration_s > self._queue_s

    def _drop_oldest(self) -> bool:
        """Turn the oldest waiting utterance into a gap in its place; False when none waits."""
        for place, piece in enumerate(self._work):
            if isinstance(piece, _Arrived):
                self._work[place] = _gap_of(piece.utterance, "overload")
                self._queued_s -= piece.utterance.duration_s
                return True
        return False


def _gap_of(utterance: Utterance, cause: GapCause) -> Gap:
    """The gap that stands for an utterance nobody will read."""
    return Gap(
        start_ns=utterance.start_ns,
        duration_ms=(utterance.speech_end_ns - utterance.start_ns) / 1e6,
        cause=cause,
        channel=utterance.channel,
    )


def _percentile(values: deque[float], share: float) -> float:
    """Nearest-rank percentile; 0 without values."""
    if not values:
        return 0.0
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
