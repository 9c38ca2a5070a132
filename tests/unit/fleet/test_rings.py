"""Rings: who is told, when it goes on, and what stops it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.fleet import rings
from edge_agent.fleet.bundle import Target
from edge_agent.fleet.rings import Rules, View

TARGET = Target(name="m", version=2)
RULES = Rules(soak_s=10, deadline_s=100)
FRESH = View(online=True, p95_ms=500)
DONE = View(online=True, wanted=TARGET, state="done", desired=TARGET, p95_ms=500)
BAD = View(online=True, wanted=TARGET, state="failed", reason="too slow", desired=TARGET)


def fleet(count: int, view: View = FRESH) -> dict[str, View]:
    return {f"d{n}": view for n in range(count)}


def test_the_rings_of_a_fleet() -> None:
    """One device at least, then shares, all of them last; the order is no order of names."""
    state = rings.begin(TARGET, fleet(200))
    sizes = [len(rings.members(msgspec.structs.replace(state, ring=ring), RULES)) for ring in range(4)]
    assert sizes == [2, 20, 100, 200]
    assert state.order != tuple(sorted(state.order))
    assert len(rings.members(rings.begin(TARGET, fleet(3)), RULES)) == 1


def test_the_next_ring_waits_for_this_one() -> None:
    """Told, done, watched for a while; only then the next ones are told."""
    views, state = fleet(10), rings.begin(TARGET, fleet(10))
    state, tell = rings.advance(state, views, 0, RULES)
    assert tell == state.order[:1]
    views[tell[0]] = msgspec.structs.replace(FRESH, desired=TARGET)
    state, tell = rings.advance(state, views, 1000, RULES)
    assert (state.ring, tell) == (0, ())
    views[state.order[0]] = DONE
    state, _ = rings.advance(state, views, 2000, RULES)
    state, _ = rings.advance(state, views, 11_000, RULES)
    assert state.ring == 0
    state, _ = rings.advance(state, views, 13_000, RULES)
    assert state.ring == 1


def after(view: View, count: int = 20, share: float = 1.0) -> rings.Rollout:
    """A fleet whose first ring answered like this."""
    rules = msgspec.structs.replace(RULES, rings=(share,))
    views, state = fleet(count), rings.begin(TARGET, fleet(count))
    state, tell = rings.advance(state, views, 0, rules)
    for device in tell:
        views[device] = DONE
    views[tell[0]] = view
    return rings.advance(state, views, 1000, rules)[0]


def test_more_than_five_percent_stop_it() -> None:
    """One of ten is too many, one of twenty is not."""
    assert after(BAD, 20).phase == "running"
    stopped = after(BAD, 10)
    assert stopped.phase == "stopped"
    assert "1 of 10 devices failed in ring 1" in stopped.reason
    assert "too slow" in stopped.reason


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (msgspec.structs.replace(DONE, p95_ms=900), "latency of 1 changed devices rose 1.8 times"),
        (msgspec.structs.replace(DONE, rejects=0.2), "20% more of what is said is rejected"),
    ],
)
def test_a_fleet_that_gets_worse_stops_it(view: View, why: str) -> None:
    """No device says that it failed, and still the words come later or not at all."""
    assert why in after(view, 1).reason


def test_who_is_away_is_not_waited_for_and_who_fell_silent_failed() -> None:
    """A device that was off is told later by the broker; one that was on and never answers has failed."""
    views, rules = fleet(3), msgspec.structs.replace(RULES, rings=(1.0,))
    state = rings.begin(TARGET, views)
    off, silent, well = state.order
    views[off] = View(online=False, p95_ms=500)
    state, _ = rings.advance(state, views, 0, rules)
    views |= {well: DONE, off: View(desired=TARGET), silent: View(desired=TARGET)}
    found = rings.summary(state, views, 50_000, rules)
    assert (found["done"], found["open"], found["away"]) == (1, 1, 1)
    state, _ = rings.advance(state, views, 101_000, rules)
    assert "no answer" in state.reason


@given(st.lists(st.sampled_from([FRESH, DONE, BAD, View()]), min_size=1, max_size=30), st.data())
def test_nobody_beyond_the_ring_is_ever_told(views: list[View], data: st.DataObject) -> None:
    """Whatever devices say: only members are told, and a stopped roll-out tells nobody."""
    seen = {f"d{n}": view for n, view in enumerate(views)}
    state = rings.begin(TARGET, seen)
    for step in range(6):
        state, tell = rings.advance(state, seen, step * 7000, RULES)
        assert set(tell) <= set(rings.members(state, RULES))
        assert not tell or state.phase == "running"
        for device in tell:
            seen[device] = data.draw(
                st.sampled_from([DONE, BAD, msgspec.structs.replace(FRESH, desired=TARGET)])
            )
        assert msgspec.json.decode(msgspec.json.encode(state), type=rings.Rollout) == state
