"""A growing transcript: what was said to be stable stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.text.stabilise import Stabiliser, StabiliserConfig
from edge_agent.types import Hypothesis, Word


def heard(text: str, *words: tuple[str, float, float]) -> Hypothesis:
    """A hypothesis with words given as (text, end in seconds, confidence)."""
    return Hypothesis(
        text=text,
        words=tuple(
            Word(text=t, start_s=max(0.0, end - 0.2), end_s=end, confidence=p) for t, end, p in words
        ),
    )


ONCE = StabiliserConfig(sure=((1, 0.5),))


def test_a_word_is_stable_when_sure_and_past() -> None:
    """Sure words that ended 0.2 s ago are committed; the rest is the tail."""
    stabiliser = Stabiliser(ONCE)
    first = heard(
        "turn on the crane", ("turn", 0.3, 0.9), ("on", 0.5, 0.9), ("the", 0.75, 0.9), ("crane", 1.0, 0.9)
    )
    assert stabiliser.update(first, 0.9).stable == "turn on"
    after = stabiliser.update(first, 2.0)
    assert (after.stable, after.tail) == ("turn on the crane", "")


def test_an_unsure_word_holds_back_what_follows() -> None:
    """Committed text has no holes."""
    stabiliser = Stabiliser(ONCE)
    said = heard(
        "turn up the heat", ("turn", 0.3, 0.9), ("up", 0.5, 0.3), ("the", 0.7, 0.9), ("heat", 0.9, 0.9)
    )
    shown = stabiliser.update(said, 3.0)
    assert (shown.stable, shown.tail) == ("turn", " up the heat")


def test_a_sure_word_is_looked_at_twice() -> None:
    """One look proves little: the next one may hear another word."""
    stabiliser = Stabiliser(StabiliserConfig())
    assert stabiliser.update(heard("play", ("play", 0.5, 0.95)), 1.0).stable == ""
    assert (
        stabiliser.update(heard("play back", ("play", 0.5, 0.95), ("back", 0.9, 0.9)), 1.5).stable == "play"
    )


def test_a_word_that_stands_for_long_needs_less() -> None:
    """0.7 in the third look, 0.6 in the fifth; a look that heard something else starts the count anew."""
    stabiliser = Stabiliser(StabiliserConfig())
    looks = [("and", 0.65), ("an", 0.65), *[("and", 0.65)] * 4, ("and", 0.65)]
    told = [stabiliser.update(heard(text, (text, 0.3, p)), 1.0).stable for text, p in looks]
    assert told == ["", "", "", "", "", "", "and"]


def test_characters_need_the_surest_step() -> None:
    """What sounds alike in Chinese stays in doubt for longer."""
    stabiliser = Stabiliser(StabiliserConfig())
    for _ in range(8):
        shown = stabiliser.update(heard("他在", ("他", 0.3, 0.7), ("在", 0.5, 0.9)), 2.0)
    assert shown.stable == ""


def test_the_sign_behind_the_last_word_waits() -> None:
    """A full stop in the middle of a sentence is only the end of the sound."""
    stabiliser = Stabiliser(ONCE)
    shown = stabiliser.update(
        heard("There was one.", ("There", 0.3, 1), ("was", 0.5, 1), ("one.", 0.8, 1)), 2
    )
    assert (shown.stable, shown.tail) == ("There was one", ".")
    more = (("There", 0.3, 1), ("was", 0.5, 1), ("one", 0.8, 1), ("way", 1.4, 1))
    assert stabiliser.update(heard("There was one way", *more), 2.5).stable == "There was one way"


def test_words_that_may_be_cut_off_stay_open() -> None:
    """Continuous talk is cut in its last seconds: what is behind the cut belongs to the next utterance."""
    said = heard("so it goes", ("so", 20.0, 1), ("it", 21.9, 1), ("goes", 22.4, 1))
    stabiliser = Stabiliser(StabiliserConfig(sure=((1, 0.5),), open_after_s=22.0))
    assert stabiliser.update(said, 25.0).stable == "so it"


def test_agreement_commits_what_two_in_a_row_share() -> None:
    """Without word times the common beginning of two hypotheses is committed."""
    stabiliser = Stabiliser(StabiliserConfig(rule="agreement"))
    assert stabiliser.update(heard("Turn on"), 1.0).stable == ""
    assert stabiliser.update(heard("Turn on the train"), 1.5).stable == "Turn on"
    shown = stabiliser.update(heard("Turn on the crane now"), 2.0)
    assert (shown.stable, shown.tail) == ("Turn on the", " crane now")


def test_chinese_is_committed_by_character() -> None:
    """No spaces: each character is a unit, its punctuation with it."""
    stabiliser = Stabiliser(StabiliserConfig(rule="agreement"))
    stabiliser.update(heard("今天天氣"), 1.0)
    shown = stabiliser.update(heard("今天天汽很好，是"), 1.5)
    assert (shown.stable, shown.tail) == ("今天天", "汽很好，是")


def test_a_change_of_mind_never_takes_back() -> None:
    """When the model contradicts committed words, they stay and the tail follows as many units."""
    stabiliser = Stabiliser(StabiliserConfig(rule="agreement"))
    stabiliser.update(heard("recognise speech"), 1.0)
    stabiliser.update(heard("recognise speech"), 1.5)
    shown = stabiliser.update(heard("wreck a nice beach"), 2.0)
    assert (shown.stable, shown.tail) == ("recognise speech", " nice beach")


def test_a_new_comma_or_capital_is_no_contradiction() -> None:
    """Punctuation and case may change behind the words already shown."""
    stabiliser = Stabiliser(StabiliserConfig(rule="agreement"))
    stabiliser.update(heard("yes we can"), 1.0)
    stabiliser.update(heard("yes we can"), 1.5)
    assert stabiliser.update(heard("Yes, we can do it"), 2.0).text == "yes we can do it"


TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "你", "好", ",", "。", "no", "No."]), max_size=8).map(" ".join),
    max_size=12,
)


@pytest.mark.parametrize("rule", ["alignment", "agreement"])
@given(texts=TEXTS, confidences=st.lists(st.floats(0, 1), min_size=8, max_size=8))
def test_stable_only_grows(rule: str, texts: list[str], confidences: list[float]) -> None:
    """Whatever the engine says next, what was stable stays at the front."""
    stabiliser = Stabiliser(StabiliserConfig(rule=rule))
    before = ""
    for step, text in enumerate(texts):
        words = [(word, 0.2 * place, confidences[place % 8]) for place, word in enumerate(text.split())]
        shown = stabiliser.update(heard(text, *words), 0.5 * step)
        assert shown.stable.startswith(before)
        assert shown.text == shown.stable + shown.tail
        before = shown.stable
