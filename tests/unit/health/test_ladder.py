"""Less is done when the machine cannot keep up, step by step, and more again only after a calm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.health.ladder import STEPS, Ladder, Load, trouble

SECOND = 1_000_000_000
BEHIND, CALM = Load(queued_s=20), Load()


def feed(ladder: Ladder, load: Load, start_s: int, seconds: int) -> list[str]:
    """The steps it stood on, second by second."""
    steps = []
    for second in range(start_s, start_s + seconds):
        ladder.update(load, second * SECOND)
        steps.append(ladder.step)
    return steps


def test_it_goes_down_one_step_at_a_time_and_says_why() -> None:
    """Three seconds of trouble a step, fifteen to another model, in the written order."""
    ladder = Ladder()
    steps = feed(ladder, BEHIND, 0, 60)
    assert list(dict.fromkeys(steps)) == list(STEPS[:-1])
    assert [steps.index(step) for step in STEPS[1:-1]] == [3, 6, 21]
    assert ladder.reason == "recognition is 20 s behind: a smaller model recognises"


def test_gaps_are_told_only_when_speech_is_dropped() -> None:
    """A backlog alone loses nothing."""
    ladder = Ladder()
    feed(ladder, BEHIND, 0, 60)
    ladder.update(Load(queued_s=120, dropped=1), 60 * SECOND)
    assert ladder.step == "gaps"
    assert ladder.reason == "recognition is behind, the queue is full: speech is dropped and told as gaps"


def test_a_short_peak_changes_nothing() -> None:
    """Two seconds of trouble are no reason."""
    ladder = Ladder()
    assert set(feed(ladder, BEHIND, 0, 3) + feed(ladder, CALM, 3, 60)) == {"full"}
    assert ladder.reason == ""


def test_it_comes_back_a_step_each_half_minute_of_calm() -> None:
    """And stays where it is between trouble and calm."""
    ladder = Ladder()
    feed(ladder, BEHIND, 0, 7)
    assert ladder.step == "partials_off"
    assert set(feed(ladder, Load(queued_s=4), 7, 100)) == {"partials_off"}
    steps = feed(ladder, CALM, 107, 62)
    assert [steps.index(step) for step in ("partials_wide", "full")] == [30, 60]


def test_other_work_that_leaves_enough_is_calm() -> None:
    """A job that takes all CPUs for hours at a low priority does not keep the partials away for hours."""
    ladder = Ladder()
    feed(ladder, BEHIND, 0, 7)
    assert set(feed(ladder, Load(cpu_pressure=95, mean_share=0.5), 7, 60)) == {"partials_off"}
    assert feed(ladder, Load(cpu_pressure=95, mean_share=0.2), 67, 62)[-1] == "full"


def test_a_second_full_of_work_is_no_trouble_to_a_calm() -> None:
    """On a slow machine each decode fills a second; what counts is how much is left between them."""
    ladder = Ladder()
    feed(ladder, BEHIND, 0, 7)
    for second in range(7, 70):
        ladder.update(Load(busy_share=second % 4 == 0, mean_share=0.3), second * SECOND)
    assert ladder.step == "full"


def test_a_step_up_that_is_regretted_takes_twice_the_calm() -> None:
    """A machine that just cannot do more is not tried every half minute."""
    ladder = Ladder()
    feed(ladder, BEHIND, 0, 4)
    assert feed(ladder, CALM, 4, 31)[-1] == "full"
    assert feed(ladder, BEHIND, 35, 4)[-1] == "partials_wide"
    steps = feed(ladder, CALM, 39, 61)
    assert steps.index("full") == 60


def test_without_a_smaller_model_that_step_is_left_out() -> None:
    """The ladder has only the steps that exist here."""
    ladder = Ladder(("full", "partials_wide", "partials_off", "gaps"))
    assert list(dict.fromkeys(feed(ladder, BEHIND, 0, 30))) == ["full", "partials_wide", "partials_off"]
    ladder.update(Load(queued_s=120, dropped=1), 30 * SECOND)
    assert ladder.step == "gaps"


@pytest.mark.parametrize(
    ("load", "word"),
    [
        (Load(queued_s=9), "9 s behind"),
        (Load(queued_s=3, queue_limit_s=10), "3 s behind"),
        (Load(available_mb=40), "40 MB left"),
        (Load(memory_pressure=20, available_mb=500), "memory"),
        (Load(temperature_c=96, hot_c=95), "96 °C"),
        (Load(cpu_pressure=90, busy_share=0.9), "CPU"),
        (Load(late_s=2, promised_s=1.5), "2.0 s late"),
    ],
)
def test_each_kind_of_trouble_has_its_words(load: Load, word: str) -> None:
    """The reason tells a person what to look at."""
    assert word in trouble(load)


@pytest.mark.parametrize(
    "load",
    [
        Load(),
        Load(queued_s=7),
        Load(cpu_pressure=90, busy_share=0.1),
        Load(busy_share=1.0),
        Load(temperature_c=89, hot_c=95),
        Load(throttled=4),
        Load(late_s=1.4, promised_s=1.5),
    ],
)
def test_what_is_no_trouble(load: Load) -> None:
    """A busy engine that keeps up is well used; old throttle counts are history."""
    assert trouble(load) == ""


def test_throttling_and_dropping_count_when_they_happen() -> None:
    """Counters that rise are trouble; counters that stand are not."""
    ladder = Ladder()
    for second in range(5):
        ladder.update(Load(throttled=second, temperature_c=80), second * SECOND)
    assert ladder.reason.startswith("the machine throttles itself at 80 °C")
    other = Ladder()
    for second in range(5):
        other.update(Load(dropped=second), second * SECOND)
    assert "the queue is full" in other.reason


@given(st.lists(st.builds(Load, queued_s=st.floats(0, 200), available_mb=st.floats(0, 2000)), max_size=300))
def test_it_moves_one_step_at_most_and_never_faster_than_allowed(loads: list[Load]) -> None:
    """Whatever the load does: one step at a time, three seconds apart, with a reason unless at the top."""
    ladder, last, changed = Ladder(), 0, -3
    for second, load in enumerate(loads):
        moved = ladder.update(load, second * SECOND)
        now = STEPS.index(ladder.step)
        assert moved == (now != last)
        assert abs(now - last) <= 1
        if moved:
            assert second - changed >= 3
            changed, last = second, now
        assert bool(ladder.reason) == bool(now)
