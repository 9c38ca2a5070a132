"""What is in doubt, and which way out of it is the cheapest."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.decoding import weighing
from edge_agent.decoding.steps import Abilities, Scored
from edge_agent.decoding.weighing import Doubt

ABILITIES = Abilities(
    mels=80,
    multilingual=True,
    languages=("en",),
    suppressed=frozenset({7}),
    suppressed_first=frozenset({1}),
    scores_end=True,
)
LENGTHS = st.integers(1, 60)


def _places(probabilities: list[float], tokens: list[int], end: float | None, tau: float = 0.5) -> list[int]:
    scored = Scored(probabilities=tuple(probabilities), end_probability=end)
    return [doubt.place for doubt in weighing.unproven(scored, tokens, 0, ABILITIES, tau)]


def test_above_one_half_is_proof() -> None:
    """A hair above is not: rounding may have put it there."""
    assert _places([0.9, 0.505, 0.4, 0.55], [2, 3, 4, 5], 0.9) == [1, 2]
    assert _places([0.9, 0.505, 0.4, 0.25], [2, 3, 4, 5], 0.9, tau=weighing.NEAR) == [3]


def test_the_end_is_doubted_where_nobody_judges_it() -> None:
    """It is place len(tokens)."""
    assert _places([0.9], [2], None) == [1]
    assert _places([0.9], [2], 0.3) == [1]


def test_what_decoding_never_writes_is_never_proven() -> None:
    """Signs anywhere, a blank at the start, the end of an empty text; however likely."""
    assert _places([0.99, 0.99, 0.99], [1, 1, 7], 0.99) == [0, 2]
    refuted = weighing.unconfirmed([0.9] * 4, [1, 1, 7], range(4), ABILITIES)
    assert [(doubt.place, doubt.margin) for doubt in refuted] == [(0, -math.inf), (2, -math.inf)]
    assert [doubt.place for doubt in weighing.unconfirmed([0.9], [], range(1), ABILITIES)] == [0]


def test_a_tie_is_what_rounding_may_decide() -> None:
    """Near zero on either side; what is clearly refuted is no tie."""
    found = weighing.unconfirmed([0.3, 0.02, -0.2, -0.9, 0.9], [2, 3, 4, 5], range(5), ABILITIES)
    assert [(doubt.place, doubt.is_tie) for doubt in found] == [(1, True), (2, True), (3, False)]


def test_a_token_that_speaks_against_the_draft_must_lead_by_more() -> None:
    """A lead of 0.3 nats is enough for what goes on like the draft, and behind the place where it parts."""
    assert not weighing.is_decided_by_rounding([0.3, 0.3, 0.9, 0.3], agreed=2)
    assert weighing.is_decided_by_rounding([0.3, 0.3, 0.3, 0.9], agreed=2)
    assert weighing.is_decided_by_rounding([0.3, 0.01], agreed=2)


def test_a_few_likely_doubts_are_worth_a_proof_and_a_wrong_start_is_not() -> None:
    """The pass costs less than settling them one by one, and more than nothing where the text is another."""
    likely = [Doubt(place=place, chance=0.45) for place in (3, 9, 14)]
    assert weighing.proof_pays(likely, 20)
    assert not weighing.proof_pays([Doubt(place=place, chance=0.001) for place in range(21)], 20)


@given(place=LENGTHS, length=LENGTHS)
def test_nothing_costs_more_than_plain_decoding(place: int, length: int) -> None:
    """Whatever is known, writing all of it is one of the ways."""
    assert weighing.finish_cost(place, length) <= weighing.plain_cost(length)
