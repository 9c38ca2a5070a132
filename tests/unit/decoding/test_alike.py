"""How sure a word is: capitals and the signs before it do not speak against it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.decoding.alike import Alike
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.decoding.vocabulary import token_bytes, written_token
from tests.unit.engine.real import model_dir


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The multilingual vocabulary."""
    return Tokenizer(model_dir("whisper-base"))


def _token(tokenizer: Tokenizer, text: str) -> int:
    (token,) = tokenizer.encode(text)
    return token


def _logits(tokenizer: Tokenizer, chances: dict[str, float]) -> NDArray[np.float32]:
    """Logarithms of probabilities of texts; what is left over is shared by all others."""
    rows = len(tokenizer.vocabulary.tokens)
    logits = np.full(rows, np.log((1 - sum(chances.values())) / rows), np.float32)
    for text, chance in chances.items():
        logits[_token(tokenizer, text)] = np.log(chance)
    return logits


def _sure(tokenizer: Tokenizer, text: str, chances: dict[str, float]) -> float:
    """Of a text of one token, after which the end is certain."""
    after = np.full(len(tokenizer.vocabulary.tokens), -100.0, np.float32)
    after[tokenizer.special.eot] = 0.0
    follows = [(_logits(tokenizer, chances), 0.0), (after, 0.0)]
    (sure,) = Alike(tokenizer.vocabulary).sure([_token(tokenizer, text)], follows)
    return sure


def test_capitals_are_the_same_word(tokenizer: Tokenizer) -> None:
    """Where a sentence might begin, both are likely."""
    assert _sure(tokenizer, " The", {" The": 0.6, " the": 0.3, " they": 0.1}) == pytest.approx(0.9, abs=0.01)
    assert _sure(tokenizer, " the", {" The": 0.6, " the": 0.3, " they": 0.1}) == pytest.approx(0.9, abs=0.01)
    assert _sure(tokenizer, "é", {"é": 0.5, "É": 0.4}) == pytest.approx(0.9, abs=0.01)


def test_a_word_within_a_word_is_another(tokenizer: Tokenizer) -> None:
    """ "the" that goes on with what is before it does not count for " the"."""
    assert _sure(tokenizer, " the", {" the": 0.5, "the": 0.45}) == pytest.approx(0.5, abs=0.01)


def test_a_sign_may_come_first(tokenizer: Tokenizer) -> None:
    """ "which" after a comma is "which"; a hyphen makes another word."""
    assert _sure(tokenizer, " which", {" which": 0.59, ",": 0.4}) == pytest.approx(0.98, abs=0.01)
    assert _sure(tokenizer, " well", {" well": 0.59, "-": 0.4}) == pytest.approx(0.59, abs=0.01)


def test_signs_are_no_words(tokenizer: Tokenizer) -> None:
    """Of them nothing is told."""
    assert _sure(tokenizer, ",", {",": 0.4, ".": 0.4}) == 1.0


def test_a_word_may_go_on(tokenizer: Tokenizer) -> None:
    """ "half" is not sure while "halfway" may be meant; in Chinese each character ends by itself."""
    alike = Alike(tokenizer.vocabulary)

    def sure(first: str, then: str, chances: dict[str, float]) -> float:
        tokens = [_token(tokenizer, first), _token(tokenizer, then)]
        certain = np.full(len(tokenizer.vocabulary.tokens), -100.0, np.float32)
        certain[[tokens[0], tokenizer.special.eot]] = 0.0
        return alike.sure(tokens, [(certain, 0.0), (_logits(tokenizer, chances), 0.0), (certain, 0.0)])[0]

    assert sure(" half", " way", {" way": 0.6, "way": 0.39}) == pytest.approx(0.6, abs=0.01)
    assert sure(" half", ".", {".": 0.5, "'s": 0.2, "way": 0.29}) == pytest.approx(0.5, abs=0.01)
    assert sure(" half", "way", {" way": 0.6, "way": 0.39}) == pytest.approx(1.0, abs=0.01)
    assert sure("好", "的", {"的": 0.5, "人": 0.49}) == pytest.approx(1.0, abs=0.01)
    assert sure("好", ".", {".": 0.5, "人": 0.49}) == pytest.approx(1.0, abs=0.01)


@given(st.lists(st.integers(0, 51864), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_it_is_a_probability(tokenizer: Tokenizer, tokens: list[int], seed: int) -> None:
    """Of any token, a broken character and a special one too, whatever the model thinks."""
    dice = np.random.default_rng(seed)
    rows = dice.normal(0, 10, (len(tokens) + 1, len(tokenizer.vocabulary.tokens))).astype(np.float32)
    follows = [(row, float(np.logaddexp.reduce(row))) for row in rows]
    for sure in Alike(tokenizer.vocabulary).sure(tokens, follows):
        assert 0.0 <= sure <= 1.0


@given(st.text(max_size=8))
def test_what_is_written_reads_back(text: str) -> None:
    """The bytes of the token are those of the text."""
    assert token_bytes(written_token(text)) == text.encode()
