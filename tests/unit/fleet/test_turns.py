"""Whose turn it is."""

from __future__ import annotations

from edge_agent.fleet.turns import Turns


def test_one_that_asks_often_does_not_hurry_another() -> None:
    """A bundle that cannot be had is asked for each 20 s; a try that failed waits its ten minutes."""
    turns = Turns(("model", "profile"))
    assert turns.due(100.0) == ("model", "profile")
    turns.had("model", 100.0, 600.0)
    turns.had("profile", 100.0, 20.0)
    assert turns.rest_s(100.0) == 20.0
    for now_s in (120.0, 140.0, 160.0):
        assert turns.due(now_s) == ("profile",)
        turns.had("profile", now_s, 20.0)
    assert turns.due(699.0) == ("profile",)
    assert turns.due(700.0) == ("model", "profile")


def test_a_changed_wish_is_looked_at_at_once() -> None:
    """That one, and no other."""
    turns = Turns(("model", "profile"))
    for kind in ("model", "profile"):
        turns.had(kind, 100.0, 600.0)
    turns.at_once("profile")
    assert (turns.due(101.0), turns.rest_s(101.0)) == (("profile",), 0.0)
