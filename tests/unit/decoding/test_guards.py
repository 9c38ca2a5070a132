"""The signs of invented text, and what people really say."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.decoding import guards
from edge_agent.decoding.phrases import is_stock_phrase
from edge_agent.types import Word

GOOD = guards.Sample(
    text="Turn on the crane.",
    tokens=(1, 2, 3, 4, 5),
    ended=True,
    avg_logprob=-0.2,
    no_speech_prob=0.01,
    speech_s=1.5,
    language="en",
)


def _with(**changes: object) -> guards.Sample:
    return msgspec.structs.replace(GOOD, **changes)


def test_good_text_is_not_suspected() -> None:
    """No retry, no rejection."""
    assert guards.suspicion(GOOD, min_logprob=-0.5) == ""
    assert guards.rejection(GOOD) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ended": False}, "no_end"),
        ({"text": "come here " * 20}, "compression"),
        ({"tokens": (1, 2, 3, 4, 1, 2, 3, 4)}, "loop"),
        ({"tokens": (1, 2, 9, 1, 2, 9, 1, 2, 9)}, "loop"),
        ({"tokens": (7, 7, 7, 7, 7)}, "loop"),
        ({"tokens": (1, 2, 3, 4, 5, 6, 1, 2)}, "tail_is_head"),
        ({"text": "...", "tokens": (1,)}, "empty"),
        ({"avg_logprob": -0.9}, "low_logprob"),
    ],
)
def test_each_sign_is_named(changes: dict[str, object], reason: str) -> None:
    """The name is what statistics count by."""
    assert guards.suspicion(_with(**changes), min_logprob=-0.5) == reason


def test_signs_of_the_scoring_pass_are_asked_only_where_a_rule_says_so() -> None:
    """A hardly likely word, and speech without a word."""
    unsure, hole = _with(least_word=0.02), _with(unheard_s=1.5)
    assert guards.suspicion(unsure, min_logprob=-0.5) == ""
    assert guards.suspicion(unsure, min_logprob=-0.5, min_token=0.1) == "low_token"
    assert guards.suspicion(hole, min_logprob=-0.5) == ""
    assert guards.suspicion(hole, min_logprob=-0.5, max_unheard_s=0.6) == "unheard"
    assert guards.suspicion(_with(unheard_s=0.4), min_logprob=-0.5, max_unheard_s=0.6) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"no_speech_prob": 0.8, "avg_logprob": -1.2}, "no_speech"),
        ({"text": "BAH!", "no_speech_prob": 0.74, "avg_logprob": -0.82, "least_word": 0.12}, "no_word"),
        ({"text": "I'm going to cut the onion.", "no_speech_prob": 0.49, "avg_logprob": -1.6}, "made_up"),
        ({"text": "I", "tokens": (286,), "no_speech_prob": 0.49, "avg_logprob": -2.6}, "made_up"),
        ({"text": "I am a bird. " * 30}, "compression"),
        ({"text": "Thank you.", "no_speech_prob": 0.7}, "stock_phrase"),
        ({"text": "Subtitles by the Amara.org community", "avg_logprob": -0.8}, "stock_phrase"),
        ({"text": "謝謝觀看", "language": "zh", "no_speech_prob": 0.5}, "stock_phrase"),
    ],
)
def test_what_must_not_be_published(changes: dict[str, object], reason: str) -> None:
    """Silence in Whisper's own judgement, endless repetition, subtitle credits."""
    assert guards.rejection(_with(**changes)) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "Thank you."},
        {"text": "No, no, no, no!", "tokens": (5, 6, 5, 6, 5, 6, 5)},
        {"text": "one one one one one one", "tokens": (3,) * 6},
        {"text": "mumble", "avg_logprob": -1.5},
        {"text": "quiet words", "no_speech_prob": 0.9},
        {"text": "seven", "tokens": (3407,), "no_speech_prob": 0.58, "avg_logprob": -2.1, "least_word": 0.04},
        {"text": "nine", "tokens": (4949,), "no_speech_prob": 0.85, "avg_logprob": -0.8, "least_word": 0.36},
    ],
)
def test_what_people_say_is_published(changes: dict[str, object]) -> None:
    """One sign alone is not enough to withhold words."""
    assert guards.rejection(_with(**changes)) == ""


@given(
    st.lists(st.integers(0, 5), max_size=12),
    st.integers(2, 5),
    st.lists(st.integers(10, 19), min_size=4, max_size=9),
)
def test_a_repeated_sentence_is_a_loop(before: list[int], times: int, sentence: list[int]) -> None:
    """Wherever it begins."""
    assert guards.has_loop([*before, *sentence * times])


@given(st.lists(st.integers(), unique=True, max_size=40))
def test_different_tokens_are_no_loop(tokens: list[int]) -> None:
    """A text without repetition is never suspected of one."""
    assert not guards.has_loop(tokens)
    assert not guards.tail_is_head(tokens)


@given(st.floats(0, 30), st.sampled_from(["en", "de", "zh", "xx"]))
def test_the_token_cap_leaves_room(seconds: float, language: str) -> None:
    """At least a dozen, at most what the decoder can write."""
    assert 12 <= guards.token_cap(seconds, language) <= 224


def test_words_that_leave_most_of_the_sound_unexplained_are_noticed() -> None:
    """Two short words in ten seconds of speech."""
    words = (
        Word(text="turn", start_s=0.2, end_s=0.5, confidence=0.9),
        Word(text="on", start_s=0.5, end_s=0.8, confidence=0.9),
    )
    assert guards.has_gap(words, 10.0)
    assert not guards.has_gap(words, 1.5)
    assert not guards.has_gap((), 10.0)


def test_stock_phrases_know_their_language() -> None:
    """English ones count everywhere, others only in their own language."""
    assert is_stock_phrase("Thanks for watching!", "de")
    assert is_stock_phrase("Vielen Dank.", "de")
    assert not is_stock_phrase("Vielen Dank.", "en")
    assert not is_stock_phrase("Thank you for the crane.", "en")
