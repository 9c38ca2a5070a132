"""Where utterances begin and end."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.audio.segment import (
    Ended,
    EndpointConfig,
    Event,
    Paused,
    Resumed,
    Segmenter,
    Started,
    earliest_cut_s,
)
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ

FRAME_MS = 32
SPEECH, SILENCE = 0.9, 0.05


def run(segmenter: Segmenter, probabilities: list[float], levels: list[float] | None = None) -> list[Event]:
    levels = levels or [-30.0] * len(probabilities)
    return [e for p, level in zip(probabilities, levels, strict=True) for e in segmenter.step(p, level)]


def speech(ms: int) -> list[float]:
    return [SPEECH] * (ms // FRAME_MS)


def silence(ms: int) -> list[float]:
    return [SILENCE] * (ms // FRAME_MS)


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def ends(events: list[Event]) -> list[Ended]:
    return [event for event in events if isinstance(event, Ended)]


def test_a_sentence_keeps_its_onset_and_a_short_tail() -> None:
    """The 300 ms before the first speech frame and the sound up to the probe are kept; no more."""
    events = run(Segmenter(EndpointConfig()), silence(1024) + speech(2048) + silence(1024))
    assert kinds(events) == ["Started", "Paused", "Ended"]
    (end,) = ends(events)
    assert end.start_sample == 1024 * 16 - 4800
    assert end.speech_end_sample == 3072 * 16
    assert end.end_sample == end.speech_end_sample + 7 * FRAME_SAMPLES  # 224 ms, the probe at 200 ms
    assert end.cut == "silence"


def test_without_a_probe_the_tail_is_as_long_as_asked() -> None:
    """The tail is cut after `tail_ms`."""
    events = run(Segmenter(EndpointConfig(probe_ms=0)), speech(1024) + silence(1024))
    (end,) = ends(events)
    assert end.end_sample - end.speech_end_sample == 250 * 16


def test_what_a_pause_announces_is_what_ends() -> None:
    """Work begun at the pause stays valid: the end has the same bounds."""
    events = run(Segmenter(EndpointConfig()), speech(1024) + silence(1024))
    (pause,) = (event for event in events if isinstance(event, Paused))
    (end,) = ends(events)
    assert (pause.speech_end_sample, pause.end_sample) == (end.speech_end_sample, end.end_sample)


def test_the_end_is_told_in_the_first_frame_after_the_silence() -> None:
    """The endpoint is late by less than one frame."""
    segmenter = Segmenter(EndpointConfig(silence_ms=600))
    run(segmenter, speech(1024))
    frames = 0
    while not ends(list(segmenter.step(SILENCE))):
        frames += 1
    assert 600 <= (frames + 1) * FRAME_MS < 600 + FRAME_MS


def test_speech_that_goes_on_resumes_the_same_utterance() -> None:
    """A pause shorter than the end silence is part of the utterance."""
    events = run(Segmenter(EndpointConfig()), speech(1024) + silence(320) + speech(1024) + silence(1024))
    assert kinds(events) == ["Started", "Paused", "Resumed", "Paused", "Ended"]


def test_doubtful_frames_do_not_end_a_silence() -> None:
    """Between the thresholds (breath, room) silence goes on once it has begun."""
    doubtful = [0.4] * (704 // FRAME_MS)
    events = run(Segmenter(EndpointConfig()), speech(1024) + silence(32) + doubtful)
    assert kinds(events) == ["Started", "Paused", "Ended"]


def test_a_click_is_no_utterance_and_a_short_word_is() -> None:
    """Two speech frames are dropped and counted; three make an utterance."""
    segmenter = Segmenter(EndpointConfig())
    assert not run(segmenter, silence(320) + speech(64) + silence(640))
    assert segmenter.dropped == 1
    assert len(ends(run(segmenter, speech(96) + silence(640)))) == 1


def test_pre_roll_does_not_reach_into_the_speech_before() -> None:
    """With a short end silence the next pre-roll stops where the speech of the utterance before ended."""
    segmenter = Segmenter(EndpointConfig(silence_ms=128, probe_ms=0, pre_roll_ms=300))
    one, two = ends(run(segmenter, speech(512) + silence(128) + speech(512) + silence(128)))
    assert two.start_sample == one.speech_end_sample


def test_long_speech_is_cut_at_its_quietest_frame() -> None:
    """The cut falls into the dip, and the next utterance starts at that very sample."""
    config = EndpointConfig(max_utterance_s=10)
    frames = 10_000 // FRAME_MS + 40
    levels = [-25.0] * frames
    dip = 240
    levels[dip - 1 : dip + 2] = [-45.0, -60.0, -45.0]
    events = run(Segmenter(config), [SPEECH] * frames, levels)
    assert kinds(events) == ["Started", "Ended", "Started"]
    end, again = events[1], events[2]
    assert isinstance(end, Ended)
    assert isinstance(again, Started)
    assert end.cut == "max_length"
    assert (
        end.end_sample == end.speech_end_sample == again.at_sample == dip * FRAME_SAMPLES + FRAME_SAMPLES // 2
    )


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([2.0, 5.0, 12.0]))
def test_no_cut_falls_before_what_may_be_told_as_stable(seed: int, limit_s: float) -> None:
    """Words before the earliest cut stay in their utterance, wherever the quietest frame is."""
    chance = random.Random(seed)
    frames = [(chance.choice([0.4, 0.6, 0.9, 0.05]), chance.uniform(-70, -10)) for _ in range(600)]
    segmenter = Segmenter(EndpointConfig(max_utterance_s=limit_s))
    events = run(segmenter, [p for p, _ in frames], [level for _, level in frames])
    for end in ends(events):
        if end.cut == "max_length":
            assert end.end_sample - end.start_sample >= earliest_cut_s(limit_s) * SAMPLE_RATE_HZ


def test_stop_ends_what_is_open() -> None:
    """The open utterance ends where its speech ends; in silence there is nothing to end."""
    segmenter = Segmenter(EndpointConfig())
    assert segmenter.stop("stop") == ()
    run(segmenter, speech(512) + silence(64))
    (end,) = ends(list(segmenter.stop("gap")))
    assert (end.cut, end.speech_end_sample) == ("gap", 512 * 16)
    assert segmenter.stop("stop") == ()


def test_endpoint_values_can_change_in_mid_speech() -> None:
    """A shorter silence counts from the next frame on."""
    segmenter = Segmenter(EndpointConfig(silence_ms=2000))
    run(segmenter, speech(512) + silence(320))
    segmenter.config = EndpointConfig(silence_ms=300)
    assert [e.cut for e in ends(list(segmenter.step(SILENCE)))] == ["silence"]


probabilities = st.lists(
    st.tuples(st.sampled_from([0.0, 0.05, 0.4, 0.6, 0.95]), st.integers(1, 60)), max_size=40
).map(lambda runs: [p for p, n in runs for _ in range(n)])
configs = st.builds(
    EndpointConfig,
    silence_ms=st.integers(100, 1200),
    probe_ms=st.sampled_from([0, 96, 200, 700]),
    max_utterance_s=st.sampled_from([1.5, 3.0, 8.0]),
    pre_roll_ms=st.integers(0, 500),
    tail_ms=st.integers(0, 300),
)


@settings(max_examples=300, deadline=None)
@given(probabilities, configs, st.data())
def test_every_speech_frame_is_in_exactly_one_utterance(
    given_probabilities: list[float], config: EndpointConfig, data: st.DataObject
) -> None:
    """In order, within bounds, nothing lost, nothing doubled, whatever the voice does."""
    segmenter = Segmenter(config)
    levels = [-20.0 - 40.0 * ((7 * i) % 13) / 13 for i in range(len(given_probabilities))]
    events = run(segmenter, given_probabilities, levels)
    events += segmenter.stop("stop")
    found = ends(events)
    now = len(given_probabilities) * FRAME_SAMPLES
    floor = 0
    for end in found:
        assert floor <= end.start_sample < end.speech_end_sample <= end.end_sample <= now
        assert end.end_sample - end.start_sample <= config.max_utterance_s * 16_000 + FRAME_SAMPLES
        assert end.end_sample - end.speech_end_sample <= max(config.tail_ms * 16, 0)
        floor = end.speech_end_sample
    spans = [(end.start_sample, end.speech_end_sample) for end in found]
    run_length = 0
    for index, probability in enumerate(given_probabilities):
        run_length = run_length + 1 if probability >= config.threshold else 0
        if run_length >= 3:  # enough to be speech by itself
            middle = index * FRAME_SAMPLES + FRAME_SAMPLES // 2 - 1
            assert sum(start <= middle < end for start, end in spans) == 1


@settings(max_examples=200, deadline=None)
@given(probabilities, configs)
def test_events_come_in_pairs(given_probabilities: list[float], config: EndpointConfig) -> None:
    """Started then Ended; Paused only inside, and Resumed only after Paused."""
    segmenter = Segmenter(config)
    is_open = paused = False
    for event in [*run(segmenter, given_probabilities), *segmenter.stop("stop")]:
        if isinstance(event, Started):
            assert not is_open
            is_open, paused = True, False
        elif isinstance(event, Ended):
            assert is_open
            is_open = paused = False
        elif isinstance(event, Paused):
            assert is_open
            assert not paused
            paused = True
        elif isinstance(event, Resumed):
            assert paused
            paused = False
    assert not is_open


@pytest.mark.parametrize("silence_ms", [300, 600, 1200])
def test_a_steady_talker_loses_nothing_over_minutes(silence_ms: int) -> None:
    """Two minutes without a pause: utterances follow each other without a hole."""
    config = EndpointConfig(silence_ms=silence_ms, max_utterance_s=28)
    segmenter = Segmenter(config)
    found = ends([*run(segmenter, [SPEECH] * 3750), *segmenter.stop("stop")])
    assert len(found) >= 5
    assert found[0].start_sample == 0
    assert found[-1].end_sample == 3750 * FRAME_SAMPLES
    assert all(a.end_sample == b.start_sample for a, b in itertools.pairwise(found))


def test_a_cut_prefers_a_pause_to_the_stop_of_a_consonant() -> None:
    """Two very quiet frames are within a word; five less quiet ones are between words."""
    frames = 4000 // FRAME_MS
    levels = [-20.0] * frames
    levels[90:95] = [-48.0] * 5
    levels[100:102] = [-80.0] * 2
    events = run(Segmenter(EndpointConfig(max_utterance_s=4.0)), speech(4000), levels)
    (end,) = ends(events)
    assert 90 * FRAME_SAMPLES <= end.end_sample <= 95 * FRAME_SAMPLES
