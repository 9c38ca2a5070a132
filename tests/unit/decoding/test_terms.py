"""Terms: a bounded prompt, found as whole words, kept only where the sound bears them out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.decoding.steps import Scored
from edge_agent.decoding.terms import TOKEN_BUDGET, is_borne_out, present, prompt_tokens
from edge_agent.decoding.tokens import Tokenizer
from tests.unit.engine.real import model_dir


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The real vocabulary."""
    return Tokenizer(model_dir("whisper-base"))


def test_nothing_asked_is_no_prompt(tokenizer: Tokenizer) -> None:
    """Plain decoding stays plain."""
    assert prompt_tokens(" ", (), tokenizer) == []


def test_prompt_and_terms_read_as_text(tokenizer: Tokenizer) -> None:
    """The model sees a sentence before the utterance."""
    tokens = prompt_tokens("Crane log.", ("Xylotex", "Sarnoff"), tokenizer)
    assert tokens[0] == tokenizer.special.sot_prev
    assert tokenizer.decode(tokens) == " Crane log. Xylotex, Sarnoff."


@settings(max_examples=20, deadline=None)
@given(
    terms=st.lists(st.text("abcdefg ", min_size=1, max_size=30), max_size=80), prompt=st.text(max_size=200)
)
def test_the_budget_is_kept(tokenizer: Tokenizer, terms: list[str], prompt: str) -> None:
    """However much is configured."""
    assert len(prompt_tokens(prompt, terms, tokenizer)) <= TOKEN_BUDGET + 2


def test_terms_are_whole_words() -> None:
    """A term inside another word is not that term; case and signs do not matter; Chinese needs no space."""
    assert present(("crane", "ran"), "Turn the CRANE, now.") == {"crane"}
    assert present(("起重機",), "打開起重機開關") == {"起重機"}
    assert present(("",), "anything") == frozenset()


def test_a_term_needs_the_sound_behind_it() -> None:
    """Nearly as likely as plain decoding's text, and no token out of the blue."""
    plain = Scored(probabilities=(0.9, 0.8), end_probability=0.9)
    assert is_borne_out(Scored(probabilities=(0.3, 0.2), end_probability=0.8), plain)
    assert not is_borne_out(Scored(probabilities=(0.9, 0.0001), end_probability=0.9), plain)
    assert not is_borne_out(Scored(probabilities=(0.01, 0.01, 0.01), end_probability=0.1), plain)
