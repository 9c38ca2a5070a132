"""Recordings of any length through the engine: find speech, pack windows, decode them side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.audio.vad import Vad
from edge_agent.engine.base import Engine
from edge_agent.text.packing import DEFAULT_RULES, Rules, Span, frame_levels, pack, settled, speech_spans
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, DecodeOptions, Hypothesis, PcmFloat

_BLOCK_FRAMES = 625  # 20 s
_WARM_FRAMES = 31  # 1 s heard before a block, for the model's memory
_BLOCKS_AT_ONCE = 16
_LOUD_ENOUGH = 0.1  # -20 dBFS
_QUIETEST = 1e-3  # -60 dBFS: below, there is nothing to amplify
_MOST_GAIN = 10.0

PART_S = 300.0

Ticks: TypeAlias = Callable[[float], None]
"""Told the seconds of audio each finished step stands for."""


class Passage(NamedTuple):
    """What was heard in one window, and where that lies in the recording."""

    hypothesis: Hypothesis
    start_s: float
    end_s: float
    speech: tuple[tuple[float, float], ...]
    """Where in the window somebody speaks, in seconds of the recording."""


def passages(
    engine: Engine,
    blocks: Iterable[NDArray[np.float32]],
    options: DecodeOptions,
    *,
    workers: int,
    tick: Ticks = lambda _: None,
    part_s: float = PART_S,
) -> Iterator[Passage]:
    """Everything said in a recording of any length, in order; memory holds about `part_s` of it.

    Args:
        engine: open; called from `workers` threads.
        blocks: float32[samples] at 16 kHz, piece by piece.
        options: with language "auto" the first part of the recording decides for all.
        workers: decodes at once.
        tick: progress, in seconds of the recording.
        part_s: how much is looked at together; more than two windows.

    Raises:
        EngineError: the engine or the voice activity model failed.
        AudioFileError: from `blocks`.
    """
    before = 0
    pcm = np.zeros(0, np.float32)
    for sound, last in _parts(blocks, int(part_s * SAMPLE_RATE_HZ)):
        pcm = np.concatenate([pcm, sound])
        # The rest of a long recording is no short recording.
        rules = msgspec.structs.replace(DEFAULT_RULES, short_s=0.0) if before else DEFAULT_RULES
        spans, windows = find_speech(pcm, engine.info.max_audio_s, rules)
        kept = len(pcm)
        if not last:
            windows, kept = settled(windows, len(pcm))
        share = kept / max(1, sum(window.end - window.start for window in windows))
        heard = decode_windows(engine, pcm, windows, options, workers=workers, tick=_scaled(tick, share))
        if not windows:
            tick(kept / SAMPLE_RATE_HZ)
        for window, hypothesis in zip(windows, heard, strict=True):
            yield _passage(hypothesis, window, spans, before)
        if heard and options.language == "auto":
            options = msgspec.structs.replace(options, language=heard[0].language)
        pcm = pcm[kept:]
        before += kept


def find_speech(
    pcm: PcmFloat, longest_s: float, rules: Rules = DEFAULT_RULES
) -> tuple[list[Span], list[Span]]:
    """Where speech is in float32[samples], and the windows to decode, at most `longest_s` long.

    Raises:
        EngineError: the voice activity model cannot be used.
    """
    spans = speech_spans(speech_probabilities(pcm), len(pcm), rules)
    return spans, pack(spans, frame_levels(pcm), rules, window_s=longest_s)


def speech_probabilities(pcm: PcmFloat) -> NDArray[np.float32]:
    """Speech probability of each 512-sample frame: float32[frames].

    The recording is judged in blocks of 20 s side by side, each made about equally loud. That is faster, and
    a loud speaker does not make the model deaf for a quiet one minutes later, which it does when its memory
    runs through the whole file.
    """
    count = -(-len(pcm) // FRAME_SAMPLES)
    frames = np.zeros((count, FRAME_SAMPLES), np.float32)
    frames.reshape(-1)[: len(pcm)] = pcm
    found = np.zeros(count, np.float32)
    starts = list(range(0, count, _BLOCK_FRAMES))
    for first in range(0, len(starts), _BLOCKS_AT_ONCE):
        _judge(frames, starts[first : first + _BLOCKS_AT_ONCE], found)
    return found


def decode_windows(
    engine: Engine,
    pcm: PcmFloat,
    windows: Sequence[Span],
    options: DecodeOptions,
    *,
    workers: int,
    tick: Ticks = lambda _: None,
) -> list[Hypothesis]:
    """Decode every window, `workers` at a time, in order of the recording.

    With language "auto" the longest of the first windows decides for all: one voice in one recording, and
    short windows are easily mistaken.

    Raises:
        EngineError: the engine failed.
    """
    if not windows:
        return []

    def decode(window: Span, options: DecodeOptions) -> Hypothesis:
        heard = engine.transcribe(pcm[window.start : window.end], options=options)
        tick(window.duration_s)
        return heard

    known: dict[int, Hypothesis] = {}
    if options.language == "auto":
        index = max(range(min(3, len(windows))), key=lambda place: windows[place].duration_s)
        known[index] = decode(windows[index], options)
        options = msgspec.structs.replace(options, language=known[index].language)
    if workers == 1 or len(windows) - len(known) <= 1:
        return [known.get(i) or decode(window, options) for i, window in enumerate(windows)]
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="scribe") as pool:
        jobs = [
            None if i in known else pool.submit(decode, window, options) for i, window in enumerate(windows)
        ]
        try:
            return [job.result() if job else known[i] for i, job in enumerate(jobs)]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _scaled(tick: Ticks, share: float) -> Ticks:
    """Progress in decoded seconds as progress in the recording, silence included."""
    return lambda seconds: tick(seconds * share)


def _passage(hypothesis: Hypothesis, window: Span, spans: Sequence[Span], before: int) -> Passage:
    """A window's text with times that count from the start of the recording, `before` samples earlier."""
    speech = [
        (
            (before + max(span.start, window.start)) / SAMPLE_RATE_HZ,
            (before + min(span.end, window.end)) / SAMPLE_RATE_HZ,
        )
        for span in spans
        if span.start < window.end and window.start < span.end
    ]
    start_s, end_s = ((before + place) / SAMPLE_RATE_HZ for place in (window.start, window.end))
    return Passage(hypothesis, start_s, end_s, tuple(speech))


def _parts(blocks: Iterable[NDArray[np.float32]], samples: int) -> Iterator[tuple[NDArray[np.float32], bool]]:
    """Blocks joined to at least so many samples, and whether it is the last part."""
    held: list[NDArray[np.float32]] = []
    length = 0
    for block in blocks:
        if length >= samples:
            yield np.concatenate(held), False
            held, length = [], 0
        held.append(block)
        length += len(block)
    if held:
        yield np.concatenate(held), True


def _judge(frames: NDArray[np.float32], starts: Sequence[int], found: NDArray[np.float32]) -> None:
    """Fill `found` for the blocks that begin at `starts`, one stream of the model each."""
    longest = min(_BLOCK_FRAMES, len(frames) - starts[0])
    streams = np.zeros((_WARM_FRAMES + longest, FRAME_SAMPLES, len(starts)), np.float32)
    for stream, start in enumerate(starts):
        block = frames[start : start + _BLOCK_FRAMES]
        warm = frames[max(0, start - _WARM_FRAMES) : start]
        gain = _gain(block)
        streams[_WARM_FRAMES - len(warm) : _WARM_FRAMES, :, stream] = warm * gain
        streams[_WARM_FRAMES : _WARM_FRAMES + len(block), :, stream] = block * gain
    vad = Vad(streams=len(starts))
    heard = np.stack([vad.probability(frame).copy() for frame in streams])
    for stream, start in enumerate(starts):
        block = found[start : start + _BLOCK_FRAMES]
        block[:] = heard[_WARM_FRAMES : _WARM_FRAMES + len(block), stream]


def _gain(block: NDArray[np.float32]) -> float:
    """What brings the loud frames of a block to -20 dBFS, at least 1 and at most 10."""
    loud = float(np.percentile(np.sqrt(np.square(block).mean(axis=1)), 95))
    return float(np.clip(_LOUD_ENOUGH / loud, 1.0, _MOST_GAIN)) if loud > _QUIETEST else 1.0
