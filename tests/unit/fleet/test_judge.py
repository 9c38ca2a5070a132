"""When a candidate may serve: golden recordings first, then live speech."""

from __future__ import annotations

import pytest

from edge_agent.fleet.bundle import Expect
from edge_agent.fleet.judge import (
    LOST_BROKER_S,
    STEADY_S,
    Contact,
    Link,
    Live,
    Measured,
    Promise,
    Verdict,
    Watch,
    rehearsal,
    trial,
)

PROMISE = Promise(rtf_max=0.4, ram_max_mb=500)
BEFORE = Measured(words=0.95, rtf=0.1, peak_mb=200)
NOTHING = Expect()


def test_an_equal_model_may_be_tried() -> None:
    """A little slower and larger is no regression."""
    assert rehearsal(Measured(words=0.9, rtf=0.15, peak_mb=260), BEFORE, PROMISE, NOTHING) == ""


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (Measured(words=0.1, rtf=0.1, peak_mb=200, heard="嗯"), "10% of the words"),
        (Measured(words=0.75, rtf=0.1, peak_mb=200), "95% with the present"),
        (Measured(words=0.95, rtf=0.3, peak_mb=200), "0.30 s per second"),
        (Measured(words=0.95, rtf=0.1, peak_mb=400), "400 MB"),
    ],
    ids=["wrong language", "fewer words", "three times slower", "twice the memory"],
)
def test_a_valid_but_worse_model_is_not_tried(now: Measured, why: str) -> None:
    """Each regression by its name, with both figures."""
    assert why in rehearsal(now, BEFORE, PROMISE, NOTHING)


def test_a_heavier_model_says_so_in_its_signed_document() -> None:
    """Then it may be slower than before, within what the profile promises."""
    heavy = Measured(words=0.97, rtf=0.35, peak_mb=450)
    said = Expect(rtf_max=0.38, ram_max_mb=480)
    assert rehearsal(heavy, BEFORE, PROMISE, said) == ""
    assert rehearsal(heavy, BEFORE, Promise(rtf_max=0.2, ram_max_mb=500), said)


def watch(**fields: object) -> Watch:
    usual = {"elapsed_s": 100.0, "trial_s": 600.0, "broker_lost_s": 0.0, "broker_says": "", "trouble": ""}
    quiet = {"now": Live(), "before": Live(rtfs=(0.1,) * 10, finals=20, rejected=1)}
    return Watch(**{**usual, **quiet, **fields})


def judged(**fields: object) -> Verdict:
    return trial(watch(**fields), NOTHING, PROMISE)


def test_a_trial_takes_its_time_and_some_speech() -> None:
    """Neither minutes alone nor words alone are enough; a silent room is not waited for for ever."""
    spoke = Live(rtfs=(0.1,) * 3, finals=3)
    assert judged(now=spoke) == Verdict()
    assert judged(elapsed_s=600.0) == Verdict()
    assert judged(elapsed_s=600.0, now=spoke).passed
    assert judged(elapsed_s=3600.0).passed


@pytest.mark.parametrize(
    ("fields", "why", "final"),
    [
        ({"trouble": "recognition failed: boom"}, "boom", False),
        ({"now": Live(errors=2)}, "2 decodes failed", False),
        ({"broker_lost_s": 41.0}, "broker was away", False),
        ({"now": Live(rtfs=(0.3,) * 6, finals=6)}, "0.30 s per second", True),
        ({"now": Live(finals=2, rejected=6)}, "75% of what was said", True),
    ],
    ids=["engine replaced", "decodes fail", "lost broker", "slower", "rejects"],
)
def test_what_ends_a_trial_early(fields: dict, why: str, final: bool) -> None:
    """At once, not at its end; what might be chance may be tried again."""
    verdict = judged(**fields)
    assert why in verdict.why
    assert verdict.final is final


def lost_after(links: list[Link]) -> int | None:
    """The second at which a trial would end, when the link is as in the list, one look a second."""
    contact = Contact(0.0, Link(connected=True))
    for second, link in enumerate(links, 1):
        if contact.lost_s(float(second), link) > LOST_BROKER_S:
            return second
    return None


def test_a_lost_broker_is_noticed_whichever_way_it_went() -> None:
    """Gone, or there and silent: the same second, counted from its last word."""
    gone = [Link(connected=False)] * 100
    silent = [Link(connected=True, quiet_s=float(second)) for second in range(1, 101)]
    # paho gives a silent connection up, and the broker's socket still takes a new one.
    mute = [*silent[:30], *[Link(connected=False, connects=1)] * 70]
    assert {lost_after(gone), lost_after(silent), lost_after(mute)} == {int(LOST_BROKER_S) + 1}


def test_a_link_that_is_quiet_for_its_keepalive_is_well() -> None:
    """Nobody speaks: a ping each half minute is all there is."""
    idle = [Link(connected=True, quiet_s=float(second % 29)) for second in range(1000)]
    assert lost_after(idle) is None


def test_a_broker_that_throws_us_out_each_time_is_lost() -> None:
    """It lets us in every four seconds, and never for long."""
    thrown_out = [Link(connected=second % 4 < 3, connects=1 + (second + 4) // 4) for second in range(100)]
    assert lost_after(thrown_out) is not None


def test_a_broker_that_comes_back_in_time_ends_no_trial() -> None:
    """Half a minute away, then steady; ten times."""
    once = [Link(connected=False)] * 30
    for number in range(2, 12):
        once += [Link(connected=True, connects=number)] * (int(STEADY_S) + 3)
        once += [Link(connected=False, connects=number)] * 30
    assert lost_after(once) is None
