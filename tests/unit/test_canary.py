"""While nobody speaks, a known recording tells whether the engine still hears."""

from __future__ import annotations

import time

import numpy as np

from edge_agent.canary import Canary, Recording
from edge_agent.engine.scripted import Line
from edge_agent.selftest import WORDS
from edge_agent.work import Work
from tests.unit.test_spare import House, heard

SECOND = 1_000_000_000
SOUND = np.ones(1600, np.float32)


class Errands:
    """Runs what the scribe would run when idle, at once."""

    def errand(self, run: object) -> None:
        run()


def singer(house: House, **given: object) -> tuple[Canary, object]:
    spares = house.spares()
    work: Work = Errands()
    return Canary(work, spares, sound=lambda: SOUND, **given), spares


def knows_the_words(house: House) -> None:
    house.engines[0]._lines[:] = [Line(text=WORDS)]


def test_it_sings_only_after_a_quiet_quarter_of_an_hour() -> None:
    """And again a quarter of an hour later; each decode in between puts it off."""
    house = House()
    canary, spares = singer(house)
    knows_the_words(house)
    for second in range(900):
        canary.tick(second * SECOND)
    assert canary.passed == 0
    canary.tick(901 * SECOND)
    assert canary.passed == 1
    spares.spent_s += 1.0
    for second in range(902, 1801):
        canary.tick(second * SECOND)
    assert canary.passed == 1


def test_an_engine_that_answers_nonsense_twice_is_replaced() -> None:
    """One wrong answer may be a hiccup; the second, half a minute later, is a fault."""
    house = House()
    canary, spares = singer(house)
    for second in range(901):
        canary.tick(second * SECOND)
    assert house.opened == [0]
    for second in range(901, 932):
        canary.tick(second * SECOND)
    assert house.opened == [0, 1]
    assert "the words of the recording did not come out" in spares.reason
    assert heard(spares) == "level 1"


def test_the_real_recording_can_be_read() -> None:
    """By a process of its own, without waiting for it: two to three seconds of speech."""
    recording = Recording()
    assert recording() is None
    until = time.monotonic() + 30
    while (sound := recording()) is None and time.monotonic() < until:
        time.sleep(0.05)
    assert sound is not None
    assert 2.0 < len(sound) / 16_000 < 4.0
    assert np.abs(sound).max() > 0.05
