"""From voice activity to decode windows: no speech is lost, nothing is decoded twice."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.text.packing import DEFAULT_RULES, Span, frame_levels, pack, settled, speech_spans
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ

RATE = SAMPLE_RATE_HZ


def activity(*parts: tuple[float, float]) -> NDArray[np.float32]:
    """Speech probabilities from (seconds, probability) parts."""
    return np.concatenate(
        [np.full(round(seconds * RATE / FRAME_SAMPLES), value, np.float32) for seconds, value in parts]
    )


def spans_of(*parts: tuple[float, float]) -> list[tuple[float, float]]:
    """Spans in seconds, to a tenth."""
    probabilities = activity(*parts)
    spans = speech_spans(probabilities, len(probabilities) * FRAME_SAMPLES)
    return [(round(span.start / RATE, 1), round(span.end / RATE, 1)) for span in spans]


def test_speech_is_widened() -> None:
    """Speech from 2 to 3 s is cut with 0.3 s before it and 0.25 s behind it."""
    assert spans_of((2, 0.0), (1, 0.95), (2, 0.0)) == [(1.7, 3.2)]


def test_short_pause_does_not_split() -> None:
    """A pause between words keeps the stretch whole; a long one makes two."""
    assert len(spans_of((1, 0.9), (0.2, 0.1), (1, 0.9))) == 1
    assert len(spans_of((1, 0.9), (1.5, 0.1), (1, 0.9))) == 2


def test_lonely_weak_sound_is_no_speech() -> None:
    """A sound that never looks surely like speech is left out, but kept beside speech."""
    assert spans_of((5, 0.0), (1, 0.6), (5, 0.0)) == []
    assert len(spans_of((5, 0.0), (1, 0.6), (1, 0.0), (1, 0.9), (5, 0.0))) == 2


def test_short_recording_gets_the_benefit_of_the_doubt() -> None:
    """A spoken digit of a third of a second barely moves the detector; the whole recording is decoded."""
    assert spans_of((0.32, 0.3)) == [(0.0, 0.3)]
    assert spans_of((0.32, 0.2)) == []
    assert spans_of((3.2, 0.3)) == []


def test_silence_and_emptiness() -> None:
    """Nothing in, nothing out."""
    assert speech_spans(np.zeros(0, np.float32), 0) == []
    assert spans_of((30, 0.01)) == []
    assert pack([], np.zeros(0, np.float32)) == []


def test_windows_join_what_fits_and_break_at_long_pauses() -> None:
    """Sentences share a window until it is full or until somebody is silent for longer."""
    seconds = [(0, 10), (11, 20), (21, 30), (40, 42)]
    spans = [Span(start=first * RATE, end=last * RATE) for first, last in seconds]
    levels = np.ones(42 * RATE // FRAME_SAMPLES + 1, np.float32)
    windows = [(window.start // RATE, window.end // RATE) for window in pack(spans, levels)]
    assert windows == [(0, 20), (21, 30), (40, 42)]


def test_endless_speech_is_cut_where_it_is_quietest() -> None:
    """A minute without a pause is cut in the quiet moment at 20 s, not inside a word."""
    levels = np.ones(60 * RATE // FRAME_SAMPLES, np.float32)
    quiet = 20 * RATE // FRAME_SAMPLES
    levels[quiet - 2 : quiet + 3] = 0.01
    windows = pack([Span(start=0, end=60 * RATE)], levels)
    assert windows[0].end / RATE == pytest.approx(20, abs=0.1)
    assert all(window.duration_s <= DEFAULT_RULES.window_s for window in windows)


def test_engine_with_a_shorter_limit_gets_shorter_windows() -> None:
    """An engine that hears only 10 s at once is given no more."""
    levels = np.ones(60 * RATE // FRAME_SAMPLES, np.float32)
    assert all(
        window.duration_s <= 10 for window in pack([Span(start=0, end=60 * RATE)], levels, window_s=10)
    )


def test_window_at_the_end_of_a_part_waits_for_more() -> None:
    """Speech that may go on is kept for the next part; speech followed by a long pause is settled."""
    first, second = Span(start=0, end=20 * RATE), Span(start=30 * RATE, end=39 * RATE)
    assert settled([first, second], 40 * RATE) == ([first], 30 * RATE)
    done, keep = settled([first, second], 60 * RATE)
    assert done == [first, second]
    assert 59 * RATE < keep < 60 * RATE


def test_speech_that_begins_at_the_end_of_a_part_keeps_its_lead() -> None:
    """Silence is dropped but for the last moment, in which a word may be about to begin."""
    assert settled([], 40 * RATE) == ([], int(39.4 * RATE))


def test_levels_are_mean_squares() -> None:
    """The last frame is padded with silence."""
    levels = frame_levels(np.full(FRAME_SAMPLES + FRAME_SAMPLES // 2, 0.5, np.float32))
    assert levels.tolist() == [0.25, 0.125]


lengths = st.lists(st.tuples(st.integers(1, 40 * RATE), st.integers(0, 5 * RATE)), min_size=1, max_size=12)


@given(lengths, st.integers(0, 2**32 - 1))
def test_every_sample_of_speech_is_decoded_once(parts: list[tuple[int, int]], seed: int) -> None:
    """Windows are in order, do not overlap, are not too long, and cover all speech."""
    spans, position = [], 0
    for length, pause in parts:
        spans.append(Span(start=position, end=position + length))
        position += length + pause + 1
    levels = np.random.default_rng(seed).random(position // FRAME_SAMPLES + 1, np.float32)
    windows = pack(spans, levels)
    longest = DEFAULT_RULES.window_s * RATE
    assert all(0 < window.end - window.start <= longest for window in windows)
    assert all(before.end <= after.start for before, after in pairwise(windows))
    for span in spans:
        inside = sum(max(0, min(span.end, window.end) - max(span.start, window.start)) for window in windows)
        assert inside == span.end - span.start
