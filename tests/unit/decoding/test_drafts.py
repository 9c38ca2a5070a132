"""Drafts that pay stay on; those that do not go off, and come back when they would pay again."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.decoding.drafts import Books, Draft
from edge_agent.decoding.speculate import Outcome
from edge_agent.decoding.steps import Scored
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


def test_what_health_tells_of_a_kind() -> None:
    """Acceptance, tokens per call and the milliseconds saved, by name."""
    books = _books()
    books.learn(DRAFT, _outcome(4), 60.0)
    assert msgspec.to_builtins(books.statistics()) == (
        {
            "kind": "draft",
            "on": True,
            "utterances": 1,
            "drafted_tokens": 7,
            "accepted_tokens": 4,
            "passes": 1,
            "acceptance": 0.571,
            "tokens_per_pass": 4.0,
            "saved_ms": 40.0,
        },
    )


def test_break_even_does_not_bring_a_kind_back() -> None:
    """Off below nothing saved, on again only well above: it does not flap around break-even."""
    books = _books()
    for _ in range(8):
        books.learn(DRAFT, _outcome(0), 105.0)
    assert not books.ready("draft")
    for _ in range(60):
        books.learn(DRAFT, _outcome(3), 97.0)
    assert not books.statistics()[0].on
    for _ in range(60):
        books.learn(DRAFT, _outcome(3), 80.0)
    assert books.statistics()[0].on


def test_a_pass_that_gives_word_times_is_no_loss() -> None:
    """Where they are wanted, plain decoding would have had to make that pass as well."""
    seen = msgspec.structs.replace(_outcome(7), scored=Scored(probabilities=(0.9,) * 7))
    alone, wanted = _books(), _books()
    alone.learn(DRAFT, seen, 110.0)
    wanted.learn(DRAFT, seen, 110.0, words=True)
    assert alone.statistics()[0].saved_ms < 0 < wanted.statistics()[0].saved_ms


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
