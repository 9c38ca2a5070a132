"""Words from tokens: times that rise, confidences of what was spoken, Chinese by characters."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.decoding.align import token_starts_s, words
from edge_agent.decoding.steps import Scored
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.types import Word
from tests.unit.engine.real import model_dir


@cache
def _tokenizer(name: str = "whisper-base") -> Tokenizer:
    return Tokenizer(model_dir(name))


def _words(text: str, name: str = "whisper-base", weak: str = "") -> tuple[Word, ...]:
    tokenizer = _tokenizer(name)
    tokens = tokenizer.encode(text)
    probabilities = tuple(0.2 if weak and weak in tokenizer.decode([token]) else 0.9 for token in tokens)
    path = tuple((place, 10 * place) for place in range(len(tokens) + 1))
    scored = Scored(probabilities=probabilities, end_probability=0.9, path=path)
    return words(tokens, scored, tokenizer, duration_s=0.2 * len(tokens))


def test_english_splits_at_spaces() -> None:
    """Punctuation stays with its word."""
    assert [word.text for word in _words(' "Turn on," he said; the crane.')] == [
        '"Turn',
        'on,"',
        "he",
        "said;",
        "the",
        "crane.",
    ]


def test_chinese_splits_into_characters() -> None:
    """Also where a token holds two; Latin runs stay whole, signs join the character before."""
    assert [word.text for word in _words("我們用GPU做語音辨識。好")] == [
        "我",
        "們",
        "用",
        "GPU",
        "做",
        "語",
        "音",
        "辨",
        "識。",
        "好",
    ]


def test_punctuation_does_not_lower_confidence() -> None:
    """A doubtful comma says nothing about the word."""
    assert all(word.confidence == 0.9 for word in _words(" Well, then.", weak=","))


def test_confidence_is_that_of_the_weakest_part() -> None:
    """A word is as sure as its least sure token."""
    by_text = {word.text: word.confidence for word in _words(" the big crane", weak=" big")}
    assert by_text == {"the": 0.9, "big": 0.2, "crane": 0.9}


def test_nothing_gives_nothing() -> None:
    """No tokens, no words."""
    assert _words("") == ()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1500)), max_size=40), st.integers(0, 8))
def test_token_times_never_fall(path: list[tuple[int, int]], count: int) -> None:
    """Whatever the path, starts rise and stay within the sound."""
    scored = Scored(probabilities=(0.5,) * count, path=tuple(sorted(path)))
    starts = token_starts_s(scored, count, 5.0)
    assert len(starts) == count + 1
    assert starts == sorted(starts)
    assert all(0.0 <= start <= 5.0 for start in starts)


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), max_size=20))
def test_no_character_is_lost(text: str) -> None:
    """All words together are the text without spaces."""
    found = "".join(word.text for word in _words(text))
    assert found == _tokenizer().decode(_tokenizer().encode(text))
