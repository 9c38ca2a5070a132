"""The `cutter` thread: ring -> 16 kHz -> speech probability -> utterances, for each used channel."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec.structs import replace

from edge_agent.audio.gate import Closed, GateConfig, Opened
from edge_agent.audio.gate_wake import WakeWord
from edge_agent.audio.level import Level
from edge_agent.audio.resample import Resampler
from edge_agent.audio.ring import Chunk, Ring
from edge_agent.audio.segment import Ended, EndpointConfig, Paused, Resumed, Started
from edge_agent.audio.source import EndOfAudio
from edge_agent.audio.stream import Happening, Stream
from edge_agent.audio.vad import Vad
from edge_agent.clock import Clock
from edge_agent.errors import CaptureError, EdgeAgentError
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, Cut, Ending, Gap, Utterance, Value, Wake

_log = logging.getLogger(__name__)
_NS_PER_SAMPLE = 1_000_000_000 // SAMPLE_RATE_HZ
_IDLE_S = 4 * FRAME_SAMPLES / SAMPLE_RATE_HZ  # nobody speaks: wake up less often, and find the caches warm
_READ_S = 0.25  # how long a read may wait; bounds the time to stop


class CutStatistics(Value, frozen=True):
    """Where the time of the source went: heard_s + gap_s is all of it."""

    heard_s: float
    gap_s: float
    gap_s_by_cause: dict[str, float]
    utterances: int
    speech_s: float
    """Of heard_s, what went into utterances."""
    clicks: int
    """Bursts too short to be an utterance."""
    probe_ms: tuple[int, ...] = ()
    """Of each stream, the silence after which an early decode pays now."""


class Callbacks(Value, frozen=True):
    """What the cutter tells; called on its thread, so they must be quick and raise nothing."""

    on_utterance: Callable[[Utterance], None]
    on_gap: Callable[[Gap], None]
    on_started: Callable[[int, int], None] = lambda _channel, _start_ns: None
    """channel, start_ns"""
    on_paused: Callable[[int, Utterance], None] = lambda _channel, _snapshot: None
    """channel, the utterance as it will be if speech does not go on (same id, same sound)"""
    on_resumed: Callable[[int], None] = lambda _channel: None
    """channel"""
    on_opened: Callable[[int, Wake | None], None] = lambda _channel, _wake: None
    """channel, the wake word that opened its gate, None: a command did"""
    on_closed: Callable[[int], None] = lambda _channel: None
    """channel"""


class Cutter:
    """Turns the sound of one ring into utterances.

    Args:
        ring: filled by the ears.
        clock: for UTC times and ids.
        config: endpoint values of all channels.
        callbacks: who gets what comes out.
        use_channels: indices of the device's channels, each its own stream; empty: one stream, their average.
        first_channel: number of the first stream as published; several devices have numbers of their own.
        gate: when the streams are listened to at all.
        wake: scores of the wake word, for a gate that waits for one.
    """

    def __init__(
        self,
        ring: Ring,
        *,
        clock: Clock,
        config: EndpointConfig,
        callbacks: Callbacks,
        use_channels: tuple[int, ...] = (),
        first_channel: int = 0,
        gate: GateConfig | None = None,
        wake: WakeWord | None = None,
    ) -> None:
        streams = max(1, len(use_channels))
        self.failure: BaseException | None = None
        """What ended the thread, when it was not the end of the sound."""
        self._ring = ring
        self._tell = callbacks
        self._use_channels = use_channels
        self._vad = Vad(streams)
        self._wake = wake
        self._first_channel = first_channel
        self._streams = [
            Stream(first_channel + number, config=config, clock=clock, time_of=self._time_of, gate=gate)
            for number in range(streams)
        ]
        self._resampler: Resampler | None = None
        self._rate_hz = 0
        self._frames_in = 0
        self._anchor = (0.0, 0)  # a sample and its time; one object, because other threads read it
        self._rest = np.zeros((0, streams), np.float32)
        self._count = _Count()
        self._configs: dict[int, EndpointConfig] = {}
        self._advice: dict[int, tuple[str, Ending]] = {}
        self._listen: dict[int, float | None] = {}
        self._flush = threading.Event()
        self._stopping = threading.Event()
        self._progress = 0
        self._thread = threading.Thread(target=self._run, name="cutter", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End soon: what is open is published with cut "stop", what waits in the ring is not cut any more."""
        self._stopping.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread, which ends when the ring is closed and empty. True when it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    @property
    def progress(self) -> int:
        """Rises while the thread is well, sound or no sound: a heartbeat."""
        return self._progress

    def flush(self) -> None:
        """Publish what is open now and go on."""
        self._flush.set()

    def configure(self, config: EndpointConfig, channel: int | None = None) -> None:
        """Use other endpoint values from the next frame on, for one channel or all."""
        for stream in self._streams:
            if channel in {None, stream.channel}:
                self._configs[stream.channel] = config

    def listen(self, channel: int | None, duration_s: float | None) -> None:
        """Open the gate of one channel or of all, as `Stream.listen`, with the next frames. Any thread."""
        for stream in self._streams:
            if channel in {None, stream.channel}:
                self._listen[stream.channel] = duration_s

    @property
    def listening(self) -> tuple[bool, ...]:
        """Of each stream, whether it is heard now."""
        return tuple(stream.listening for stream in self._streams)

    def advise(self, channel: int, utterance_id: str, ending: Ending) -> None:
        """How the words of a paused utterance look: the wait follows it if `adaptive`. Any thread."""
        self._advice[channel] = (utterance_id, ending)

    def snapshot(self, channel: int = 0) -> Utterance | None:
        """The open utterance up to the newest sample; None in silence. Cheap; any thread."""
        return self._stream(channel).snapshot()

    def level(self, channel: int = 0) -> Level:
        """Loudness of the last second; any thread."""
        return self._stream(channel).meter.level()

    def statistics(self) -> CutStatistics:
        """Counts since the start; any thread."""
        count = self._count
        return CutStatistics(
            heard_s=count.heard_ns / 1e9,
            gap_s=sum(count.gap_ns.values()) / 1e9,
            gap_s_by_cause={cause: ns / 1e9 for cause, ns in sorted(count.gap_ns.items())},
            utterances=count.utterances,
            speech_s=count.speech_samples / SAMPLE_RATE_HZ,
            clicks=sum(stream.segmenter.dropped for stream in self._streams),
            probe_ms=tuple(stream.segmenter.probe_ms for stream in self._streams),
        )

    def _stream(self, channel: int) -> Stream:
        return self._streams[channel - self._first_channel]

    # --- the thread ---

    def _run(self) -> None:
        try:
            self._loop()
        except EdgeAgentError as error:
            self.failure = error
            _log.error("%s", error)
        except Exception as error:  # noqa: BLE001 - the thread's top: the supervisor reads `failure` and restarts
            self.failure = error
            _log.exception("the cutter stopped")

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._progress += 1
            self._apply_requests()
            try:
                item = self._ring.read(min_s=self._wanted_s(), timeout_s=_READ_S)
            except EndOfAudio:
                break
            if isinstance(item, Gap):
                self._on_gap(item)
            elif item is not None:
                self._on_chunk(item)
        self._finish("stop")

    def _wanted_s(self) -> float:
        """Sound to wait for: what completes a frame while somebody speaks, several frames else."""
        if any(stream.active for stream in self._streams):
            return (FRAME_SAMPLES - len(self._rest)) / SAMPLE_RATE_HZ
        return _IDLE_S

    def _apply_requests(self) -> None:
        while self._configs:
            channel, config = self._configs.popitem()
            self._stream(channel).configure(config)
        while self._advice:
            channel, (utterance_id, ending) = self._advice.popitem()
            self._stream(channel).advise(utterance_id, ending)
        while self._listen:
            channel, duration_s = self._listen.popitem()
            self._handle(self._stream(channel), self._stream(channel).listen(duration_s))
        if self._flush.is_set():
            self._flush.clear()
            for stream in self._streams:
                self._handle(stream, stream.stop("stop"))

    def _on_gap(self, gap: Gap) -> None:
        self._finish("gap")
        self._count.gap(gap)
        self._tell.on_gap(replace(gap, channel=self._first_channel))

    def _on_chunk(self, chunk: Chunk) -> None:
        if self._resampler is None or chunk.rate_hz != self._rate_hz:
            self._finish("gap")
            self._check_channels(chunk)
            self._resampler = Resampler(chunk.rate_hz, self._use_channels, live=True)
            self._rate_hz = chunk.rate_hz
            # What the resampler holds back would make each frame wait for one period more.
            self._rest = np.zeros((self._resampler.held, len(self._streams)), np.float32)
        self._count.heard(chunk)
        heard = self._frames_in * SAMPLE_RATE_HZ / self._rate_hz + self._resampler.held
        self._anchor = (heard, chunk.start_ns)
        self._frames_in += len(chunk.pcm)
        self._cut(self._resampler.process(chunk.pcm))

    def _check_channels(self, chunk: Chunk) -> None:
        given = chunk.pcm.shape[1]
        if self._use_channels and max(self._use_channels) >= given:
            raise CaptureError(
                f"channel {max(self._use_channels)} is to be used, but the device gives {given} channel(s)",
                remedy="channels count from 0; correct audio.channels and audio.use_channels",
            )

    def _finish(self, cut: Cut) -> None:
        """Nothing follows without a break: end what is open, forget what was heard."""
        if self._resampler is None:
            return
        rest = self._resampler.finish()
        missing = -(len(self._rest) + len(rest)) % FRAME_SAMPLES
        self._cut(np.concatenate((rest, np.zeros((missing, rest.shape[1]), np.float32))))
        for stream in self._streams:
            self._handle(stream, stream.stop(cut))
            stream.reset()
        self._vad.reset()
        if self._wake is not None:
            self._wake.reset()
        self._resampler = None
        self._frames_in = 0
        self._rest = self._rest[:0]

    def _cut(self, sound: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        if len(self._rest):
            sound = np.concatenate((self._rest, sound))
        whole = len(sound) - len(sound) % FRAME_SAMPLES
        for first in range(0, whole, FRAME_SAMPLES):
            frame = sound[first : first + FRAME_SAMPLES]
            speech = self._vad.probability(frame)
            wake = None if self._wake is None else self._wake.heard(frame)
            for number, stream in enumerate(self._streams):
                heard = None if wake is None else wake[number]
                self._handle(stream, stream.frame(frame[:, number], float(speech[number]), heard))
        self._rest = sound[whole:]

    def _handle(self, stream: Stream, happenings: tuple[Happening, ...]) -> None:
        for event, utterance in happenings:
            if isinstance(event, Started):
                self._tell.on_started(stream.channel, stream.start_ns)
            elif isinstance(event, Ended) and utterance is not None:
                self._count.utterances += 1
                self._count.speech_samples += len(utterance.pcm)
                self._tell.on_utterance(utterance)
            elif isinstance(event, Paused) and utterance is not None:
                self._tell.on_paused(stream.channel, utterance)
            elif isinstance(event, Resumed):
                self._tell.on_resumed(stream.channel)
            elif isinstance(event, Opened):
                self._tell.on_opened(stream.channel, event.wake)
            elif isinstance(event, Closed):
                self._tell.on_closed(stream.channel)

    def _time_of(self, sample: int) -> int:
        anchor_sample, anchor_ns = self._anchor
        return anchor_ns + int((sample - anchor_sample) * _NS_PER_SAMPLE)


class _Count:
    """Time accounting on the time line of the source; one writer."""

    def __init__(self) -> None:
        self.heard_ns = 0
        self.gap_ns: dict[str, int] = {}
        self.utterances = 0
        self.speech_samples = 0
        self._cursor_ns: int | None = None

    def heard(self, chunk: Chunk) -> None:
        begin = chunk.start_ns if self._cursor_ns is None else self._cursor_ns
        self.heard_ns += chunk.end_ns - begin
        self._cursor_ns = chunk.end_ns

    def gap(self, gap: Gap) -> None:
        duration_ns = round(gap.duration_ms * 1e6)
        self.gap_ns = {**self.gap_ns, gap.cause: self.gap_ns.get(gap.cause, 0) + duration_ns}
        self._cursor_ns = gap.start_ns + duration_ns
