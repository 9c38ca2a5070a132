"""Only progress feeds a heartbeat, and past deaths decide what a start does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.supervise import (
    HOLD_S,
    Budget,
    Death,
    Heartbeats,
    StartPlan,
    decode_limit_s,
    plan_start,
)

SECOND = 1_000_000_000


def test_a_counter_that_stands_still_is_hung_after_its_limit() -> None:
    """A thread that is observed but does not progress is named once its limit has passed."""
    hearts = Heartbeats({"ears": 2, "scribe": 10})
    for second in range(6):
        hearts.observe("ears", 7, second * SECOND)
        hearts.observe("scribe", second, second * SECOND)
    assert hearts.hung(2 * SECOND) == ()
    assert hearts.hung(5 * SECOND) == ("ears",)
    assert hearts.age_s("ears", 5 * SECOND) == 5
    assert hearts.age_s("nobody", 5 * SECOND) == 0


def test_progress_revives_it() -> None:
    """One step of progress clears the finding."""
    hearts = Heartbeats({"ears": 2})
    hearts.observe("ears", 1, 0)
    assert hearts.hung(3 * SECOND) == ("ears",)
    hearts.observe("ears", 2, 3 * SECOND)
    assert hearts.hung(4 * SECOND) == ()


def test_a_slow_profile_may_decode_for_longer() -> None:
    """The limit of a decode comes from what the profile promises; fast machines are not waited for."""
    assert decode_limit_s(0.1) == 20
    assert decode_limit_s(0.4) == pytest.approx(36)
    assert decode_limit_s(1.0) == 90


@given(st.lists(st.integers(0, 600), min_size=1, max_size=60))
def test_no_window_ever_holds_more_than_the_budget(seconds: list[int]) -> None:
    """Whatever the rhythm of the tries, any 60 s hold at most five granted ones."""
    budget = Budget(5, 60)
    granted = [at for at in sorted(seconds) if budget.spend(at * SECOND)]
    assert all(sum(start <= at < start + 60 for at in granted) <= 5 for start in granted)
    assert granted[0] == min(seconds)


def deaths(*at_s: float, in_engine: bool = False) -> tuple[Death, ...]:
    return tuple(Death(at_ns=int(at * SECOND), cause="killed", in_engine=in_engine) for at in at_s)


def test_an_ordinary_start_has_no_reason() -> None:
    """Without deaths, and after a few that were not the engine's, all is as configured."""
    assert plan_start((), 0) == StartPlan()
    assert plan_start(deaths(0, 10, 20, 30), 40 * SECOND) == StartPlan()


def test_deaths_in_the_engine_lead_to_smaller_then_to_the_fallback() -> None:
    """One retry smaller, then the fallback profile; after ten quiet minutes the configured one again."""
    assert plan_start(deaths(0, in_engine=True), 1 * SECOND).level == 1
    second = plan_start(deaths(0, 5, in_engine=True), 6 * SECOND)
    assert (second.level, second.hold_s) == (2, 0)
    assert "2 times" in second.reason
    assert plan_start(deaths(0, 5, in_engine=True), 700 * SECOND) == StartPlan()


def test_five_deaths_in_a_minute_hold() -> None:
    """The sixth start waits and says why; the same deaths spread over an hour do not matter."""
    held = plan_start(deaths(0, 10, 20, 30, 40), 41 * SECOND)
    assert held.hold_s == HOLD_S
    assert "5 times within 60 s" in held.reason
    assert plan_start(deaths(0, 700, 1400, 2100, 2800), 2801 * SECOND).hold_s == 0
