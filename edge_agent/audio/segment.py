"""Pure: speech probabilities in, utterance boundaries out. One segmenter per channel.

SILENCE -> (first speech frame) CANDIDATE -> (enough speech) SPEECH -> (probe_ms of silence) PAUSED
-> (speech again) SPEECH, or -> (silence_ms) SILENCE. Continuous talk is cut at its quietest frame.
Positions are samples at 16 kHz since the last reset.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from operator import mul
from typing import TypeAlias

from edge_agent.audio.pauses import Pauses
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, Cut, Ending, Value

_MS = SAMPLE_RATE_HZ // 1000
_FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
_PAUSE = 200 * _MS  # between words, not within one: ends a click, and continuous talk at its limit
_CUT_WINDOW_S = 6.0  # the quietest frame is looked for in the last seconds before the limit
_CUT_REST = SAMPLE_RATE_HZ // 2  # and leaves at least this much for the next utterance
_REJOIN = 1200 * _MS  # speech that starts again so soon after an end went on, unless a sentence was finished
_DEPTH_DB = 25.0
_NEAR = (1, 2, 3, 4, 4, 4, 3, 2, 1)  # weights of the frames around a cut


def earliest_cut_s(max_utterance_s: float) -> float:
    """Where in an utterance the cut of continuous talk may fall at the earliest: seconds from its start."""
    return max(max_utterance_s / 2, max_utterance_s - _CUT_WINDOW_S) - _FRAME_S


class EndpointConfig(Value, frozen=True):
    """When an utterance starts and ends."""

    silence_ms: int = 600
    """Silence that ends an utterance; with `adaptive`, before the speaker is known."""
    adaptive: bool = False
    """Follow the speaker's pauses and how finished the words look, within `bounds_ms`."""
    bounds_ms: tuple[int, int] = (350, 1500)
    probe_ms: int = 200
    """Silence after which it has probably ended; 0, or not below `silence_ms`: no probe. Later for a speaker
    who mostly goes on."""
    max_utterance_s: float = 28.0
    pre_roll_ms: int = 300
    """Sound kept from before the first speech frame."""
    tail_ms: int = 250
    """Sound kept from after the last speech frame, at most."""
    threshold: float = 0.5
    """Speech starts, and goes on after silence, at this probability."""
    exit_threshold: float = 0.35
    """Silence starts below this probability."""
    min_speech_ms: int = 96
    """Less speech than this is a click and makes no utterance."""


class Started(Value, frozen=True):
    """An utterance began, pre-roll included, at this sample."""

    at_sample: int


class Paused(Value, frozen=True):
    """Speech has stopped for `probe_ms`; if it does not go on, the utterance will end at `end_sample`."""

    speech_end_sample: int
    end_sample: int


class Resumed(Value, frozen=True):
    """Speech goes on after a pause."""


class Ended(Value, frozen=True):
    """An utterance: samples start_sample to end_sample, speech up to speech_end_sample."""

    start_sample: int
    speech_end_sample: int
    end_sample: int
    cut: Cut


Event: TypeAlias = Started | Paused | Resumed | Ended
_NOTHING: tuple[Event, ...] = ()


class Segmenter:
    """Feed it one speech probability per frame of 512 samples."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        """May be replaced at any time by the thread that steps."""
        self.dropped = 0
        """Candidates too short to be an utterance."""
        self._recent: deque[tuple[float, float]] = deque(maxlen=int(_CUT_WINDOW_S * 1000 / 32) + 1)
        self._now = 0
        self._floor = 0  # pre-roll never reaches into the speech of the utterance before
        self._start = -1  # no candidate and no utterance
        self._speech = 0
        self._announced = False
        self._needed = 0  # samples of speech without which this candidate is none, beyond the usual
        self._skipped = 0  # frames passed over since the last one that was heard
        self._quiet_from: int | None = None
        self._paused_end = -1  # no pause has been told
        self._pauses = Pauses()
        self._ending: Ending = "unknown"
        self._silence_ms = config.silence_ms
        self._probe_ms = config.probe_ms
        self._first_speech = 0
        self._last_end: int | None = None  # of speech that a silence ended, words not known to be finished

    def reset(self) -> None:
        """Start over at sample 0, in silence."""
        self._now = 0
        self._floor = 0
        self._skipped = 0
        self._last_end = None
        self._recent.clear()
        self._to_silence()

    @property
    def start_sample(self) -> int | None:
        """Where the open utterance began; None in silence and while it is only a candidate."""
        return self._start if self._announced else None

    @property
    def active(self) -> bool:
        """True in an utterance and in what may become one."""
        return self._start >= 0

    @property
    def speech_end_sample(self) -> int:
        """Where the speech of the open utterance ends so far."""
        return self._now if self._quiet_from is None else self._quiet_from

    @property
    def probe_ms(self) -> int:
        """Silence after which this speaker has probably ended."""
        return self._pauses.probe_ms(self.config.probe_ms, self.config.silence_ms)

    def advise(self, ending: Ending) -> None:
        """How the words up to the pause look; holds until speech goes on."""
        self._ending = ending
        self._silence_ms = self._wanted_silence_ms()

    def skip(self, probability: float, level_db: float = 0.0) -> None:
        """Pass over a frame in silence: nobody is to be heard now."""
        self._now += FRAME_SAMPLES
        self._recent.append((probability, level_db))
        self._skipped += 1

    def rehear(self, frames: int, rest_ms: int = 0) -> tuple[Event, ...]:
        """Hear up to `frames` of the frames passed over last after all.

        Args:
            frames: not more than have been passed over since something was heard.
            rest_ms: speech that begins in them, or with the next frame, and is shorter than this is dropped.
        """
        count = min(frames, self._skipped, len(self._recent))
        again = [self._recent.pop() for _ in range(count)]
        self._now -= count * FRAME_SAMPLES
        self._floor = max(self._floor, self._now)
        self._needed = rest_ms * _MS
        return tuple(event for frame in reversed(again) for event in self.step(*frame))

    def step(self, probability: float, level_db: float = 0.0) -> tuple[Event, ...]:
        """Take the next frame's speech probability (0..1) and level (dBFS, for the choice of a cut)."""
        first = self._now
        self._now += FRAME_SAMPLES
        self._skipped = 0
        self._recent.append((probability, level_db))
        if self._start < 0:
            if probability < self.config.threshold:
                return _NOTHING
            self._start = max(self._floor, first - self.config.pre_roll_ms * _MS)
            self._first_speech = first
        events = self._follow(first, probability)
        if self._quiet_from is None and not self._announced:
            self._speech += FRAME_SAMPLES
            if self._speech >= max(self._needed, self.config.min_speech_ms * _MS):
                self._announced = True
                self._look_back()
                events += (Started(at_sample=self._start),)
        return events + self._bounds()

    def stop(self, cut: Cut) -> tuple[Event, ...]:
        """End the open utterance here, because the sound ends ("stop") or breaks off ("gap")."""
        if not self._announced:
            self._to_silence()
            return _NOTHING
        return (self._end(cut),)

    def _follow(self, first: int, probability: float) -> tuple[Event, ...]:
        """Speech or silence, with hysteresis: between the thresholds nothing changes."""
        if probability >= self.config.threshold:
            if self._quiet_from is not None and self._announced:
                quiet_ms = (first - self._quiet_from) / _MS
                if quiet_ms >= self.config.probe_ms:
                    self._pauses.went_on(quiet_ms)
            self._quiet_from = None
            self._ending = "unknown"
            if self._paused_end >= 0:
                self._paused_end = -1
                return (Resumed(),)
        elif probability < self.config.exit_threshold and self._quiet_from is None:
            self._quiet_from = first
            self._silence_ms, self._probe_ms = self._wanted_silence_ms(), self.probe_ms
        return _NOTHING

    def _wanted_silence_ms(self) -> int:
        config = self.config
        if not config.adaptive:
            return config.silence_ms
        return self._pauses.silence_ms(config.silence_ms, config.bounds_ms, self._ending)

    def _look_back(self) -> None:
        if self._last_end is not None and self._first_speech - self._last_end < _REJOIN:
            self._pauses.rejoined((self._first_speech - self._last_end) / _MS)
        self._last_end = None

    def _bounds(self) -> tuple[Event, ...]:
        quiet = 0 if self._quiet_from is None else self._now - self._quiet_from
        if not self._announced:
            if quiet >= _PAUSE:
                self.dropped += 1
                self._to_silence()
            return _NOTHING
        silence_ms = self._silence_ms if self.config.adaptive else self.config.silence_ms
        if quiet >= silence_ms * _MS:
            return (self._end("silence"),)
        if self._now - self._start >= self.config.max_utterance_s * SAMPLE_RATE_HZ:
            return self._split() if quiet < _PAUSE else (self._end("max_length"),)
        if self._paused_end < 0 and 0 < self._probe_ms < silence_ms and quiet >= self._probe_ms * _MS:
            self._paused_end = self._tail_end()
            return (Paused(speech_end_sample=self.speech_end_sample, end_sample=self._paused_end),)
        return _NOTHING

    def _tail_end(self) -> int:
        return min(self._now, self.speech_end_sample + self.config.tail_ms * _MS)

    def _end(self, cut: Cut) -> Ended:
        # What the pause announced is what ends: work begun on it stays valid.
        end = self._paused_end if self._paused_end >= 0 else self._tail_end()
        speech_end = self.speech_end_sample
        ended = Ended(start_sample=self._start, speech_end_sample=speech_end, end_sample=end, cut=cut)
        self._floor = end if cut == "max_length" else speech_end
        if cut == "silence":
            self._pauses.held()
            self._last_end = None if self._ending == "finished" else speech_end
        self._to_silence()
        return ended

    def _split(self) -> tuple[Event, ...]:
        at = self._quietest()
        ended = Ended(start_sample=self._start, speech_end_sample=at, end_sample=at, cut="max_length")
        self._start = self._floor = at
        self._paused_end = -1
        return (ended, Started(at_sample=at))

    def _quietest(self) -> int:
        """Middle of the quietest stretch of the window before the limit; the latest of equals.

        A long shallow pause is better than a deep short one: that is the stop of a consonant, in a word. So
        nothing counts as quieter than `_DEPTH_DB` below the loud frames, and neighbours count too.
        """
        recent, reach = self._recent, len(_NEAR) // 2
        newest = self._now // FRAME_SAMPLES - 1
        oldest = newest - len(recent) + 1
        room = (self._now - self._start) // 2  # keep the first half whole when utterances are short
        low = max(oldest + reach, (self._now - room) // FRAME_SAMPLES)
        high = (self._now - min(_CUT_REST, room)) // FRAME_SAMPLES - reach
        floor_db = sorted(level for _, level in recent)[len(recent) * 9 // 10] - _DEPTH_DB
        cost = [
            min(1.0, max(0.0, (level - floor_db) / _DEPTH_DB)) + probability for probability, level in recent
        ]
        best = max(low, high)
        best_score = float("inf")
        for frame in range(low, high + 1):
            first = frame - reach - oldest
            score = sum(map(mul, _NEAR, islice(cost, first, first + len(_NEAR))))
            if score <= best_score:
                best, best_score = frame, score
        return best * FRAME_SAMPLES + FRAME_SAMPLES // 2

    def _to_silence(self) -> None:
        self._start = -1
        self._speech = 0
        self._needed = 0
        self._announced = False
        self._quiet_from = None
        self._paused_end = -1
        self._ending = "unknown"
