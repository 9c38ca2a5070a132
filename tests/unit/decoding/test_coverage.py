"""Speech that no word accounts for is seen, in made-up features and in real speech."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.audio.files import read_audio
from edge_agent.decoding import align, context, coverage, features
from edge_agent.decoding.features import Mel
from edge_agent.engine.base import EngineConfig
from edge_agent.engine.ct2 import open_engine
from edge_agent.types import Word
from tests import corpus
from tests.unit.engine.real import model_dir


def sound(*parts: tuple[float, bool]) -> Mel:
    """Features of (seconds, loud or quiet) stretches."""
    levels = np.concatenate([np.full(round(100 * s), 1.0 if loud else -0.5) for s, loud in parts])
    return np.tile(levels.astype(np.float32), (80, 1))


def word(text: str, start_s: float, end_s: float) -> Word:
    return Word(text=text, start_s=start_s, end_s=end_s, confidence=0.9)


def test_words_on_all_speech_leave_nothing() -> None:
    """Two words where the sound is loud, a pause between them."""
    mel = sound((0.5, False), (0.6, True), (1.0, False), (0.6, True), (0.5, False))
    words = (word("crane", 0.5, 1.1), word("stop", 2.1, 2.7))
    assert coverage.unheard_s(mel, words) == 0.0


def test_a_left_out_phrase_is_a_hole() -> None:
    """Its length less the margins that word times need."""
    mel = sound((0.6, True), (0.3, False), (2.0, True), (0.3, False), (0.6, True))
    words = (word("crane", 0.0, 0.6), word("stop", 3.2, 3.8))
    assert coverage.unheard_s(mel, words) == pytest.approx(2.0, abs=0.3)


def test_the_word_before_a_hole_does_not_hide_it() -> None:
    """The alignment stretches it to the next word; nobody says "on" for two seconds."""
    mel = sound((3.0, True))
    words = (word("turn", 0.0, 0.4), word("on", 0.4, 2.4), word("stop", 2.4, 3.0))
    assert coverage.unheard_s(mel, words) > 0.8


def test_stops_inside_a_word_do_not_end_speech() -> None:
    """A tenth of a second of silence is a consonant."""
    mel = sound((0.3, True), (0.1, False), (0.3, True), (0.8, False), (0.3, True))
    assert len(coverage.speech_spans(mel)) == 2


@given(st.lists(st.tuples(st.floats(0.01, 2.0), st.booleans()), min_size=1, max_size=8))
def test_spans_lie_in_the_sound(parts: list[tuple[float, bool]]) -> None:
    """In order, not empty, not overlapping; without words the longest stretch is unheard."""
    mel = sound(*parts)
    if not mel.shape[1]:
        return
    spans = coverage.speech_spans(mel)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(set(edges))
    assert all(0 <= edge <= mel.shape[1] for edge in edges)
    longest = max((last - first for first, last in spans), default=0)
    assert coverage.unheard_s(mel, ()) == pytest.approx(longest / 100)


def test_a_sentence_the_text_leaves_out_is_heard_missing() -> None:
    """Three read sentences, scored whole and with each one left out, by the real model."""
    engine = open_engine(
        EngineConfig(kind="ctranslate2", model_dir=model_dir("whisper-base"), model_name="whisper-base@test")
    )
    clips = [clip for clip in corpus.clips(set="en_read_kathleen") if 2.0 < clip.duration_s < 4.5][:3]
    pcm = np.concatenate([read_audio(clip.path) for clip in clips])
    mel = features.log_mel(pcm, 80)
    rule = context.shipped_table().rule("en")
    window = context.window("short", mel.shape[1], rule, 80)
    padded = features.fit(mel, window.frames, padding=features.silence_value(mel))
    encoded = engine.steps.encode(padded, window.positions)
    tokenizer = engine.decoder.tokenizer

    def hole(said: list[corpus.Clip]) -> float:
        tokens = tokenizer.encode(" " + " ".join(clip.text for clip in said))
        scored = engine.steps.score(encoded, tokenizer.sot_sequence("en"), tokens, mel.shape[1])
        words = align.words(tokens, scored, tokenizer, duration_s=len(pcm) / 16_000)
        return coverage.unheard_s(mel, words)

    assert hole(clips) < rule.max_unheard_s
    for index in range(len(clips)):
        assert hole([clip for place, clip in enumerate(clips) if place != index]) > rule.max_unheard_s
