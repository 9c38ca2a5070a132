"""Identifiers rise, and times print as the contract shows them."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import SystemClock, utc_text, uuid7


@given(st.lists(st.integers(min_value=0, max_value=2**47), min_size=2, max_size=50))
def test_ids_are_version_7_and_rise_even_when_the_clock_falls(times: list[int]) -> None:
    """A clock set back never makes an id smaller than one given before."""
    ids = [uuid7(time) for time in times]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    for text in ids:
        assert uuid.UUID(text).version == 7
        assert uuid.UUID(text).variant == uuid.RFC_4122


def test_times_print_with_milliseconds_and_z() -> None:
    """The form of the message contract."""
    assert utc_text(1_795_179_600_120) == "2026-11-20T13:00:00.120Z"


def test_the_kernel_is_asked_whether_the_clock_is_right() -> None:
    """The answer is a plain yes or no on any machine."""
    assert SystemClock().synced() in (True, False)
