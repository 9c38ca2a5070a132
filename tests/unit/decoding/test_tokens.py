"""Tokens become text and text becomes tokens, in Whisper's own vocabularies."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.decoding.bpe import restore_merges
from edge_agent.decoding.tokens import Tokenizer, roundtrip_faults
from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.models.store import ModelStore
from edge_agent.verbs.common import models_dir

MODELS = ("whisper-base", "whisper-tiny.en")


@cache
def published(name: str) -> Path:
    """The published files of a model; skipped where the machine has none."""
    try:
        return ModelStore(models_dir()).published_dir(name)
    except EdgeAgentError as error:
        pytest.skip(str(error))


@cache
def tokenizer(name: str) -> Tokenizer:
    """One tokenizer per model for all tests."""
    return Tokenizer(published(name))


def test_special_tokens_are_found_by_name() -> None:
    """Multilingual and English-only vocabularies differ by one everywhere."""
    base, english = tokenizer("whisper-base").special, tokenizer("whisper-tiny.en").special
    assert (base.eot, base.sot, base.no_timestamps, base.timestamp_begin) == (50257, 50258, 50363, 50364)
    assert (base.transcribe, base.translate, base.sot_prev, base.no_speech) == (50359, 50358, 50361, 50362)
    assert (english.eot, english.sot, english.no_timestamps) == (50256, 50257, 50362)
    assert len(base.languages) == 99
    assert (base.languages["en"], base.languages["zh"], base.languages["haw"]) == (50259, 50260, 50352)


def test_the_prompt_fits_the_model() -> None:
    """English-only models get no language and no task."""
    assert tokenizer("whisper-base").sot_sequence("de", "translate") == [50258, 50261, 50358, 50363]
    assert tokenizer("whisper-base").sot_sequence("en", timestamps=True) == [50258, 50259, 50359]
    assert tokenizer("whisper-tiny.en").sot_sequence("en") == [50257, 50362]
    with pytest.raises(ModelError, match="xx"):
        tokenizer("whisper-base").sot_sequence("xx")


def test_a_vocabulary_of_100_languages_is_read(tmp_path: Path) -> None:
    """Cantonese shifts all that follows; ids come from names, not from numbers."""
    tokens = list(tokenizer("whisper-base").vocabulary.tokens)
    tokens.insert(tokens.index("<|translate|>"), "<|yue|>")
    tokens[tokens.index("<|nocaptions|>")] = "<|nospeech|>"
    (tmp_path / "vocabulary.json").write_text(json.dumps(tokens))
    special = Tokenizer(tmp_path).special
    assert len(special.languages) == 100
    assert special.languages["yue"] == 50358
    assert (special.no_speech, special.no_timestamps, special.timestamp_begin) == (50363, 50364, 50365)


def test_the_lost_first_merge_is_put_back() -> None:
    """The published multilingual file lacks "Ġ t"; text is encoded as the model was trained on it."""
    merges = json.loads((published("whisper-base") / "tokenizer.json").read_text())["model"]["merges"]
    assert len(merges) == 49_999
    (then,) = tokenizer("whisper-base").encode(" then")
    assert tokenizer("whisper-base").vocabulary.tokens[then] == "Ġthen"


@pytest.mark.parametrize("name", MODELS)
def test_every_token_comes_back(name: str) -> None:
    """The check of `models verify` is clean on the published vocabularies."""
    assert roundtrip_faults(published(name)) == ()


def test_a_broken_tokenizer_is_noticed(tmp_path: Path) -> None:
    """A file whose merges do not make the vocabulary is refused or reported, never used in silence."""
    source = published("whisper-tiny.en")
    description = json.loads((source / "tokenizer.json").read_text())
    merges = description["model"]["merges"]
    merges[100], merges[200] = merges[200], merges[100]
    (tmp_path / "tokenizer.json").write_text(json.dumps(description))
    (tmp_path / "vocabulary.txt").write_bytes((source / "vocabulary.txt").read_bytes())
    with pytest.raises(ModelError, match="merge"):
        Tokenizer(tmp_path).encode("text")


@pytest.mark.parametrize("lost", [0, 1, 17, 49_999])
def test_any_lost_merge_can_be_restored(lost: int) -> None:
    """The vocabulary alone tells which two tokens make each of its tokens."""
    model = json.loads((published("whisper-tiny.en") / "tokenizer.json").read_text())["model"]
    merges = [tuple(merge.split(" ")) for merge in model["merges"]]
    assert restore_merges(model["vocab"], merges[:lost] + merges[lost + 1 :]) == merges


@pytest.mark.parametrize("name", MODELS)
@given(text=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufffd"), max_size=40))
@settings(max_examples=200, deadline=None)
def test_text_comes_back(name: str, text: str) -> None:
    """Any text survives encoding and decoding, and no special token is ever made from it."""
    tokens = tokenizer(name).encode(text)
    assert tokenizer(name).decode(tokens) == text
    assert all(tokenizer(name).is_text(token) for token in tokens)


@pytest.mark.parametrize("text", ["<|endoftext|>", "a <|startoftranscript|><|en|> b"])
def test_text_that_looks_special_stays_text(text: str) -> None:
    """A prompt cannot smuggle a special token in."""
    tokens = tokenizer("whisper-base").encode(text)
    assert max(tokens) < tokenizer("whisper-base").special.eot
    assert tokenizer("whisper-base").decode(tokens) == text


@given(tokens=st.lists(st.integers(0, 51_864), max_size=30))
@settings(max_examples=300, deadline=None)
def test_decoding_never_shows_broken_characters(tokens: list[int]) -> None:
    """Whatever the tokens, no replacement character is shown, and what is not held back reads the same."""
    base = tokenizer("whisper-base")
    assert "\ufffd" not in base.decode(tokens)
    whole, tail = base.split_unfinished(tokens)
    assert whole + tail == tokens
    assert base.decode(tokens).startswith(base.decode(whole))
    text_tokens = [token for token in tokens if base.is_text(token)]
    assert [token for _, run in base.units(tokens) for token in run] == text_tokens


@given(text=st.text("起重機打開龍鬱的一a é", min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_a_growing_hypothesis_never_shows_half_a_character(text: str) -> None:
    """English-only tokens split Chinese characters: each prefix reads as a prefix of the text."""
    english = tokenizer("whisper-tiny.en")
    tokens = english.encode(text)
    for length in range(len(tokens) + 1):
        assert text.startswith(english.decode(tokens[:length]))
        assert len(english.split_unfinished(tokens[:length])[1]) <= 3
    assert "".join(piece for piece, _ in english.units(tokens)) == text


def test_units_join_the_pieces_of_a_character() -> None:
    """A character spread over tokens is one unit; an unfinished one has no text yet."""
    english = tokenizer("whisper-tiny.en")
    tokens = english.encode("鬱")
    assert len(tokens) > 1
    assert english.units(tokens) == [("鬱", tuple(tokens))]
    assert english.units(tokens[:-1]) == [("", tuple(tokens[:-1]))]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "holds no vocabulary"),
        ({"vocabulary.txt": "a\nb\n"}, "cannot be used"),
        ({"vocabulary.json": "{}"}, "not a list"),
        ({"vocabulary.json": "["}, "cannot be used"),
    ],
)
def test_an_unusable_vocabulary_is_told(tmp_path: Path, files: dict[str, str], told: str) -> None:
    """One line, naming the directory."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=told) as failure:
        Tokenizer(tmp_path)
    assert str(tmp_path) in failure.value.cause
