"""A draft, right or wrong, never changes the words; only the work."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.decoding.recycle import recycle
from edge_agent.decoding.speculate import verify
from edge_agent.decoding.steps import Abilities
from edge_agent.engine.scripted_steps import ScriptedSteps, Sound

TOKENS = st.lists(st.integers(1, 13), max_size=30).map(tuple)
PLACES = st.frozensets(st.integers(0, 30), max_size=6)


def _steps(
    *, fast: bool = True, ends: bool = True, proves: bool = False, suppressed: frozenset[int] = frozenset()
) -> ScriptedSteps:
    abilities = Abilities(
        mels=80,
        multilingual=True,
        languages=("en",),
        suppressed=suppressed,
        suppressed_first=frozenset({0}),
        scores_end=ends,
        fast_prefix=fast,
        proves=proves,
    )
    return ScriptedSteps(abilities, lambda mel, positions: Sound(tokens=()))


@given(
    truth=TOKENS,
    draft=TOKENS,
    weak=PLACES,
    ties=PLACES,
    fast=st.booleans(),
    ends=st.booleans(),
    proves=st.booleans(),
    known=st.sampled_from([None, -0.1]),
)
def test_the_result_is_greedys(
    truth: tuple[int, ...],
    draft: tuple[int, ...],
    weak: frozenset[int],
    ties: frozenset[int],
    fast: bool,
    ends: bool,
    proves: bool,
    known: float | None,
) -> None:
    """Whatever the draft, and whichever way rounding goes, tokens and end are plain greedy decoding's."""
    steps = _steps(fast=fast, ends=ends, proves=proves)
    sound = Sound(tokens=truth, weak=weak, ties=ties)
    plain = steps.generate(sound, [0], max_new=60)
    found = verify(steps, sound, [0], draft, frames=100, max_new=60, avg_logprob=known)
    assert (found.tokens, found.ended) == (plain.tokens, plain.ended)


@given(truth=TOKENS.filter(bool), ties=PLACES, proves=st.booleans())
def test_rounding_never_changes_a_right_draft(
    truth: tuple[int, ...], ties: frozenset[int], proves: bool
) -> None:
    """Greedy's own text as draft comes out as it went in."""
    steps = _steps(proves=proves)
    sound = Sound(tokens=truth, ties=ties)
    assert verify(steps, sound, [0], truth, frames=100).tokens == truth


@given(truth=TOKENS, edits=st.lists(st.tuples(st.integers(0, 29), st.integers(1, 12)), max_size=3))
def test_a_slightly_wrong_draft_gives_greedys_words(
    truth: tuple[int, ...], edits: list[tuple[int, int]]
) -> None:
    """Substituted tokens are found, corrected, and the rest of the draft is used again."""
    draft = list(truth)
    for place, token in edits:
        if place < len(draft):
            draft[place] = token
    steps = _steps()
    sound = Sound(tokens=truth)
    assert verify(steps, sound, [0], draft, frames=100).tokens == truth


def test_doubts_of_a_right_draft_cost_one_proof() -> None:
    """However many tokens are below one half, one pass of the sharpened decoder proves them all."""
    steps = _steps(proves=True)
    sound = Sound(tokens=tuple(range(1, 20)), weak=frozenset({2, 5, 9, 19}))
    found = verify(steps, sound, [0], range(1, 20), frames=100)
    assert steps.calls == ["score", "prove"]
    assert (found.accepted, found.passes, found.ended) == (19, 2, True)


def test_a_hopeless_draft_is_not_worth_a_proof() -> None:
    """Another sentence's words are seen at once; nothing is spent on proving them."""
    steps = _steps(proves=True)
    found = verify(steps, Sound(tokens=(1, 2, 3, 4), flat=False), [0], (9, 9, 9, 9), frames=100)
    assert "prove" not in steps.calls
    assert found.tokens == (1, 2, 3, 4)


def test_a_right_draft_costs_one_pass() -> None:
    """Nothing is generated when every token proves itself."""
    steps = _steps()
    found = verify(steps, Sound(tokens=tuple(range(1, 20))), [0], range(1, 20), frames=100)
    assert steps.calls == ["score"]
    assert (found.accepted, found.passes, found.ended) == (19, 1, True)
    assert found.scored is not None


def test_a_doubtful_token_is_settled_without_a_second_pass() -> None:
    """A confirmed token keeps the scores behind it valid."""
    steps = _steps()
    found = verify(
        steps, Sound(tokens=tuple(range(1, 20)), weak=frozenset({7})), [0], range(1, 20), frames=100
    )
    assert steps.calls == ["score", "generate"]
    assert found.tokens == tuple(range(1, 20))


def test_a_wrong_token_keeps_the_rest_of_the_draft() -> None:
    """After the correction the draft's remainder is scored again, not generated."""
    truth = tuple(range(1, 30))
    draft = (*truth[:10], 99, *truth[11:])
    steps = _steps()
    found = verify(steps, Sound(tokens=truth), [0], draft, frames=100)
    assert found.tokens == truth
    assert steps.calls == ["score", "generate", "score"]
    assert found.accepted > 20


def test_another_sentence_is_given_up_at_once() -> None:
    """One scoring pass, then plain greedy: that bounds the loss."""
    steps = _steps()
    verify(steps, Sound(tokens=tuple(range(1, 20))), [0], range(40, 60), frames=100)
    assert steps.calls == ["score", "generate"]


def test_suppressed_tokens_are_never_accepted() -> None:
    """A draft with a token that plain decoding may not write is settled there."""
    truth = (1, 2, 3, 4, 5, 6, 7, 8, 9)
    steps = _steps(suppressed=frozenset({4}))
    verify(steps, Sound(tokens=truth), [0], truth, frames=100)
    assert "generate" in steps.calls


def test_an_empty_draft_is_plain_decoding() -> None:
    """No tokens to check; the end of an empty text is settled by the engine."""
    steps = _steps()
    assert verify(steps, Sound(tokens=(1, 2)), [0], (), frames=100).tokens == (1, 2)


def test_recycling_finds_the_place_after_insertions_and_deletions() -> None:
    """The window reaches two tokens back and eight ahead."""
    draft = [1, 2, 3, 4, 5, 6, 7, 8]
    assert recycle([9, 4, 5], draft, 2) == [6, 7, 8]
    assert recycle([6, 7], draft, 2) == [8]
    assert recycle([20, 21], draft, 2) == []
