"""The context frontier's table and its choice on one half of the clips, on made-up results."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.decoding import frontier_report as report
from tests.benchmarks.decoding.frontier_policies import candidates, grid, rule
from tests.benchmarks.decoding.frontier_report import Decoded
from tests.corpus import Clip

pytest.importorskip("whisper_normalizer")

NAMES = {"peer", *(policy.name for policy in [*grid(), *candidates()])}
FAST, CAREFUL = "short -0.7 log-prob", "padded -0.5 log-prob"


def clip(number: int, speaker: str, seconds: float = 3.0) -> Clip:
    name = f"{speaker}-{number}"
    fields: dict[str, object] = {"speaker": speaker}
    return Clip(name, Path(name), "read", "en", seconds, "turn on the crane", "verbatim", fields)


def results(clips: list[Clip], wrong: dict[str, set[str]]) -> report.Found:
    """All are right but for the clips named wrong; the peer takes 700 ms, the fast rule 100, others 200."""
    found = {}
    for one in clips:
        found[one.id] = {
            name: Decoded(
                text="turn on the train" if one.id in wrong.get(name, ()) else "turn on the crane",
                cpu_ms=700.0 if name == "peer" else 100.0 if name == FAST else 200.0,
                retried=False,
            )
            for name in NAMES
        }
    return found


CLIPS = [clip(number, speaker) for speaker in "abcdef" for number in range(4)]


def test_halves_share_no_speaker_and_are_about_equal() -> None:
    """Else a rule fitted to a voice would look general."""
    one, two = report.split(CLIPS)
    assert {c.fields["speaker"] for c in one} & {c.fields["speaker"] for c in two} == set()
    assert len(one) == len(two) == len(CLIPS) // 2


def test_of_one_speaker_the_clips_are_shared_out() -> None:
    """There is no other way."""
    one, two = report.split([clip(number, "a") for number in range(10)])
    assert len(one) == len(two) == 5


def test_the_fastest_rule_that_loses_no_words_is_chosen() -> None:
    """And a faster one that loses some is not."""
    assert report.choose(CLIPS, results(CLIPS, {})).name == FAST
    lossy = results(CLIPS, {FAST: {CLIPS[0].id, CLIPS[5].id}})
    assert report.choose(CLIPS, lossy).name != FAST


def test_the_other_half_shows_what_the_choice_costs_there() -> None:
    """Errors the choosing half could not see."""
    one, two = report.split(CLIPS)
    rows = report.held_out(CLIPS, results(CLIPS, {FAST: {c.id for c in two}}))
    assert rows[0][2] == FAST
    assert rows[0][5] == f"{len(two)}, 0 of {4 * len(two)}"
    assert rows[0][6] == "+25.00"
    assert rows[1][2] != FAST
    assert len(one) == 12


def test_the_section_names_every_policy() -> None:
    """View, guard and beam; the peer first; long clips apart."""
    clips = [*CLIPS, clip(9, "a", 20.0)]
    text = report.body(clips, results(clips, {}))
    assert text.count("| peer | 1 |") == 2
    for policy in grid():
        assert policy.view in text
    assert "1 clips above 15 s" in text


def test_rules_ask_what_they_are_named_after() -> None:
    """A guard of the grid is in the rule it stands for."""
    assert rule("short", "none").retries == ()
    assert rule("short", "broken").min_logprob < -10
    assert rule("padded", "+ least word").min_token > 0
    assert rule("padded", "+ coverage").max_unheard_s > 0
