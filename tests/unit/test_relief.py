"""The ladder's steps reach the parts: partials wider, then off, then the smaller model, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.clock import SystemClock
from edge_agent.health.load import Machine
from edge_agent.partials import PartialConfig
from edge_agent.relief import Relief
from edge_agent.work import PartialDue, Work

SECOND = 1_000_000_000
CLOCK = SystemClock()


class Spares:
    """Remembers what was asked of it."""

    smaller = True
    spent_s = 0.0

    def __init__(self) -> None:
        self.asked: list[int] = []

    def ask(self, level: int) -> None:
        self.asked.append(level)


def made(spares: Any, machine: Machine) -> tuple[Work, Relief, list[Machine]]:
    work = Work(clock=CLOCK, queue_s=120, live=True, partials=PartialConfig(first_ms=0))
    now = [machine]
    return work, Relief(work, spares, queue_limit_s=120, read=lambda: now[0]), now


def test_memory_that_runs_out_is_met_step_by_step_and_given_back() -> None:
    """Down in 21 seconds, up again in three half minutes, each step told."""
    spares = Spares()
    _, relief, now = made(spares, Machine(available_mb=30))
    steps = []
    for second in range(22):
        relief.tick(second * SECOND)
        steps.append(relief.step)
    assert list(dict.fromkeys(steps)) == ["full", "partials_wide", "partials_off", "smaller_model"]
    assert relief.reason == "memory is short, 30 MB left: a smaller model recognises"
    assert spares.asked[-1] == 2
    now[0] = Machine()
    for second in range(22, 122):
        relief.tick(second * SECOND)
    assert (relief.step, relief.reason, spares.asked[-1]) == ("full", "", 0)


def test_partials_are_off_when_the_step_says_so() -> None:
    """No partial is due any more; finals come first anyway."""
    work, relief, _ = made(None, Machine(available_mb=30))
    work.started(0)
    assert isinstance(work.take(0.1), PartialDue)
    for second in range(7):
        relief.tick(second * SECOND)
    assert relief.step == "partials_off"
    assert work.take(0.01) is None


def test_without_spares_the_ladder_has_no_smaller_model() -> None:
    """Nobody is asked for what is not there."""
    _, relief, _ = made(None, Machine(available_mb=30))
    for second in range(20):
        relief.tick(second * SECOND)
    assert relief.step == "partials_off"


def test_the_engines_share_of_the_time_is_what_it_spent(monkeypatch: Any) -> None:
    """A CPU taken by others matters when the engine wants it all the time."""
    spares = Spares()
    _, relief, _ = made(spares, Machine(cpu_pressure=90))
    for second in range(10):
        spares.spent_s = second * 0.95
        relief.tick(second * SECOND)
    assert "other work takes the CPU" in relief.reason
    assert np.isfinite(spares.spent_s)


def test_finals_that_break_the_promise_shed_partials() -> None:
    """Two late finals in a row are trouble, with words that say so; one may have been hard to hear."""
    work, relief, _ = made(None, Machine())
    work.told(5_000)
    for second in range(5):
        relief.tick(second * SECOND)
    assert relief.step == "full"
    work.told(6_000)
    for second in range(5, 10):
        relief.tick(second * SECOND)
    assert (relief.step, relief.reason) == (
        "partials_wide",
        "finals come 5.0 s late: partials come more rarely",
    )


def test_one_decode_that_fills_a_second_is_not_taken_for_a_busy_engine() -> None:
    """The way up looks at the mean of some seconds: nine tenths of a second in every four is calm."""
    spares = Spares()
    _, relief, now = made(spares, Machine(available_mb=30))
    for second in range(5):
        relief.tick(second * SECOND)
    now[0] = Machine()
    for second in range(5, 40):
        spares.spent_s += 0.9 if second % 4 == 0 else 0.0
        relief.tick(second * SECOND)
    assert relief.step == "full"
