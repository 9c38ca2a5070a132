"""Only progress feeds a heartbeat, and past deaths decide what a start does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.supervise import (
    HOLD_S,
    LONGEST_S,
    Budget,
    Death,
    Heartbeats,
    Limit,
    StartPlan,
    Strain,
    decode_limit_s,
    plan_start,
)

SECOND = 1_000_000_000


LIMIT = Limit(idle_s=5, busy_s=12)
IDLE = Strain()
AT_WORK = Strain(worked_s=0.9)
STARVED = Strain(worked_s=0.01, excused_s=1.0)


def seconds_until_hung(*strains: Strain, longest: int = 200) -> int:
    """Looks once a second at a counter that stands still; the last strain goes on for ever. 0: never hung."""
    hearts = Heartbeats()
    hearts.look("scribe", 7, passed_s=0, strain=IDLE, limit=LIMIT)
    for second in range(1, longest):
        strain = strains[min(second, len(strains)) - 1]
        if hearts.look("scribe", 7, passed_s=1.0, strain=strain, limit=LIMIT):
            return second
    return 0


def test_who_neither_moves_nor_works_is_hung_soon() -> None:
    """A thread that waits for what does not come is named right after its limit."""
    assert seconds_until_hung(IDLE) == 6


def test_who_works_without_an_end_is_hung_later() -> None:
    """A decode may take its time, but not all time; a hang after some work is noticed as a hang."""
    assert seconds_until_hung(AT_WORK) == 13
    assert seconds_until_hung(AT_WORK, AT_WORK, IDLE) == 8


def test_who_waits_for_a_cpu_or_the_disk_is_slow_not_hung() -> None:
    """On a machine so busy that one second of work takes thirty, only the last limit of all remains."""
    assert seconds_until_hung(STARVED) == int(LONGEST_S) + 1
    assert seconds_until_hung(*[STARVED] * 20, IDLE) == 26


def test_where_the_kernel_tells_nothing_the_limits_are_wider() -> None:
    """Idle or starved cannot be told apart there."""
    assert seconds_until_hung(Strain(known=False)) == 16


def test_progress_revives_it() -> None:
    """One step of progress, or an end, and it begins anew."""
    hearts = Heartbeats()
    for second in range(60):
        assert not hearts.look("ears", second // 5, passed_s=1.0, strain=IDLE, limit=LIMIT)
    hearts.forget("ears")
    assert not hearts.look("ears", 11, passed_s=100.0, strain=IDLE, limit=LIMIT)


@given(
    st.lists(
        st.builds(Strain, worked_s=st.floats(0, 4), excused_s=st.floats(0, 4), known=st.booleans()),
        max_size=120,
    )
)
def test_nothing_hangs_before_its_limit_and_everything_after_the_last(strains: list[Strain]) -> None:
    """Whatever the kernel tells: never sooner than the shortest limit, always by the longest."""
    found = seconds_until_hung(*strains, IDLE)
    assert LIMIT.idle_s < found <= LONGEST_S + 1


def test_a_slow_profile_may_decode_for_longer() -> None:
    """The limit of a decode comes from what the profile promises; fast machines are not waited for."""
    assert decode_limit_s(0.4, stepwise=True) == 6
    assert decode_limit_s(1.0, stepwise=True) == 15
    assert decode_limit_s(0.1, stepwise=False) == 20
    assert decode_limit_s(0.4, stepwise=False) == pytest.approx(36)


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
