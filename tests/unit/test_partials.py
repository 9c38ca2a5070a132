"""Partials: early, paced by what they cost, quiet in pauses, and closed by their final."""

from __future__ import annotations

import itertools

from edge_agent.partials import PartialConfig, Partials
from edge_agent.types import Hypothesis, Utterance, Word
from tests.unit.test_scribe import CLOCK, Book, Engine, scribe, utterance

MS = 1_000_000
CONFIG = PartialConfig(first_ms=400, interval_ms=500)


def test_the_first_is_due_soon_after_speech_starts() -> None:
    """Nothing before its time, the channel at its time."""
    partials = Partials(CONFIG)
    partials.started(0, 0)
    assert partials.due(399 * MS) is None
    assert partials.due(400 * MS) == 0
    assert partials.wait_s(150 * MS, 5.0) == 0.25


def test_what_goes_on_from_a_cut_is_told_at_once() -> None:
    """Its first seconds are there already."""
    partials = Partials(CONFIG)
    partials.started(0, 10_000 * MS, 7_000 * MS)
    assert partials.due(10_000 * MS) == 0


def test_a_pause_is_left_to_the_early_final() -> None:
    """No partial is decoded while the endpoint waits."""
    partials = Partials(CONFIG)
    partials.started(0, 0)
    partials.paused(0, paused=True)
    assert partials.due(900 * MS) is None
    partials.paused(0, paused=False)
    assert partials.due(900 * MS) == 0


def test_a_slow_decode_widens_the_interval() -> None:
    """Half of the engine's time is the most that partials of a channel take."""
    partials = Partials(CONFIG)
    partials.started(0, 0)
    growing = partials.growing(0)
    assert growing is not None
    growing.done(400 * MS, 500 * MS)
    assert growing.due_ns == 900 * MS
    growing.done(900 * MS, 1900 * MS)
    assert growing.due_ns == 2900 * MS


def test_talkers_share_the_time() -> None:
    """Three at once are told at a third of the pace that one could be told at."""
    partials = Partials(CONFIG)
    for channel in range(3):
        partials.started(channel, 0)
    growing = partials.growing(0)
    assert growing is not None
    growing.done(400 * MS, 600 * MS)
    assert growing.due_ns == 1_600 * MS
    partials.ended(1)
    partials.ended(2)
    growing.done(1_600 * MS, 1_800 * MS)
    assert growing.due_ns == 2_100 * MS


def test_the_channel_that_waited_longest_goes_first() -> None:
    """Fair between streams."""
    partials = Partials(CONFIG)
    partials.started(1, 100 * MS)
    partials.started(0, 300 * MS)
    assert partials.due(1_000 * MS) == 1


def test_switched_off_nothing_is_due() -> None:
    """recognition.partials = false."""
    partials = Partials(PartialConfig(enabled=False))
    partials.started(0, 0)
    assert partials.due(10_000 * MS) is None
    assert partials.ended(0) is None


class WordyEngine(Engine):
    """Hears one word for each second of sound."""

    def transcribe(self, pcm, *, options, draft=None) -> Hypothesis:
        super().transcribe(pcm, options=options, draft=draft)
        names = ["one", "two", "three", "four"][: max(1, len(pcm) // 16_000)]
        words = tuple(
            Word(text=name, start_s=float(i), end_s=i + 0.5, confidence=0.9) for i, name in enumerate(names)
        )
        return Hypothesis(text=" ".join(names), words=words)


class RejectingBook(Book):
    """A guard that rejects every final."""

    def final(self, utterance, hypothesis, latency, revision) -> str:
        self.entries.append(("rejected", str(revision)))
        return "loop"


def speak(book: Book, seconds: tuple[int, ...]) -> list[Utterance]:
    """Let an utterance grow to each of these lengths, a partial at each, then end it."""
    grown = [utterance(16_000 * s, name="said") for s in seconds]
    state = {"now": 0}
    worker = scribe(
        WordyEngine(),
        book,
        partials=PartialConfig(first_ms=0, interval_ms=0),
        snapshot=lambda _channel: grown[state["now"]],
    )
    worker.work.started(0)
    for step in range(len(grown)):
        state["now"] = step
        seen = len(book.partials)
        deadline = CLOCK.monotonic_ns() + 5_000 * MS
        while len(book.partials) < seen + 2:
            assert CLOCK.monotonic_ns() < deadline
    worker.work.final(grown[-1])
    worker.stop(5)
    return grown


def test_revisions_rise_and_the_final_has_the_last() -> None:
    """stable only grows over the partials of an utterance; the final's revision follows them."""
    book = Book()
    speak(book, (1, 2, 3))
    revisions = [revision for _, revision in book.partials]
    assert revisions == list(range(1, len(revisions) + 1))
    stables = [shown.stable for shown, _ in book.partials]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(stables))
    assert book.revisions == [len(revisions) + 1]
    assert book.entries[-1] == ("final", "one two three")


def test_a_rejected_utterance_is_closed_when_partials_told_of_it() -> None:
    """The book learns the revision, so that it can close the id with an empty final."""
    book = RejectingBook()
    speak(book, (1,))
    [(_, revision)] = book.entries
    assert int(revision) > 1
