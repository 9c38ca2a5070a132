"""The swaps of a trial, with scripted engines and the real queue of the scribe."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import EngineLoadFailed
from edge_agent.fleet.bundle import Expect
from edge_agent.fleet.judge import LOST_BROKER_S, Link, Promise
from edge_agent.opening import Recogniser
from edge_agent.partials import PartialConfig
from edge_agent.served import strictly
from edge_agent.supervise import Level
from edge_agent.trial import Course, Trial
from edge_agent.types import Utterance
from edge_agent.work import Errand, Work
from tests.unit.test_spare import House

COURSE = Course(trial_s=600, expect=Expect(), promise=Promise(rtf_max=1, ram_max_mb=500))


class Agent:
    """The parts that a trial needs; a thread does the scribe's errands."""

    def __init__(self) -> None:
        self.work = Work(clock=SystemClock(), queue_s=100, live=True, partials=PartialConfig(enabled=False))
        self.now, self.hurried = Link(connected=True), []
        self.errors = self.failing = 0
        """Failed decodes, and how many more there are at each look."""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.work.finish()
        self._thread.join(10)

    def _serve(self) -> None:
        while not self.work.closing:
            piece = self.work.take(0.05)
            if isinstance(piece, Errand):
                piece.run()
            self.work.done()

    def counts(self) -> tuple[int, int, int]:
        self.errors += self.failing
        return 0, 0, self.errors

    def link(self) -> Link:
        return self.now

    def hurry(self, seconds: float) -> None:
        self.hurried.append(seconds)


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as running:
        yield running


@pytest.fixture
def house() -> House:
    return House()


def trial_of(agent: Agent, house: House) -> Trial:
    return Trial(house.spares(), agent, SystemClock(), stop=threading.Event(), ended=lambda: False)


def test_the_present_one_stays_warm_and_comes_back_at_once(agent: Agent, house: House) -> None:
    """Both open while there is room; nothing is opened again to go back."""
    trial, new = trial_of(agent, house), House()
    trial.begin(new.open, takes_mb=1)
    assert trial._spares.recogniser.engine is new.engines[0]
    trial.back(house.open)
    assert trial._spares.recogniser.engine is house.engines[0]
    assert (house.opened, new.opened) == ([0], [0])


def test_without_room_for_both_the_new_one_takes_the_place(agent: Agent, house: House) -> None:
    """A card that holds one model: the present one is closed first, and opened anew to go back."""
    trial, new, tries = trial_of(agent, house), House(), []

    def open_on_a_small_card(level: Level) -> Recogniser:
        tries.append(level)
        if len(tries) == 1:
            raise EngineLoadFailed("out of memory on the device", remedy="-")
        return new.open(level)

    trial.begin(open_on_a_small_card, takes_mb=1)
    assert trial._spares.recogniser.engine is new.engines[0]
    assert trial._spares.reason == ""
    trial.back(house.open)
    assert house.opened == [0, 0]


def test_what_stands_in_for_the_new_one_is_no_trial_of_it(agent: Agent, house: House) -> None:
    """Another profile than its own was opened: the trial ends at its first look, with the reason."""
    trial, new = trial_of(agent, house), House()
    before = trial.begin(strictly(new.open, "kiosk.v3"), takes_mb=1)
    verdict = trial.watch(before, COURSE)
    assert "kiosk.v3 cannot serve" in verdict.why
    assert not verdict.final
    trial.back(house.open)
    assert trial._spares.reason == ""


def test_failed_decodes_end_a_trial_and_the_broker_is_looked_for_meanwhile(
    agent: Agent, house: House
) -> None:
    """A look each second; a link that was quiet for a while is no reason yet."""
    trial = trial_of(agent, house)
    before = trial.begin(House().open, takes_mb=1)
    agent.now = Link(connected=True, quiet_s=LOST_BROKER_S / 2)
    agent.failing = 1
    verdict = trial.watch(before, COURSE)
    assert "2 decodes failed" in verdict.why
    assert agent.hurried


def test_the_way_back_does_not_wait_for_a_backlog(house: House) -> None:
    """Recognition that never catches up would otherwise keep the model that is the cause."""
    work = Work(clock=SystemClock(), queue_s=1000, live=True, partials=PartialConfig(enabled=False))
    for number in range(3):
        work.final(_utterance(str(number)))
    done = threading.Event()
    work.errand(done.set, patience_s=0, urgent=True)
    first = work.take(0)
    assert isinstance(first, Errand)
    first.run()
    assert done.is_set()


def _utterance(name: str) -> Utterance:
    return Utterance(
        id=name, channel=0, start_ns=0, speech_end_ns=1, start_utc_ms=0, clock_synced=True,
        pcm=np.zeros(160, np.float32), cut="silence",
    )  # fmt: skip
