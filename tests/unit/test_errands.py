"""The self-test: when its turn comes, and what it says of what it heard."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.errors import EngineError
from edge_agent.partials import PartialConfig
from edge_agent.selftest import WORDS, clip, examine, words_found
from edge_agent.types import DecodeOptions, Hypothesis, Utterance
from edge_agent.work import Arrived, Errand, Work


class Clock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ms(self) -> int:
        return 0

    def synced(self) -> bool:
        return True


def utterance() -> Utterance:
    return Utterance(
        id="u",
        channel=0,
        start_ns=0,
        speech_end_ns=1,
        start_utc_ms=0,
        clock_synced=True,
        pcm=np.zeros(160, np.float32),
        cut="silence",
    )


@pytest.fixture
def clock() -> Clock:
    """At zero."""
    return Clock()


@pytest.fixture
def work(clock: Clock) -> Work:
    """Nothing waits."""
    return Work(clock=clock, queue_s=10, live=True, partials=PartialConfig(enabled=False))


def test_an_errand_waits_for_a_pause(work: Work) -> None:
    """Not while somebody speaks, and never before a final."""
    work.started(0)
    work.errand(lambda: None)
    assert work.take(0.0) is None
    work.final(utterance())
    assert isinstance(work.take(0.0), Arrived)
    assert isinstance(work.take(0.0), Errand)
    assert work.take(0.0) is None


def test_an_errand_does_not_wait_for_ever(work: Work, clock: Clock) -> None:
    """In a room that is never quiet it is done after five seconds."""
    work.started(0)
    work.errand(lambda: None)
    clock.now_ns = 5_000_000_000
    assert isinstance(work.take(0.0), Errand)


def test_words_are_counted_in_order() -> None:
    """A slip costs its word; nonsense costs all."""
    assert words_found(f"{WORDS.title()}!") == 1.0
    assert words_found("Let us talk it over and find a weigh out.") == pytest.approx(0.9)
    assert words_found("") == 0.0
    assert words_found("thank you for watching") == 0.0


def test_what_is_wrong_is_named() -> None:
    """An engine that says something else, and one that fails."""

    class Broken:
        def transcribe(self, pcm: object, *, options: DecodeOptions) -> Hypothesis:
            raise EngineError("it fell over", remedy="get it up")

    class Dreaming:
        def transcribe(self, pcm: object, *, options: DecodeOptions) -> Hypothesis:
            assert (options.language, options.terms) == ("en", ())
            return Hypothesis(text="Thank you for watching.")

    wrong, result = examine(Dreaming(), DecodeOptions(language="zh", terms=("x",)), clip())
    assert "did not come out" in wrong
    assert result["words_found"] < 0.7
    wrong, result = examine(Broken(), DecodeOptions(), clip())
    assert (wrong, result) == ("recognition failed: it fell over", {})


def test_an_urgent_errand_goes_before_what_waits(work: Work, clock: Clock) -> None:
    """When recognition never catches up, the errand that would mend it must not wait for that."""
    work.errand(lambda: None, patience_s=6, urgent=True)
    work.final(utterance())
    assert isinstance(work.take(0.0), Arrived), "in a pause as long as there is hope for one"
    work.final(utterance())
    clock.now_ns = 6_000_000_000
    assert isinstance(work.take(0.0), Errand)
    assert isinstance(work.take(0.0), Arrived)
