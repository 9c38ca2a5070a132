"""Interleaved measurement of two recognisers: whatever disturbs the machine disturbs both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TypeAlias

from edge_agent.bench.clips import Clip
from edge_agent.types import PcmFloat, Value

Transcribe: TypeAlias = Callable[[PcmFloat, str], str]
"""float32[samples] at 16 kHz and a language to text."""
Done: TypeAlias = Callable[[float], None]
"""Told 1 for each clip, or round, that is finished."""


class Side(Value, frozen=True):
    """One recogniser on one clip, features to text; loading the model and the file is not counted."""

    text: str
    seconds: float
    """Median over the runs, wall clock."""
    spread_s: float
    """Slowest run less fastest run."""
    cpu_s: float
    """Processor time of all threads, median over the runs."""


class Pair(Value, frozen=True):
    """Both recognisers on one clip; no peer when nothing is compared."""

    clip: Clip
    ours: Side
    peer: Side | None = None


class Run(Value, frozen=True):
    """One timed decode."""

    text: str
    wall_s: float
    cpu_s: float


def compare(
    clips: Sequence[Clip],
    ours: Transcribe,
    peer: Transcribe | None,
    *,
    runs: int,
    done: Done = lambda _: None,
) -> list[Pair]:
    """Time each clip on both sides, `runs` times, changing who goes first from run to run."""
    _warm(clips, ours, peer)
    pairs = []
    for index, clip in enumerate(clips):
        taken: dict[bool, list[Run]] = {True: [], False: []}
        for number in range(runs):
            sides = [(True, ours)] if peer is None else [(True, ours), (False, peer)]
            for is_ours, transcribe in sides if (index + number) % 2 == 0 else reversed(sides):
                taken[is_ours].append(_timed(clip, transcribe))
        other = _side(taken[False]) if peer is not None else None
        pairs.append(Pair(clip=clip, ours=_side(taken[True]), peer=other))
        done(1)
    return pairs


def flow(
    clips: Sequence[Clip],
    ours: Transcribe,
    peer: Transcribe | None,
    *,
    runs: int,
    workers: int,
    done: Done = lambda _: None,
) -> tuple[list[float], list[float]]:
    """Wall seconds for all clips together, per run: ours `workers` at a time, the peer one after another."""
    _warm(clips, ours, peer)
    mine: list[float] = []
    others: list[float] = []
    for number in range(runs):
        jobs = [(mine, ours, workers)] if peer is None else [(mine, ours, workers), (others, peer, 1)]
        for times, transcribe, width in jobs if number % 2 == 0 else reversed(jobs):
            times.append(_through(clips, transcribe, width))
            done(1)
    return mine, others


def _warm(clips: Sequence[Clip], ours: Transcribe, peer: Transcribe | None) -> None:
    """The first decode builds kernels; it is nobody's figure."""
    for transcribe in (ours, peer) if peer is not None else (ours,):
        transcribe(clips[0].pcm, clips[0].language)


def _timed(clip: Clip, transcribe: Transcribe) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    text = transcribe(clip.pcm, clip.language)
    return Run(text=text, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


def _side(runs: Sequence[Run]) -> Side:
    walls = [run.wall_s for run in runs]
    return Side(
        text=runs[-1].text,
        seconds=median(walls),
        spread_s=max(walls) - min(walls),
        cpu_s=median(run.cpu_s for run in runs),
    )


def _through(clips: Sequence[Clip], transcribe: Transcribe, width: int) -> float:
    started = time.perf_counter()
    with ThreadPoolExecutor(max_workers=width, thread_name_prefix="bench") as pool:
        for _ in pool.map(lambda clip: transcribe(clip.pcm, clip.language), clips):
            pass
    return time.perf_counter() - started
