"""One channel on its way from frames to utterances: segmenter, history of sound, meter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from edge_agent.audio.gate import Closed, Gate, GateConfig, Opened
from edge_agent.audio.level import Meter
from edge_agent.audio.segment import Ended, EndpointConfig, Event, Paused, Segmenter, Started
from edge_agent.clock import Clock, uuid7
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, Cut, Ending, PcmFloat, Utterance, Wake

_SLACK_S = 2.0

_FRAME_MS = 1000 * FRAME_SAMPLES // SAMPLE_RATE_HZ

Happening: TypeAlias = tuple[Event | Opened | Closed, Utterance | None]
"""What a frame brought, and for the end and the pause of an utterance its sound."""


class Stream:
    """Written by the cutter thread; `snapshot` may be called from any thread.

    Args:
        channel: number of the stream, as published.
        time_of: monotonic nanoseconds of a sample since the last reset.
        gate: when it is listened to at all; None: always.
    """

    def __init__(
        self,
        channel: int,
        *,
        config: EndpointConfig,
        clock: Clock,
        time_of: Callable[[int], int],
        gate: GateConfig | None = None,
    ) -> None:
        self.channel = channel
        self.meter = Meter()
        self.segmenter = Segmenter(config)
        self._clock = clock
        self._time_of = time_of
        self._gate = None if gate is None or gate.mode == "always" else Gate(gate)
        self._wake: Wake | None = None
        self._lock = threading.Lock()
        self._sound = np.zeros(_history_samples(config), np.float32)
        self._end = 0
        self._id = ""
        self._start_ns = 0
        self._start_utc_ms = 0
        self._synced = False

    @property
    def active(self) -> bool:
        """True when there is, or may be, an utterance."""
        return self.segmenter.active

    @property
    def start_ns(self) -> int:
        """Monotonic time of the first sample of the open utterance."""
        return self._start_ns

    def configure(self, config: EndpointConfig) -> None:
        """Use other endpoint values from the next frame on. Cutter thread only."""
        with self._lock:
            if _history_samples(config) > len(self._sound):
                self._grow(_history_samples(config))
            self.segmenter.config = config

    def advise(self, utterance_id: str, ending: Ending) -> None:
        """How the words of the open utterance look at this pause. Cutter thread only."""
        with self._lock:
            if self._id == utterance_id and self.segmenter.active:
                self.segmenter.advise(ending)

    @property
    def listening(self) -> bool:
        """False while a gate keeps it from being heard."""
        return self._gate is None or self._gate.is_open

    def listen(self, duration_s: float | None) -> tuple[Happening, ...]:
        """Open the gate, as `Gate.listen`; with 0 end what is open and close it. Cutter thread only."""
        gate = self._gate
        if gate is None:
            return ()
        with self._lock:
            if duration_s == 0:
                was_open = gate.is_open
                gate.close()
                ended = tuple(map(self._happening, self.segmenter.stop("stop")))
                return (*ended, (Closed(), None)) if was_open else ended
            was_open = gate.is_open
            gate.listen(self._clock.monotonic_ns(), duration_s)
            return () if was_open else self._opened(None, gate.config.pre_roll_ms)

    def frame(self, sound: PcmFloat, probability: float, wake: Wake | None = None) -> tuple[Happening, ...]:
        """Take one frame float32[512], its speech probability and the wake word's score if there is one."""
        level_db = self.meter.update(sound)
        with self._lock:
            at = self._end % len(self._sound)
            self._sound[at : at + FRAME_SAMPLES] = sound  # the length is a multiple of a frame
            self._end += FRAME_SAMPLES
            if self._gate is not None:
                return self._behind(self._gate, probability, level_db, wake)
            events = self.segmenter.step(probability, level_db)
            return tuple(map(self._happening, events)) if events else ()

    def stop(self, cut: Cut) -> tuple[Happening, ...]:
        """End the open utterance."""
        with self._lock:
            if self._gate is not None and cut == "gap" and self.segmenter.active:
                self._gate.go_on(self._time_of(self._end))
            return tuple(map(self._happening, self.segmenter.stop(cut)))

    def reset(self) -> None:
        """Forget the sound; for use after a gap."""
        with self._lock:
            self.segmenter.reset()
            self._end = 0

    def snapshot(self) -> Utterance | None:
        """The utterance so far, up to the newest sample; None in silence."""
        with self._lock:
            start = self.segmenter.start_sample
            if start is None:
                return None
            return self._utterance(start, self.segmenter.speech_end_sample, self._end, "stop")

    def _behind(
        self, gate: Gate, probability: float, level_db: float, wake: Wake | None
    ) -> tuple[Happening, ...]:
        """A frame behind a gate."""
        now_ns = self._time_of(self._end)
        if not gate.is_open:
            self.segmenter.skip(probability, level_db)
            if wake is None or not gate.wakes(wake.score, now_ns):
                return ()
            before_ms = gate.config.wake_pre_roll_ms
            speaking = probability >= self.segmenter.config.threshold
            return self._opened(wake, before_ms, gate.config.rest_ms + before_ms if speaking else 0)
        events = self.segmenter.step(probability, level_db)
        found = tuple(map(self._happening, events)) if events else ()
        cuts = [event.cut for event in events if isinstance(event, Ended)]
        if "max_length" in cuts:
            gate.go_on(now_ns)
        closed = gate.follow(now_ns, speaking=self.segmenter.active, ended="silence" in cuts)
        return (*found, (Closed(), None)) if closed else found

    def _opened(self, wake: Wake | None, before_ms: int, rest_ms: int = 0) -> tuple[Happening, ...]:
        """What was said just before is heard too."""
        self._wake = wake
        events = self.segmenter.rehear(before_ms // _FRAME_MS, rest_ms)
        return ((Opened(wake=wake), None), *map(self._happening, events))

    def _happening(self, event: Event) -> Happening:
        if isinstance(event, Started):
            self._begin(event.at_sample)
            return event, None
        if isinstance(event, Ended):
            sound = self._utterance(event.start_sample, event.speech_end_sample, event.end_sample, event.cut)
            return event, sound
        start = self.segmenter.start_sample
        if isinstance(event, Paused) and start is not None:
            return event, self._utterance(start, event.speech_end_sample, event.end_sample, "silence")
        return event, None

    def _begin(self, start: int) -> None:
        self._start_ns = self._time_of(start)
        age_ms = (self._clock.monotonic_ns() - self._start_ns) // 1_000_000
        self._start_utc_ms = self._clock.utc_ms() - age_ms
        self._synced = self._clock.synced()
        self._id = uuid7(self._start_utc_ms)

    def _utterance(self, start: int, speech_end: int, end: int, cut: Cut) -> Utterance:
        return Utterance(
            id=self._id,
            channel=self.channel,
            start_ns=self._start_ns,
            speech_end_ns=self._time_of(speech_end),
            start_utc_ms=self._start_utc_ms,
            clock_synced=self._synced,
            pcm=self._copy(start, end),
            cut=cut,
            ended_ns=self._time_of(self._end),
            wake=self._wake,
        )

    def _copy(self, start: int, end: int) -> PcmFloat:
        size = len(self._sound)
        at = start % size
        if at + end - start <= size:
            return self._sound[at : at + end - start].copy()
        return np.concatenate((self._sound[at:], self._sound[: end - start - (size - at)]))

    def _grow(self, samples: int) -> None:
        old, first = self._sound, max(0, self._end - len(self._sound))
        kept = self._copy(first, self._end) if self._end else old[:0]
        self._sound = np.zeros(samples, np.float32)
        at = (first + np.arange(len(kept))) % samples
        self._sound[at] = kept


def _history_samples(config: EndpointConfig) -> int:
    seconds = config.max_utterance_s + config.pre_roll_ms / 1000 + _SLACK_S
    return -(-int(seconds * SAMPLE_RATE_HZ) // FRAME_SAMPLES) * FRAME_SAMPLES
