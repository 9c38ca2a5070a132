"""Waits between tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.mqtt.backoff import CAP_S, FLOOR_S, HURRIED_CAP_S, PATIENT_REFUSALS, Holds, Retry, delay_s


@given(failures=st.integers(1, 10_000), refused=st.booleans(), jitter=st.floats(0, 1))
def test_a_wait_is_never_nothing_and_never_more_than_a_minute(
    failures: int, refused: bool, jitter: float
) -> None:
    """No busy loop, and back within a minute after a repair."""
    assert FLOOR_S <= delay_s(failures, refused=refused, jitter=jitter) <= CAP_S


def test_unreachable_doubles_its_bound_with_full_jitter() -> None:
    """Anywhere up to 1, 2, 4 ... 60 seconds, so that a fleet does not return in step."""
    assert [delay_s(n, refused=False, jitter=1.0) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert delay_s(7, refused=False, jitter=0.5) == 30


@given(failures=st.integers(PATIENT_REFUSALS, 10_000), jitter=st.floats(0, 1))
def test_a_refusal_is_tried_seldom_yet_soon_after_it_was_mended(failures: int, jitter: float) -> None:
    """After the fifth: about one try a minute, and never more than a minute after the repair."""
    assert 55 < delay_s(failures, refused=True, jitter=jitter) < 60


def test_a_hurried_try_comes_within_seconds_whatever_was_planned() -> None:
    """A wait of half a minute is cut short; the next ones are short too; afterwards all is as before."""
    retry = Retry()
    for _ in range(5):
        retry.failed(100.0, refused=False, jitter=1.0)
    assert retry.at_s(100.0) == 116.0
    retry.hurry(160.0)
    assert retry.at_s(101.0) == 100.0 + HURRIED_CAP_S
    assert retry.failed(104.0, refused=False, jitter=1.0) == HURRIED_CAP_S
    retry.hurry(0.0)
    assert retry.failed(200.0, refused=False, jitter=1.0) == CAP_S


def test_a_broker_that_says_no_is_not_hurried() -> None:
    """A login that is refused stays refused, and is not asked more often."""
    retry = Retry()
    retry.hurry(1000.0)
    for _ in range(PATIENT_REFUSALS):
        retry.failed(100.0, refused=True, jitter=1.0)
    assert retry.at_s(101.0) > 155.0


def test_a_refused_topic_waits_alone_and_opens_again() -> None:
    """A window refused at once counts as one refusal; acceptance ends it."""
    holds = Holds()
    assert holds.refused("final", 100.0, jitter=1.0) == 1.0
    assert holds.refused("final", 100.0, jitter=1.0) is None
    assert not holds.open("final", 100.5)
    assert holds.open("gap", 100.5)
    assert holds.open("final", 101.0)
    assert holds.refused("final", 101.0, jitter=1.0) == 2.0
    assert holds.accepted("final")
    assert not holds.accepted("final")
    assert not holds
    assert holds.open("final", 101.0)
