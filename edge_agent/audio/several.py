"""Several devices as one: each has ears, a ring and a cutter of its own, and numbers its channels on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edge_agent.audio.cutter import Callbacks, CutStatistics, Cutter
from edge_agent.audio.ears import Ears, EarsStatistics
from edge_agent.audio.gate import GateConfig
from edge_agent.audio.gate_wake import WakeWord
from edge_agent.audio.level import Level
from edge_agent.audio.ring import Ring
from edge_agent.audio.segment import EndpointConfig
from edge_agent.audio.source import AudioSource
from edge_agent.clock import Clock
from edge_agent.types import Ending, Utterance

_WORST_FIRST = ("lost", "starting", "muted", "hearing", "ended")


class _Thread(Protocol):
    @property
    def alive(self) -> bool: ...
    @property
    def progress(self) -> int: ...


class _Together:
    """One heartbeat of several threads: it rises when all that live have moved on."""

    def __init__(self, threads: Sequence[_Thread]) -> None:
        self._threads = threads
        self._marks = [-1] * len(threads)
        self._beats = 0

    def beats(self) -> int:
        """For one caller."""
        now = [thread.progress for thread in self._threads]
        pairs = zip(self._threads, now, self._marks, strict=True)
        if all(progress > mark or not thread.alive for thread, progress, mark in pairs):
            self._marks, self._beats = now, self._beats + 1
        return self._beats


class AllEars:
    """The ears of all devices."""

    def __init__(self, devices: Sequence[tuple[str, Ears]]) -> None:
        self._devices = devices
        self._all = [ears for _, ears in devices]
        self._together = _Together(self._all)

    @property
    def failure(self) -> BaseException | None:
        """Of the first that failed."""
        return next((ears.failure for ears in self._all if ears.failure is not None), None)

    def start(self) -> None:
        """Start the threads."""
        for ears in self._all:
            ears.start()

    def stop(self) -> None:
        """End soon."""
        for ears in self._all:
            ears.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for all threads, each at most its share of the time."""
        ended = [ears.join(timeout_s / len(self._all)) for ears in self._all]
        return all(ended)

    def mute(self) -> None:
        """Close all devices."""
        for ears in self._all:
            ears.mute()

    def unmute(self) -> None:
        """Open them again."""
        for ears in self._all:
            ears.unmute()

    @property
    def alive(self) -> bool:
        """True while one of them hears."""
        return any(ears.alive for ears in self._all)

    @property
    def progress(self) -> int:
        """A heartbeat that stops when one of them hangs. One caller."""
        return self._together.beats()

    def each(self) -> list[EarsStatistics]:
        """Of each device, in the order of the configuration."""
        return [ears.statistics() for ears in self._all]

    def statistics(self) -> EarsStatistics:
        """Sums; the state of the device that is worst off, and all reasons."""
        each = self.each()
        several = len(each) > 1
        reasons = [
            f"{name}: {one.reason}" if several else one.reason
            for (name, _), one in zip(self._devices, each, strict=True)
            if one.reason
        ]
        return EarsStatistics(
            state=min((one.state for one in each), key=_WORST_FIRST.index),
            reason="; ".join(reasons),
            frames=sum(one.frames for one in each),
            overruns=sum(one.overruns for one in each),
            losses=sum(one.losses for one in each),
            dropped_frames=sum(one.dropped_frames for one in each),
        )


class AllCutters:
    """The cutters of all devices; a channel number says which."""

    def __init__(self, cutters: Sequence[Cutter], streams: int) -> None:
        self._all, self._streams = cutters, streams
        self._together = _Together(cutters)

    @property
    def channels(self) -> range:
        """The numbers of all streams."""
        return range(len(self._all) * self._streams)

    @property
    def failure(self) -> BaseException | None:
        """Of the first that failed."""
        return next((cutter.failure for cutter in self._all if cutter.failure is not None), None)

    def start(self) -> None:
        """Start the threads."""
        for cutter in self._all:
            cutter.start()

    def stop(self) -> None:
        """End soon."""
        for cutter in self._all:
            cutter.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for all threads, each at most its share of the time."""
        ended = [cutter.join(timeout_s / len(self._all)) for cutter in self._all]
        return all(ended)

    @property
    def alive(self) -> bool:
        """True while one of them cuts."""
        return any(cutter.alive for cutter in self._all)

    @property
    def progress(self) -> int:
        """A heartbeat that stops when one of them hangs. One caller."""
        return self._together.beats()

    def flush(self) -> None:
        """Publish what is open now and go on."""
        for cutter in self._all:
            cutter.flush()

    def configure(self, config: EndpointConfig) -> None:
        """Use other endpoint values from the next frame on."""
        for cutter in self._all:
            cutter.configure(config)

    def listen(self, channel: int | None, duration_s: float | None) -> None:
        """Open the gate of one channel or of all."""
        for cutter in self._all if channel is None else (self._of(channel),):
            cutter.listen(channel, duration_s)

    @property
    def listening(self) -> tuple[bool, ...]:
        """Of each stream, whether it is heard now."""
        return tuple(one for cutter in self._all for one in cutter.listening)

    def advise(self, channel: int, utterance_id: str, ending: Ending) -> None:
        """How the words of a paused utterance look."""
        self._of(channel).advise(channel, utterance_id, ending)

    def snapshot(self, channel: int) -> Utterance | None:
        """The open utterance up to the newest sample; None in silence."""
        return self._of(channel).snapshot(channel)

    def level(self, channel: int) -> Level:
        """Loudness of the last second."""
        return self._of(channel).level(channel)

    def statistics(self) -> CutStatistics:
        """Sums over all devices."""
        each = [cutter.statistics() for cutter in self._all]
        gaps: dict[str, float] = {}
        for one in each:
            for cause, seconds in one.gap_s_by_cause.items():
                gaps[cause] = gaps.get(cause, 0.0) + seconds
        return CutStatistics(
            heard_s=sum(one.heard_s for one in each),
            gap_s=sum(one.gap_s for one in each),
            gap_s_by_cause=gaps,
            utterances=sum(one.utterances for one in each),
            speech_s=sum(one.speech_s for one in each),
            clicks=sum(one.clicks for one in each),
            probe_ms=tuple(probe_ms for one in each for probe_ms in one.probe_ms),
        )

    def _of(self, channel: int) -> Cutter:
        return self._all[channel // self._streams]


def hearing(
    sources: Sequence[AudioSource],
    *,
    clock: Clock,
    config: EndpointConfig,
    callbacks: Callbacks,
    use_channels: tuple[int, ...],
    gate: GateConfig | None = None,
    wake_model: Path | None = None,
) -> tuple[AllEars, AllCutters]:
    """Ears and cutters for each device; not started.

    Args:
        sources: the devices; the streams of the second are numbered on from those of the first.
        config: endpoint values of all streams.
        callbacks: who gets what comes out; called from as many threads as there are devices.
        use_channels: of each device.
        gate: when the streams are listened to at all; None: always.
        wake_model: of the wake word, for a gate that waits for one.

    Raises:
        ConfigError: the wake word model cannot be used.
    """
    streams = max(1, len(use_channels))
    ears, cutters = [], []
    for number, source in enumerate(sources):
        ring = Ring()
        cutters.append(
            Cutter(
                ring,
                clock=clock,
                config=config,
                callbacks=callbacks,
                use_channels=use_channels,
                first_channel=number * streams,
                gate=gate,
                wake=None if wake_model is None else WakeWord(wake_model, streams),
            )
        )
        ears.append((source.name, Ears(source, ring, clock=clock)))
    return AllEars(ears), AllCutters(cutters, streams)
