"""A gate decides when speech is heard; what is said just before it opens is not lost."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.audio.gate import Closed, Gate, GateConfig, Opened
from edge_agent.audio.segment import Ended, EndpointConfig
from edge_agent.audio.stream import Stream
from edge_agent.clock import SystemClock
from edge_agent.types import FRAME_SAMPLES, Utterance, Wake

S = 1_000_000_000
COMMAND = GateConfig(mode="command", listen_s=8, pre_roll_ms=512)
WAKE = GateConfig(mode="wake", listen_s=8)


class Clockless(SystemClock):
    """Its time is that of the sound fed so far."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = 0

    def monotonic_ns(self) -> int:
        return self.samples * S // 16_000


class Told:
    """A stream behind a gate, and what it told."""

    def __init__(self, gate: GateConfig) -> None:
        self.clock = Clockless()
        self.stream = Stream(
            0,
            config=EndpointConfig(silence_ms=608, probe_ms=0, pre_roll_ms=0, tail_ms=0),
            clock=self.clock,
            time_of=lambda sample: sample * S // 16_000,
            gate=gate,
        )
        self.seen: list[object] = []
        self.utterances: list[Utterance] = []

    def feed(self, ms: int, *, speech: bool, score: float | None = None) -> None:
        """Frames whose samples are their own number."""
        for _ in range(ms // 32):
            number = self.clock.samples // FRAME_SAMPLES
            self.clock.samples += FRAME_SAMPLES
            wake = None if score is None else Wake(word="computer", score=score)
            frame = np.full(FRAME_SAMPLES, number / 10_000, np.float32)
            self.note(self.stream.frame(frame, 0.9 if speech else 0.02, wake))

    def note(self, happenings: tuple) -> None:
        for event, utterance in happenings:
            self.seen.append(event)
            if isinstance(event, Ended):
                self.utterances.append(utterance)

    def listen(self, duration_s: float | None = None) -> None:
        self.note(self.stream.listen(duration_s))

    def frames(self, utterance: Utterance) -> tuple[int, int]:
        """First and last frame of an utterance."""
        return round(utterance.pcm[0] * 10_000), round(utterance.pcm[-1] * 10_000)


def test_a_closed_gate_lets_nothing_through() -> None:
    """No utterance, no pause, nothing to snapshot."""
    told = Told(COMMAND)
    told.feed(3200, speech=True)
    told.feed(3200, speech=False)
    assert told.seen == []
    assert told.stream.snapshot() is None
    assert not told.stream.listening


def test_without_a_gate_all_is_heard() -> None:
    """Mode `always` is no gate; a command to listen changes nothing."""
    told = Told(GateConfig())
    told.listen()
    told.feed(960, speech=True)
    told.feed(960, speech=False)
    assert len(told.utterances) == 1
    assert told.stream.listening


def test_a_command_opens_it_for_one_utterance() -> None:
    """The next sentence is heard, the one after it is not."""
    told = Told(COMMAND)
    told.feed(960, speech=False)
    told.listen()
    told.feed(960, speech=False)
    for _ in range(2):
        told.feed(960, speech=True)
        told.feed(960, speech=False)
    assert [told.frames(one) for one in told.utterances] == [(60, 89)]
    assert isinstance(told.seen[0], Opened)
    assert isinstance(told.seen[-1], Closed)


def test_a_word_begun_before_the_command_is_whole() -> None:
    """Half a second from before the opening is heard too, and no sound twice."""
    told = Told(COMMAND)
    told.feed(960, speech=False)
    told.feed(320, speech=True)
    told.listen()
    told.feed(960, speech=True)
    told.feed(960, speech=False)
    assert [told.frames(one) for one in told.utterances] == [(30, 69)]


def test_an_utterance_all_from_before_the_command_comes_too() -> None:
    """A short word and the silence after it may lie in the pre-roll."""
    told = Told(GateConfig(mode="command", pre_roll_ms=1600))
    told.feed(320, speech=True)
    told.feed(704, speech=False)
    told.listen()
    assert [told.frames(one) for one in told.utterances] == [(0, 9)]


def test_what_was_heard_is_not_heard_again() -> None:
    """A second command right after an utterance: its pre-roll ends where that one ended."""
    told = Told(COMMAND)
    told.listen()
    told.feed(960, speech=True)
    told.feed(608, speech=False)
    told.feed(96, speech=True)
    told.listen()
    told.feed(320, speech=True)
    told.feed(960, speech=False)
    first, second = (told.frames(one) for one in told.utterances)
    assert second[0] > first[1]


def test_it_closes_when_nobody_speaks() -> None:
    """After `listen_s`."""
    told = Told(COMMAND)
    told.listen()
    told.feed(7968, speech=False)
    assert told.stream.listening
    told.feed(64, speech=False)
    assert not told.stream.listening


def test_an_utterance_begun_in_time_is_heard_to_its_end() -> None:
    """Also when it ends after `listen_s`."""
    told = Told(COMMAND)
    told.listen()
    told.feed(7680, speech=False)
    told.feed(6400, speech=True)
    told.feed(960, speech=False)
    assert [told.frames(one) for one in told.utterances] == [(240, 439)]


def test_push_to_talk_hears_all_until_the_key_is_released() -> None:
    """A long duration when it is pressed, 0 when it is released; what is open then is published."""
    told = Told(COMMAND)
    told.listen(60)
    for _ in range(2):
        told.feed(960, speech=True)
        told.feed(960, speech=False)
    told.feed(960, speech=True)
    told.listen(0)
    told.feed(960, speech=True)
    assert [one.cut for one in told.utterances] == ["silence", "silence", "stop"]
    assert not told.stream.listening
    assert told.stream.snapshot() is None


def test_a_gap_in_the_sound_does_not_end_the_listening() -> None:
    """What was being said may go on after it."""
    told = Told(COMMAND)
    told.listen()
    told.feed(960, speech=True)
    told.note(told.stream.stop("gap"))
    assert told.stream.listening
    told.feed(960, speech=True)
    told.feed(960, speech=False)
    assert len(told.utterances) == 2
    assert not told.stream.listening


def test_a_wake_word_opens_it_and_goes_with_the_utterance() -> None:
    """Word and score."""
    told = Told(WAKE)
    told.feed(960, speech=True)
    told.feed(32, speech=False, score=0.93)
    told.feed(320, speech=False)
    told.feed(960, speech=True)
    told.feed(960, speech=False)
    assert [one.wake for one in told.utterances] == [Wake(word="computer", score=0.93)]


def test_the_rest_of_the_wake_word_is_no_utterance() -> None:
    """Heard before it was quite over: its last syllable does not use up the opening."""
    told = Told(WAKE)
    told.feed(640, speech=True)
    told.feed(32, speech=True, score=0.9)
    told.feed(192, speech=True)
    told.feed(960, speech=False)
    assert told.utterances == []
    assert told.stream.listening
    told.feed(320, speech=True)
    told.feed(960, speech=False)
    assert len(told.utterances) == 1


def test_a_command_said_in_one_breath_with_the_wake_word_is_heard() -> None:
    """Speech that goes on after the word is the command."""
    told = Told(WAKE)
    told.feed(640, speech=True)
    told.feed(32, speech=True, score=0.9)
    told.feed(960, speech=True)
    told.feed(960, speech=False)
    assert [told.frames(one) for one in told.utterances] == [(21, 50)]


def test_below_the_threshold_nothing_opens() -> None:
    """A score of 0.49 is not the word."""
    told = Told(WAKE)
    told.feed(320, speech=True, score=0.49)
    assert not told.stream.listening


def test_one_word_opens_once() -> None:
    """Within the refractory time a second score is the same word."""
    gate = Gate(WAKE)
    assert gate.wakes(0.9, 10 * S)
    gate.close()
    assert not gate.wakes(0.9, 11 * S)
    assert gate.wakes(0.9, 12 * S)
    assert gate.openings == 2


@given(
    st.lists(st.tuples(st.sampled_from(["speech", "quiet", "listen", "hold", "release"]), st.integers(1, 40)))
)
def test_nothing_is_heard_twice_or_while_closed(script: list[tuple[str, int]]) -> None:
    """Whatever is said and commanded: utterances do not overlap, nor begin before the pre-roll."""
    told = Told(COMMAND)
    heard = np.zeros(0)
    openings: list[int] = []
    for what, many in script:
        if what in ("speech", "quiet"):
            told.feed(32 * many, speech=what == "speech")
        else:
            if not told.stream.listening and what != "release":
                openings.append(told.clock.samples // FRAME_SAMPLES)
            told.listen({"listen": None, "hold": 60.0, "release": 0.0}[what])
    told.listen(0)
    for one in told.utterances:
        heard = np.concatenate((heard, np.round(one.pcm[::FRAME_SAMPLES] * 10_000)))
    assert len(set(heard)) == len(heard)
    assert not len(heard) or heard.min() >= openings[0] - 16
