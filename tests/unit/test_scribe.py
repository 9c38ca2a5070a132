"""The scribe: every utterance ends in exactly one final or gap, in order, whatever the engine does."""

from __future__ import annotations

import threading

import msgspec
import numpy as np
import pytest

from edge_agent.clock import SystemClock, uuid7
from edge_agent.errors import BadOutput
from edge_agent.partials import PartialConfig
from edge_agent.scribe import Scribe
from edge_agent.text.stabilise import Stable
from edge_agent.types import DecodeOptions, EngineInfo, Gap, Hypothesis, Latency, PcmFloat, Utterance
from tests.broker import wait_until

CLOCK = SystemClock()


class Engine:
    """Answers the number of samples it heard; a script of exceptions and a gate can hold it up."""

    info = EngineInfo(kind="test", model="none")

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.open = threading.Event()
        self.open.set()
        self.calls: list[int] = []

    def warm_up(self) -> None:
        """Nothing to warm."""

    def close(self) -> None:
        """Nothing to free."""

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        assert self.open.wait(5)
        self.calls.append(len(pcm))
        if self.failures:
            self.failures -= 1
            raise BadOutput("no text came back", remedy="try again")
        return Hypothesis(text=f"heard {len(pcm)}")


class Book:
    """Remembers what was committed, in order."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []
        self.latencies: list[Latency] = []
        self.partials: list[tuple[Stable, int]] = []
        self.revisions: list[int] = []

    def final(self, utterance: Utterance, hypothesis: Hypothesis, latency: Latency, revision: int) -> str:
        if "reject" in hypothesis.text:
            return "loop"
        self.entries.append(("final", hypothesis.text))
        self.latencies.append(latency)
        self.revisions.append(revision)
        return ""

    def partial(self, utterance: Utterance, hypothesis: Hypothesis, shown: Stable, revision: int) -> None:
        self.partials.append((shown, revision))

    def gap(self, gap: Gap) -> None:
        self.entries.append(("gap", gap.cause))


def utterance(samples: int, *, channel: int = 0, name: str = "") -> Utterance:
    now = CLOCK.monotonic_ns()
    return Utterance(
        id=name or uuid7(CLOCK.utc_ms()),
        channel=channel,
        start_ns=now - samples * 62_500,
        speech_end_ns=now,
        ended_ns=now,
        start_utc_ms=CLOCK.utc_ms(),
        clock_synced=True,
        pcm=np.zeros(samples, np.float32),
        cut="silence",
    )


def scribe(engine: Engine, book: Book, **given: object) -> Scribe:
    made = Scribe(engine, options=DecodeOptions(), commit=book, clock=CLOCK, **given)
    made.start()
    return made


def test_finals_and_gaps_keep_their_order() -> None:
    """What happened first is committed first."""
    book = Book()
    worker = scribe(Engine(), book)
    worker.work.final(utterance(100))
    worker.work.gap(Gap(start_ns=0, duration_ms=5, cause="xrun"))
    worker.work.final(utterance(200))
    worker.stop(5)
    assert book.entries == [("final", "heard 100"), ("gap", "xrun"), ("final", "heard 200")]


def test_a_pause_that_holds_costs_no_second_decode() -> None:
    """The early decode of the same audio is the final."""
    book, engine = Book(), Engine()
    worker = scribe(engine, book)
    said = utterance(300)
    worker.work.paused(said)
    assert worker.work.wait_idle(5)
    while not engine.calls:
        assert worker.work.wait_idle(5)
    worker.work.final(said)
    worker.stop(5)
    assert engine.calls == [300]
    assert book.entries == [("final", "heard 300")]
    assert worker.statistics().early_wasted == 0


def test_speech_that_resumed_is_decoded_again() -> None:
    """An early decode of a shorter stretch is never published."""
    book, engine = Book(), Engine()
    worker = scribe(engine, book)
    worker.work.paused(utterance(300, name="same"))
    while not engine.calls:
        assert worker.work.wait_idle(5)
    worker.work.resumed(0)
    worker.work.final(utterance(500, name="same"))
    worker.stop(5)
    assert book.entries == [("final", "heard 500")]
    assert worker.statistics().early_wasted == 1


def test_over_the_bound_the_oldest_becomes_a_gap() -> None:
    """A full queue loses no silence: the oldest waiting utterance is admitted as a gap in its place."""
    book, engine = Book(), Engine()
    engine.open.clear()
    worker = scribe(engine, book, queue_s=2.0)
    worker.work.final(utterance(16_000))
    while worker.statistics().queued_s:
        pass
    for _ in range(3):
        worker.work.final(utterance(16_000))
    engine.open.set()
    worker.stop(5)
    assert [kind for kind, _ in book.entries] == ["final", "gap", "final", "final"]
    assert ("gap", "overload") in book.entries


def test_one_failed_decode_is_tried_again() -> None:
    """A passing fault of the engine costs no words."""
    book = Book()
    worker = scribe(Engine(failures=1), book)
    worker.work.final(utterance(100))
    worker.stop(5)
    assert book.entries == [("final", "heard 100")]
    assert worker.statistics().engine_errors == 1


def test_an_utterance_the_engine_cannot_read_becomes_a_gap() -> None:
    """Two failures in a row on one utterance: a gap, and the next one is heard again."""
    book = Book()
    worker = scribe(Engine(failures=2), book)
    worker.work.final(utterance(100))
    worker.work.final(utterance(200))
    worker.stop(5)
    assert book.entries == [("gap", "restart"), ("final", "heard 200")]


def test_an_engine_that_always_fails_is_given_up() -> None:
    """After three lost utterances the scribe reports the failure instead of eating the rest."""
    book = Book()
    worker = scribe(Engine(failures=100), book)
    for _ in range(5):
        worker.work.final(utterance(100))
    worker.stop(5)
    assert worker.failure is not None
    assert [kind for kind, _ in book.entries] == ["gap"] * 5


def test_what_cannot_be_finished_at_stop_becomes_gaps() -> None:
    """A stop that runs out of time admits what it leaves."""
    book, engine = Book(), Engine()
    engine.open.clear()
    worker = scribe(engine, book)
    worker.work.final(utterance(100))
    while worker.statistics().queued_s:
        pass
    worker.work.final(utterance(200))
    worker.stop(0.2)
    engine.open.set()
    assert worker.work.wait_idle(5)
    assert book.entries == [("gap", "restart"), ("gap", "restart")]


@pytest.mark.parametrize("live", [True, False])
def test_latency_is_the_sum_of_its_parts(live: bool) -> None:
    """total = endpoint + queue + decode, none negative."""
    book = Book()
    worker = scribe(Engine(), book, live=live)
    worker.work.final(utterance(100))
    worker.stop(5)
    [latency] = book.latencies
    assert latency.total == pytest.approx(latency.endpoint + latency.queue + latency.decode)
    assert min(latency.endpoint, latency.queue, latency.decode) >= 0


def test_what_is_heard_early_is_told_while_the_endpoint_waits() -> None:
    """Whoever decides how long to wait learns the words before the silence is over."""
    told: list[str] = []
    book, engine = Book(), Engine()
    worker = scribe(engine, book, on_early=lambda _paused, heard: told.append(heard.text))
    worker.work.paused(utterance(300))
    while not told:
        assert worker.work.wait_idle(5)
    assert told == ["heard 300"]
    assert book.entries == []
    worker.stop(5)


def test_the_last_words_are_shown_while_the_endpoint_waits() -> None:
    """What the early decode heard is a partial, as long as it tells anything new, and before the final."""
    book, engine = Book(), Engine()
    worker = scribe(engine, book, partials=PartialConfig(first_ms=60_000))
    worker.work.started(0)
    said = utterance(300)
    for decodes in range(1, 4):  # speech seems to go on, and the pause is there again
        worker.work.paused(said)
        wait_until(lambda n=decodes: len(engine.calls) == n and worker.work.wait_idle(1), 5, "the decode")
        worker.work.resumed(0)
    told = [(shown.stable, shown.tail, revision) for shown, revision in book.partials]
    assert told == [("", "heard 300", 1), ("heard 300", "", 2)]
    worker.work.final(said)
    worker.stop(5)
    assert (book.entries, book.revisions) == ([("final", "heard 300")], [3])


def test_without_partials_nothing_is_shown_early() -> None:
    """Who asked for finals gets finals."""
    book, engine = Book(), Engine()
    worker = scribe(engine, book, partials=PartialConfig(enabled=False))
    worker.work.started(0)
    worker.work.paused(utterance(300))
    wait_until(lambda: bool(engine.calls) and worker.work.wait_idle(1), 5, "the early decode")
    worker.stop(5)
    assert book.partials == []


class AskedEngine(Engine):
    """Notes what language it was told to expect; hears the one it is told to hear."""

    def __init__(self) -> None:
        super().__init__()
        self.expected: list[str] = []
        self.language = "zh"

    def transcribe(self, pcm, *, options, draft=None) -> Hypothesis:
        self.expected.append(options.usual_language)
        heard = super().transcribe(pcm, options=options, draft=draft)
        return msgspec.structs.replace(heard, language=self.language, language_probability=0.9)


def test_each_channel_has_a_language_it_is_used_to() -> None:
    """After two finals it is expected; another channel, and a fixed language, know nothing of it."""
    engine = AskedEngine()
    worker = Scribe(engine, options=DecodeOptions(language="auto"), commit=Book(), clock=CLOCK)
    worker.start()
    for channel in (0, 0, 0, 1):
        worker.work.final(utterance(100, channel=channel))
    assert worker.work.wait_idle(5)
    worker.set_options(DecodeOptions(language="de"))
    worker.work.final(utterance(100))
    worker.stop(5)
    assert engine.expected == ["", "", "zh", "", ""]


def test_lateness_is_measured_by_what_was_said() -> None:
    """A third of a second is late after a word and none after half a minute of talk that was cut."""
    for seconds, late in ((1, True), (28, False)):
        engine = Engine()
        engine.open.clear()
        worker = scribe(engine, Book())
        for _ in range(2):
            worker.work.final(utterance(16_000 * seconds))
        threading.Timer(0.3, engine.open.set).start()
        worker.stop(20)
        assert (worker.work.late_ms > 0) == late
