"""Several microphones, one engine: whose turn it is."""

from __future__ import annotations

from collections import Counter

from edge_agent.partials import PartialConfig
from edge_agent.types import DecodeOptions, Hypothesis, PcmFloat
from edge_agent.work import Arrived, Early, PartialDue, Piece, Work
from tests.broker import wait_until
from tests.unit.test_scribe import Book, Engine, scribe, utterance

MS = 1_000_000


class Watch:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ms(self) -> int:
        return self.now_ns // MS

    def synced(self) -> bool:
        return True


def made(clock: Watch) -> Work:
    config = PartialConfig(first_ms=400, interval_ms=500)
    return Work(clock=clock, queue_s=120, live=True, partials=config)


def take(work: Work) -> Piece:
    piece = work.take(0.0)
    assert piece is not None
    work.done()
    return piece


def test_finals_go_before_early_finals_before_partials() -> None:
    """Whatever came first: what ended, then what has probably ended, then what goes on."""
    clock = Watch()
    work = made(clock)
    for channel in range(4):
        work.started(channel)
    clock.now_ns = 500 * MS  # a partial is due everywhere
    work.paused(utterance(100, channel=1))
    work.paused(utterance(100, channel=2))
    work.final(utterance(100, channel=3))
    pieces = [take(work) for _ in range(4)]
    assert [type(piece) for piece in pieces] == [Arrived, Early, Early, PartialDue]
    early = [piece.utterance.channel for piece in pieces if isinstance(piece, Early)]
    assert early == [1, 2]  # the one that paused first
    assert pieces[3] == PartialDue(channel=0)


def test_a_final_that_comes_while_partials_are_due_is_next() -> None:
    """It waits for the decode that runs, never for a second one."""
    clock = Watch()
    work = made(clock)
    for channel in range(4):
        work.started(channel)
    clock.now_ns = 500 * MS
    assert isinstance(work.take(0.0), PartialDue)
    work.final(utterance(100, channel=2))
    work.done()
    assert isinstance(take(work), Arrived)


def test_talkers_take_turns() -> None:
    """Four who talk without end get the same number of partials, nobody twice before all had one."""
    clock = Watch()
    work = made(clock)
    for channel in range(4):
        work.started(channel)
        clock.now_ns += 10 * MS
    turns = []
    for _ in range(40):
        clock.now_ns += 400 * MS
        piece = work.take(0.0)
        if isinstance(piece, PartialDue):
            turns.append(piece.channel)
            growing = work.growing(piece.channel)
            assert growing is not None
            began_ns = clock.now_ns
            clock.now_ns += 150 * MS
            growing.done(began_ns, clock.now_ns)
            work.done()
    assert max(Counter(turns).values()) - min(Counter(turns).values()) <= 1
    assert all(len(set(turns[first : first + 4])) == 4 for first in range(0, len(turns) - 3, 4))


def test_each_stream_has_a_delay_of_its_own() -> None:
    """What `health` tells of a channel is of that channel."""
    book = Book()
    worker = scribe(Engine(), book)
    for channel, samples in ((0, 100), (3, 200), (3, 300)):
        worker.work.final(utterance(samples, channel=channel))
    worker.stop(5)
    streams = worker.statistics().streams
    assert [(one.channel, one.finals) for one in streams] == [(0, 1), (3, 2)]
    assert all(0 <= one.latency_p50_ms <= one.latency_p95_ms for one in streams)


def test_the_drafts_of_one_do_not_reach_another() -> None:
    """Each channel's early final belongs to its own utterance."""

    class Drafted(Engine):
        """Remembers the draft of each decode."""

        def __init__(self) -> None:
            super().__init__()
            self.drafts: list[str] = []

        def transcribe(
            self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
        ) -> Hypothesis:
            self.drafts.append(draft.text if draft else "")
            return super().transcribe(pcm, options=options, draft=draft)

    engine, book = Drafted(), Book()
    worker = scribe(engine, book)
    one, two = utterance(100, channel=0), utterance(200, channel=1)
    worker.work.paused(one)
    worker.work.paused(two)
    wait_until(lambda: len(engine.calls) == 2, 20, "both early finals")
    longer = utterance(250, channel=1, name=two.id)
    worker.work.final(longer)
    worker.work.final(one)
    worker.stop(5)
    assert engine.drafts == ["", "", "heard 200"]
    assert book.entries == [("final", "heard 250"), ("final", "heard 100")]
