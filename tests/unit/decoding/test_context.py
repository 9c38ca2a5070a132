"""How much context: always enough, never a length that an engine misreads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.decoding import context
from edge_agent.decoding.context import FULL, Rule, View, Window

VIEWS = st.sampled_from(["short", "padded", "long", "full"])
RULES = st.builds(
    Rule,
    tail_s=st.floats(0.0, 3.0),
    window_s=st.floats(5.0, 30.0),
    margin_s=st.floats(0.0, 3.0),
    bucket_s=st.sampled_from([0.02, 0.1, 0.5, 1.0]),
)


@given(VIEWS, st.integers(1, 3000), RULES, st.sampled_from([80, 128]))
def test_any_sound_fits(view: View, frames: int, rule: Rule, mels: int) -> None:
    """Even, at most 30 s, not the trap lengths, never shorter than the sound."""
    window = context.window(view, frames, rule, mels)
    assert window.frames % 2 == 0
    assert frames <= window.frames <= 3000
    assert window.frames != 2 * mels
    assert window.positions in (0, *range(250, 1501, 250))
    assert window.positions != mels


@given(st.integers(1, 3000), RULES)
def test_the_long_view_lasts_30_s(frames: int, rule: Rule) -> None:
    """Whatever the sound."""
    assert context.window("long", frames, rule, 80).seconds == 30.0
    assert context.window("full", frames, rule, 80) == FULL


@pytest.mark.parametrize("mels", [80, 128])
def test_the_trap_is_stepped_over(mels: int) -> None:
    """An encoder output of as many positions as there are mel bands would be read as features."""
    assert context.usable(2 * mels, mels) == 2 * mels + 2
    assert context.usable(2 * mels - 1, mels) == 2 * mels + 2


def test_a_short_command_is_a_short_window() -> None:
    """Two seconds of sound: three encoded, ten seen."""
    rule = Rule(tail_s=1.0, window_s=10.0)
    assert context.window("short", 200, rule, 80) == Window(frames=300, positions=500)


def test_a_beginning_is_padded_less() -> None:
    """It is heard again half a second later, and the whole of it in the end."""
    rule = Rule(padded_s=15.0, padded_tail_s=2.0, growing_s=6.0)
    assert context.window("padded", 80, rule, 80).seconds == 15.0
    assert context.window("padded", 80, rule, 80, growing=True).seconds == 6.0
    assert context.window("padded", 500, rule, 80, growing=True).seconds == 7.0


def test_the_shipped_table_is_sound() -> None:
    """Every rule converts, and an unknown language gets the default."""
    table = context.shipped_table()
    assert table.rule("xx") == table.default
    assert table.rule("en").context == "short"
