"""Only progress feeds a heartbeat."""

from __future__ import annotations

from edge_agent.supervise import Heartbeats

SECOND = 1_000_000_000


def test_a_counter_that_stands_still_is_hung_after_its_limit() -> None:
    """A thread that is observed but does not progress is named once its limit has passed."""
    hearts = Heartbeats({"ears": 2, "scribe": 10})
    for second in range(6):
        hearts.observe("ears", 7, second * SECOND)
        hearts.observe("scribe", second, second * SECOND)
    assert hearts.hung(2 * SECOND) == ()
    assert hearts.hung(5 * SECOND) == ("ears",)


def test_progress_revives_it() -> None:
    """One step of progress clears the finding."""
    hearts = Heartbeats({"ears": 2})
    hearts.observe("ears", 1, 0)
    assert hearts.hung(3 * SECOND) == ("ears",)
    hearts.observe("ears", 2, 3 * SECOND)
    assert hearts.hung(4 * SECOND) == ()
