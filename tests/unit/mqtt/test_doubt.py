"""Which acknowledged rows are sent again when a connection breaks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.mqtt.doubt import DOUBT_S, Doubt


def deliver(doubt: Doubt, seq: int, now_s: float) -> None:
    """One row sent and acknowledged before the next."""
    doubt.sent(seq)
    doubt.answered(seq)
    doubt.accepted(seq, now_s)


def test_the_last_row_is_in_doubt_for_a_moment_and_the_ones_before_it_are_not() -> None:
    """Row 2 was sent after the answer to row 1: who answers it has saved row 1."""
    doubt = Doubt(20)
    deliver(doubt, 1, 10.0)
    deliver(doubt, 2, 10.01)
    assert doubt.lost(10.02) == [2]
    assert doubt.lost(10.02) == []


def test_an_old_row_is_in_no_doubt() -> None:
    """A broker that saves at its leisure has had its time."""
    doubt = Doubt(20)
    deliver(doubt, 1, 10.0)
    assert doubt.lost(10.0 + DOUBT_S) == []


def test_rows_of_one_burst_prove_nothing_of_each_other() -> None:
    """All were on their way before the first answer came: all are in doubt."""
    doubt = Doubt(20)
    for seq in (1, 2, 3):
        doubt.sent(seq)
    for seq in (1, 2, 3):
        doubt.answered(seq)
        doubt.accepted(seq, 10.0)
    assert doubt.lost(10.1) == [1, 2, 3]


@given(st.lists(st.sampled_from(["send", "read", "hear"]), max_size=200))
def test_what_a_broker_that_saves_between_messages_can_lose_is_always_in_doubt(acts: list[str]) -> None:
    """The broker here saves what it acknowledged before it reads the next; answers take their time."""
    doubt = Doubt(1000)
    sent: list[int] = []
    answered: list[int] = []
    heard: list[int] = []
    for number, act in enumerate(acts):
        if act == "send":
            doubt.sent(number)
            sent.append(number)
        elif act == "read" and len(answered) < len(sent):
            answered.append(sent[len(answered)])
        elif act == "hear" and len(heard) < len(answered):
            mid = answered[len(heard)]
            heard.append(mid)
            doubt.answered(mid)
            doubt.accepted(mid, 0.0)
    unsaved = set(answered[-1:])
    assert unsaved & set(heard) <= set(doubt.lost(0.0))
