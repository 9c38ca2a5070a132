"""From voice activity to the windows of a recording that are decoded. Pure.

A recording is known to its end, so unlike the live segmenter nothing has to be decided early: speech is
found with hysteresis, widened a little, and joined into windows as long as one decode takes. Sounds that only
look like speech for a moment are left out when no speech is near; a short recording is given the benefit of
the doubt, because a single spoken digit looks no stronger than that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, Value

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ


class Span(Value, frozen=True):
    """A stretch of a recording, in samples at 16 kHz; `end` is the first sample after it."""

    start: int
    end: int

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return (self.end - self.start) / SAMPLE_RATE_HZ


class Rules(Value, frozen=True):
    """How speech is found and packed. The thresholds are speech probabilities of Silero VAD.

    Measured on 646 recordings: every recording of speech over one second reaches 0.8, every noise, music or
    silence stays below 0.67 except one 0.7 s chime; a quarter-second digit may reach no more than 0.29.
    """

    onset: float = 0.5
    offset: float = 0.35
    sure: float = 0.7
    """A stretch that never reaches this is speech only near other speech."""
    near_s: float = 1.5
    short_s: float = 1.0
    """Recordings up to this length count as speech from `short_onset` on."""
    short_onset: float = 0.25
    pause_s: float = 0.3
    """A shorter pause does not end a stretch."""
    lead_s: float = 0.3
    tail_s: float = 0.25
    window_s: float = 28.0
    gap_s: float = 2.0
    """A longer pause always ends a window: text is not guessed across it."""


DEFAULT_RULES = Rules()


def speech_spans(
    probabilities: NDArray[np.float32], samples: int, rules: Rules = DEFAULT_RULES
) -> list[Span]:
    """Where speech is, widened by lead and tail, in order and not overlapping.

    Args:
        probabilities: float32[frames], speech probability of each 512-sample frame.
        samples: length of the recording.
        rules: thresholds and margins.
    """
    found = _stretches(probabilities, rules)
    sure = [pair for pair in found if float(probabilities[pair[0] : pair[1]].max()) >= rules.sure]
    near = round(rules.near_s / FRAME_S)
    kept = [pair for pair in found if any(_apart(pair, other) <= near for other in sure)]
    short = samples <= rules.short_s * SAMPLE_RATE_HZ and len(probabilities) > 0
    if not kept and short and float(probabilities.max()) >= rules.short_onset:
        return [Span(start=0, end=samples)]
    return _widened(kept, samples, rules)


def pack(
    spans: list[Span],
    levels: NDArray[np.float32],
    rules: Rules = DEFAULT_RULES,
    *,
    window_s: float | None = None,
) -> list[Span]:
    """Windows to decode: spans joined while they fit, over-long ones cut where it is quietest.

    Every sample of every span lies in exactly one window, in order, none longer than the window length.

    Args:
        spans: speech, in order.
        levels: float32[frames], loudness of each 512-sample frame on any rising scale.
        rules: see `Rules`.
        window_s: longest window in seconds when the engine takes less than `rules.window_s`.
    """
    longest = int(min(rules.window_s, window_s or rules.window_s) * SAMPLE_RATE_HZ)
    gap = int(rules.gap_s * SAMPLE_RATE_HZ)
    windows: list[Span] = []
    for span in _fitting(spans, levels, longest):
        if windows and span.start - windows[-1].end <= gap and span.end - windows[-1].start <= longest:
            windows[-1] = Span(start=windows[-1].start, end=span.end)
        else:
            windows.append(span)
    return windows


def settled(windows: list[Span], samples: int, rules: Rules = DEFAULT_RULES) -> tuple[list[Span], int]:
    """Of a recording that goes on: the windows that later sound cannot change, and from where to keep sound.

    Args:
        windows: of the part heard so far, in order.
        samples: length of that part.
        rules: those the windows were packed by.
    """
    pause = int((rules.gap_s + rules.lead_s + rules.tail_s) * SAMPLE_RATE_HZ)
    lead = int(2 * rules.lead_s * SAMPLE_RATE_HZ)
    if windows and windows[-1].end > samples - pause:
        return windows[:-1], windows[-1].start
    done = windows[-1].end if windows else 0
    return windows, max(done, samples - lead)


def frame_levels(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean square of each 512-sample frame, the last one padded with silence: float32[frames]."""
    frames = -(-len(pcm) // FRAME_SAMPLES)
    padded = np.zeros(frames * FRAME_SAMPLES, np.float32)
    padded[: len(pcm)] = pcm
    squares: NDArray[np.float32] = np.square(padded.reshape(frames, FRAME_SAMPLES)).mean(axis=1)
    return squares


def _stretches(probabilities: NDArray[np.float32], rules: Rules) -> list[tuple[int, int]]:
    """Frames from an onset to the last frame above `offset` before a pause."""
    pause = max(1, round(rules.pause_s / FRAME_S))
    voiced = np.flatnonzero(probabilities >= rules.offset)
    groups = np.split(voiced, np.flatnonzero(np.diff(voiced) > pause) + 1) if len(voiced) else []
    return [
        (int(group[0]), int(group[-1]) + 1)
        for group in groups
        if float(probabilities[group].max()) >= rules.onset
    ]


def _apart(one: tuple[int, int], other: tuple[int, int]) -> int:
    return max(one[0], other[0]) - min(one[1], other[1])


def _widened(pairs: list[tuple[int, int]], samples: int, rules: Rules) -> list[Span]:
    lead, tail = int(rules.lead_s * SAMPLE_RATE_HZ), int(rules.tail_s * SAMPLE_RATE_HZ)
    spans: list[Span] = []
    for first, last in pairs:
        start = max(0, first * FRAME_SAMPLES - lead)
        end = min(samples, last * FRAME_SAMPLES + tail)
        if spans and start <= spans[-1].end:
            spans[-1] = Span(start=spans[-1].start, end=end)
        elif end > start:
            spans.append(Span(start=start, end=end))
    return spans


def _fitting(spans: list[Span], levels: NDArray[np.float32], longest: int) -> list[Span]:
    """The spans, each cut into pieces of at most `longest` samples."""
    pieces: list[Span] = []
    for span in spans:
        start = span.start
        while span.end - start > longest:
            cut = _quietest(levels, start + longest // 2, start + longest)
            pieces.append(Span(start=start, end=cut))
            start = cut
        pieces.append(Span(start=start, end=span.end))
    return pieces


def _quietest(levels: NDArray[np.float32], first: int, last: int) -> int:
    """The sample between `first` and `last` in the middle of the quietest three frames."""
    low, high = first // FRAME_SAMPLES, min(last // FRAME_SAMPLES, len(levels))
    smooth = np.convolve(levels[low:high], np.ones(3), mode="valid")
    if not len(smooth):
        return last
    # The latest of equally quiet places: longer pieces keep more context.
    place = len(smooth) - 1 - int(np.argmin(smooth[::-1]))
    return min(last, (low + place + 1) * FRAME_SAMPLES + FRAME_SAMPLES // 2)
