"""Drafts that pay stay on; those that do not go off, and come back when they would pay again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.decoding.drafts import Books, Draft
from edge_agent.decoding.speculate import Outcome
from edge_agent.decoding.token_map import TokenMap

DRAFT = Draft(kind="draft", tokens=(1, 2, 3, 4, 5, 6, 7))


def _outcome(accepted: int) -> Outcome:
    return Outcome(tokens=(1, 2, 3, 4, 5, 6, 7), ended=True, accepted=accepted, passes=1, avg_logprob=-0.1)


def _books() -> Books:
    books = Books()
    books.learn_plain(7, 100.0)  # 10 ms a token step
    return books


def test_a_draft_that_pays_stays_on() -> None:
    """Half the time of plain decoding: kept, with the saving in the books."""
    books = _books()
    for _ in range(30):
        assert books.ready("draft")
        books.learn(DRAFT, _outcome(7), 50.0)
    (entry,) = books.statistics()
    assert entry.on
    assert entry.acceptance == 1.0
    assert entry.tokens_per_pass == 7.0
    assert round(entry.saved_ms) == 30 * 50


def test_a_draft_that_costs_goes_off_and_comes_back() -> None:
    """Off below break-even after a few trials; probed one utterance in fifty; on again when it pays."""
    books = _books()
    for _ in range(8):
        books.learn(DRAFT, _outcome(0), 150.0)
    assert [books.ready("draft") for _ in range(50)] == [False] * 49 + [True]
    for _ in range(40):
        books.learn(DRAFT, _outcome(7), 30.0)
    assert books.ready("draft")


def test_the_price_of_the_guess_counts() -> None:
    """A right draft from a slow model does not pay."""
    books = _books()
    for _ in range(8):
        books.learn(Draft(kind="draft", tokens=DRAFT.tokens, made_ms=90.0), _outcome(7), 30.0)
    assert not books.ready("draft")


def test_kinds_are_booked_apart() -> None:
    """A bad draft model does not switch history off."""
    books = _books()
    for _ in range(8):
        books.learn(DRAFT, _outcome(0), 150.0)
    assert books.ready("history")


def test_the_map_continues_known_sentences() -> None:
    """From the first tokens to the end of the sentence."""
    known = TokenMap()
    known.learn((1, 2, 3, 4, 5, 6))
    known.learn((9, 2, 3, 7, 8))
    assert known.continuation((1, 2, 3, 4)) == (5, 6)
    assert known.continuation((9, 2, 3)) == (7, 8)
    assert known.continuation((50, 51)) == ()


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=20), st.integers(1, 50))
def test_the_map_is_bounded(sentences: list[list[int]], capacity: int) -> None:
    """Whatever is said, no more contexts than allowed, and continuations end."""
    known = TokenMap(capacity)
    for sentence in sentences:
        known.learn(sentence)
        assert len(known) <= capacity
        assert len(known.continuation(sentence[:3])) <= 40
