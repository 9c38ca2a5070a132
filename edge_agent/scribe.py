"""The `scribe` thread: utterances in, committed finals and gaps out, in order, none lost.

The final decode starts while the endpoint is still waiting for its silence: `paused` hands over the
utterance so far, and when the silence holds the finished hypothesis is committed at once; until then it is
told as a partial. While one speaks, partials are decoded when nothing else waits, each with the one before as
its draft. Each utterance ends in
exactly one final or gap; what the guards reject is counted, and closed with an empty final only when partials
told of it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from edge_agent.clock import Clock
from edge_agent.engine.base import Engine
from edge_agent.errors import EngineError
from edge_agent.partials import Growing, PartialConfig
from edge_agent.text.habit import Habit
from edge_agent.text.stabilise import Stable
from edge_agent.types import DecodeOptions, Gap, Hypothesis, Latency, Utterance, Value
from edge_agent.work import Arrived, Early, Errand, Piece, Work, gap_of

_log = logging.getLogger(__name__)

_WAIT_S = 0.5
_KEPT_LATENCIES = 256
_KEPT_OF_STREAM = 64
_FAIR_MS_PER_S = 100.0
"""Talk without a pause is decoded when it is cut: that a final takes so long is no sign of a busy machine."""
_FAILURES_ALLOWED = 6
"""Failed decodes in a row (three utterances, each tried twice) after which the engine is given up."""


class Commit(Protocol):
    """Where the results go."""

    def final(self, utterance: Utterance, hypothesis: Hypothesis, latency: Latency, revision: int) -> str:
        """Commit a final durably; answers the name of the guard that rejected it, or an empty string.

        Args:
            utterance: what was said.
            hypothesis: what was heard.
            latency: of this final.
            revision: 1, or more when partials of the same id were published.
        """
        ...

    def partial(self, utterance: Utterance, hypothesis: Hypothesis, shown: Stable, revision: int) -> None:
        """Publish a partial, or drop it when the link is busy."""
        ...

    def gap(self, gap: Gap) -> None:
        """Commit a gap durably."""
        ...


class StreamFigures(Value, frozen=True):
    """Of one channel, over its last finals."""

    channel: int
    finals: int
    latency_p50_ms: float
    latency_p95_ms: float


class ScribeStatistics(Value, frozen=True):
    """Counters since the start; milliseconds over the last finals."""

    finals: int
    gaps: int
    partials: int
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
    streams: tuple[StreamFigures, ...] = ()


class _Heard(Value, frozen=True):
    """What an early decode heard."""

    utterance: Utterance
    hypothesis: Hypothesis
    done_ns: int


class _Stream:
    """Counts of one channel."""

    def __init__(self) -> None:
        self.finals = 0
        self.totals: deque[float] = deque(maxlen=_KEPT_OF_STREAM)

    def add(self, total_ms: float) -> None:
        self.finals += 1
        self.totals.append(total_ms)


class Scribe:
    """Owns the engine's time.

    Args:
        engine: recogniser; called from this thread only.
        options: of every final; partials want word times besides.
        commit: where results go.
        clock: for latencies.
        queue_s: seconds of audio that may wait.
        live: False for recordings fed faster than real time: producers then wait instead of losing audio, no
            partials are told, and the latency is the sum of its parts because the sample clock runs ahead.
        partials: how often the open utterances are told.
        snapshot: the open utterance of a channel, None in silence.
        refine: what is done to each text before anybody sees it (Chinese script).
        on_early: told what was heard while the endpoint still waits.
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
        partials: PartialConfig | None = None,
        snapshot: Callable[[int], Utterance | None] = lambda _channel: None,
        refine: Callable[[Hypothesis], Hypothesis] = lambda hypothesis: hypothesis,
        on_early: Callable[[Utterance, Hypothesis], None] = lambda _utterance, _hypothesis: None,
    ) -> None:
        self.progress = 0
        """Rises with each finished piece of work, and each idle wait."""
        self.failure: BaseException | None = None
        """What ended the thread: an engine that failed too often, or a fault of ours."""
        told = partials if partials is not None and live else PartialConfig(enabled=False)
        self.work = Work(clock=clock, queue_s=queue_s, live=live, partials=told)
        """Where the cutter puts what it cuts."""
        self._engine, self._options, self._commit, self._clock = engine, options, commit, clock
        self._live, self._snapshot, self._refine, self._on_early = live, snapshot, refine, on_early
        self._early: dict[int, _Heard] = {}
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._totals: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._decodes: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._streams: dict[int, _Stream] = {}
        self._habits: dict[int, Habit] = {}
        self._heard_s = self._spent_s = 0.0
        self._failures_in_a_row = 0
        self._thread = threading.Thread(target=self._run, name="scribe", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout_s: float) -> None:
        """Finish what waits within the time-out; what cannot be finished becomes gaps (cause "restart")."""
        self.work.finish()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        for gap in self.work.give_up():
            self._commit_gap(gap)

    @property
    def options(self) -> DecodeOptions:
        """Of every final."""
        return self._options

    def set_options(self, options: DecodeOptions) -> None:
        """Others from the next decode on; any thread."""
        self._options = options

    def statistics(self) -> ScribeStatistics:
        """A snapshot of the counters; any thread."""
        totals, decodes = sorted(self._totals), sorted(self._decodes)
        return ScribeStatistics(
            finals=self._counts["finals"],
            gaps=self._counts["gaps"],
            partials=self._counts["partials"],
            rejected=dict(self._rejected),
            early_decodes=self._counts["early"],
            early_wasted=self._counts["early"] - self._counts["early_used"],
            engine_errors=self._counts["errors"],
            queued_s=self.work.queued_s,
            latency_p50_ms=_percentile(totals, 0.5),
            latency_p95_ms=_percentile(totals, 0.95),
            decode_p50_ms=_percentile(decodes, 0.5),
            decode_p95_ms=_percentile(decodes, 0.95),
            real_time_factor=self._spent_s / self._heard_s if self._heard_s else 0.0,
            streams=tuple(
                StreamFigures(
                    channel=channel,
                    finals=stream.finals,
                    latency_p50_ms=_percentile(sorted(stream.totals), 0.5),
                    latency_p95_ms=_percentile(sorted(stream.totals), 0.95),
                )
                for channel, stream in sorted(self._streams.copy().items())
            ),
        )

    # The thread.

    def _run(self) -> None:
        try:
            while self.failure is None and not self.work.closing:
                piece = self.work.take(_WAIT_S)
                self.progress += 1
                if piece is not None:
                    self._do(piece)
                    self.work.done()
        except Exception as error:  # noqa: BLE001 - the thread's top: the main thread reads `failure` and ends
            self.failure = error
            _log.exception("the scribe stopped")

    def _do(self, piece: Piece) -> None:
        if isinstance(piece, Gap):
            self._commit_gap(piece)
        elif isinstance(piece, Early):
            self._decode_early(piece.utterance)
        elif isinstance(piece, Arrived):
            self._finish(piece)
        elif isinstance(piece, Errand):
            piece.run()
        else:
            self._tell_partial(piece.channel)

    def _decode_early(self, utterance: Utterance) -> None:
        growing = self.work.growing(utterance.channel)
        hypothesis = self._decode(utterance, told=growing)
        if hypothesis is not None:
            self._counts["early"] += 1
            self._early[utterance.channel] = _Heard(
                utterance=utterance, hypothesis=hypothesis, done_ns=self._clock.monotonic_ns()
            )
            self._on_early(utterance, hypothesis)
            if growing is not None and growing is self.work.growing(utterance.channel):
                # The last words are there while the endpoint still waits; the final is not yet.
                self._tell(growing, utterance, hypothesis, changed=True)

    def _tell_partial(self, channel: int) -> None:
        utterance, growing = self._snapshot(channel), self.work.growing(channel)
        if utterance is None or growing is None:
            return
        began_ns = self._clock.monotonic_ns()
        hypothesis = self._decode(utterance, told=growing, growing=True)
        growing.done(began_ns, self._clock.monotonic_ns())
        if hypothesis is not None:
            self._tell(growing, utterance, hypothesis)

    def _tell(
        self, growing: Growing, utterance: Utterance, hypothesis: Hypothesis, *, changed: bool = False
    ) -> None:
        """Publish a partial, unless there is nothing (new) to say."""
        if hypothesis.rejected or not hypothesis.text.strip():
            return
        shown = growing.take(utterance, hypothesis, changed=changed)
        if shown is not None:
            self._counts["partials"] += 1
            self._commit.partial(utterance, hypothesis, shown, growing.revision)

    def _finish(self, arrived: Arrived) -> None:
        utterance = arrived.utterance
        began_ns = self._clock.monotonic_ns()
        early = self._early_result(utterance)
        hypothesis = early.hypothesis if early else self._decode(utterance, told=arrived.told)
        self._early.pop(utterance.channel, None)
        if not self.work.claim(arrived):
            return
        if hypothesis is None:
            self._commit_gap(gap_of(utterance, "restart"))
            return
        if early:
            # Only the part of the early decode that the endpoint had to wait for counts.
            began_ns = arrived.at_ns
            latency = self._latency(arrived, began_ns, max(began_ns, early.done_ns))
        else:
            latency = self._latency(arrived, began_ns, self._clock.monotonic_ns())
        revision = 1 + (arrived.told.revision if arrived.told is not None else 0)
        reason = self._commit.final(utterance, hypothesis, latency, revision)
        if reason:
            self._rejected[reason] += 1
            return
        if self._options.language == "auto":  # a language that was set is nobody's habit
            self._habits.setdefault(utterance.channel, Habit()).note(
                hypothesis.language, hypothesis.language_probability
            )
        self._counts["finals"] += 1
        self._totals.append(latency.total)
        self.work.told(latency.queue + latency.decode - _FAIR_MS_PER_S * utterance.duration_s)
        self._streams.setdefault(utterance.channel, _Stream()).add(latency.total)
        self._decodes.append(latency.decode)

    def _early_result(self, utterance: Utterance) -> _Heard | None:
        """The early decode, when it heard exactly this audio."""
        early = self._early.get(utterance.channel)
        if early is None or early.utterance.id != utterance.id:
            return None
        if len(early.utterance.pcm) != len(utterance.pcm):
            return None
        self._counts["early_used"] += 1
        return early

    def _draft(self, utterance: Utterance, told: Growing | None) -> Hypothesis | None:
        """What was last heard of the same utterance."""
        early = self._early.get(utterance.channel)
        if early is not None and early.utterance.id == utterance.id:
            return early.hypothesis
        return told.hypothesis if told is not None else None

    def _decode(
        self, utterance: Utterance, *, told: Growing | None, growing: bool = False
    ) -> Hypothesis | None:
        """Decode with one retry; None when the engine failed twice."""
        options = self._options
        habit = self._habits.get(utterance.channel)
        usual = habit.usual if habit is not None else ""
        if growing:
            last = told.hypothesis if told is not None else None
            usual = usual or (last.language if last is not None else "")
            options = msgspec.structs.replace(options, words=True, growing=True)
        if usual and options.language == "auto":
            options = msgspec.structs.replace(options, usual_language=usual)
        draft = self._draft(utterance, told)
        for attempt in (1, 2):
            began_ns = self._clock.monotonic_ns()
            try:
                hypothesis = self._engine.transcribe(utterance.pcm, options=options, draft=draft)
            except EngineError as error:
                self._note(error, attempt)
                continue
            self._failures_in_a_row = 0
            self._spent_s += (self._clock.monotonic_ns() - began_ns) / 1e9
            self._heard_s += utterance.duration_s
            return self._refine(hypothesis)
        return None

    def _note(self, error: EngineError, attempt: int) -> None:
        self._counts["errors"] += 1
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= _FAILURES_ALLOWED:
            self.failure = error
        _log.error("decode failed", extra={"cause": error.cause, "attempt": attempt})

    def _latency(self, arrived: Arrived, began_ns: int, done_ns: int) -> Latency:
        decode = (done_ns - began_ns) / 1e6
        queue = (self._clock.monotonic_ns() - arrived.at_ns) / 1e6 - decode
        ended_ns = arrived.at_ns if self._live else arrived.utterance.ended_ns
        endpoint = max(0.0, (ended_ns - arrived.utterance.speech_end_ns) / 1e6)
        return Latency(endpoint=endpoint, queue=queue, decode=decode, total=endpoint + queue + decode)

    def _commit_gap(self, gap: Gap) -> None:
        self._commit.gap(gap)
        self._counts["gaps"] += 1


def _percentile(ranked: list[float], share: float) -> float:
    """Nearest-rank percentile of sorted values; 0 without values."""
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0
