"""Wake word models: two kinds are understood, a wrong one is told apart with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.gate_wake import WakeWord
from edge_agent.errors import ConfigError
from edge_agent.types import FRAME_SAMPLES
from tests.tiny_onnx import LIMITS, model, tone, tone_features, tone_model


def best(word: WakeWord, *sounds: np.ndarray) -> list[float]:
    """The highest score of each channel."""
    sound = np.stack(sounds, axis=1)
    found = [
        scores.copy()
        for first in range(0, len(sound) - FRAME_SAMPLES + 1, FRAME_SAMPLES)
        if (scores := word.scores(sound[first : first + FRAME_SAMPLES])) is not None
    ]
    return [float(score) for score in np.max(found, axis=0)]


@pytest.mark.parametrize("kind", [tone_model, lambda path: tone_features(path.parent)])
def test_each_channel_has_its_own_score(tmp_path: Path, kind) -> None:
    """A tone in one channel, noise in the other."""
    word = WakeWord(kind(tmp_path / "word.onnx"), streams=2)
    noise = np.random.default_rng(1).normal(0, 0.05, 16_000).astype(np.float32)
    with_tone, without = best(word, tone(1.0), noise)
    assert word.word == "word"
    assert with_tone > 0.9
    assert without < 0.3


@pytest.mark.parametrize("kind", [tone_model, lambda path: tone_features(path.parent)])
def test_after_a_gap_nothing_is_left_of_the_word(tmp_path: Path, kind) -> None:
    """Forgotten like what was said before it."""
    word = WakeWord(kind(tmp_path / "word.onnx"))
    assert best(word, tone(1.0)) > [0.9]
    word.reset()
    assert best(word, np.zeros(3000, np.float32)) < [0.1]


def test_a_score_comes_every_80_ms(tmp_path: Path) -> None:
    """Whatever the frames of the voice activity are."""
    word = WakeWord(tone_model(tmp_path / "word.onnx"))
    frame = np.zeros((FRAME_SAMPLES, 1), np.float32)
    assert sum(word.scores(frame) is not None for _ in range(250)) == 100  # 8 s


def test_a_short_window_is_enough(tmp_path: Path) -> None:
    """A model may hear less than 80 ms at once."""
    assert best(WakeWord(tone_model(tmp_path / "word.onnx", samples=640)), tone(0.5)) > [0.9]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda path: path.with_name("none.onnx"), "there is no file"),
        (lambda path: path.write_bytes(b"TFL3 and so on") and path, "cannot be read as an ONNX file"),
        (lambda path: model(path, [1, "n"], [("ReduceSum", [])], [1, 1]), "its input is"),
        (lambda path: model(path, [1, 100], [("ReduceSum", [])], [1, 1]), "100 samples at once"),
        (lambda path: model(path, [1, 16_000], [("Clip", LIMITS)], [1, 16_000]), "not one score"),
        (
            lambda path: model(
                path, [1, 1280], [("Sub", [np.array(7.0, np.float32)]), ("ReduceSum", [])], [1, 1]
            ),
            "not one score",
        ),
        (lambda path: model(path, [1, 16_000], [("ReduceMax", [])], [1, 1], kind=7), "tensor(int64)"),
        (lambda path: model(path, [1, 16, 96], [("ReduceSum", [])], [1, 1]), "melspectrogram.onnx"),
    ],
)
def test_a_wrong_model_is_refused_with_the_reason(tmp_path: Path, made, why: str) -> None:
    """One line that names the key, the file and what is wrong with it."""
    with pytest.raises(ConfigError) as failed:
        WakeWord(made(tmp_path / "word.onnx"))
    assert "gate.model" in str(failed.value)
    assert why in str(failed.value)
    assert "\n" not in str(failed.value)


def test_other_feature_models_are_refused(tmp_path: Path) -> None:
    """They must be those that the head was trained with, at least by their shapes."""
    head = tone_features(tmp_path)
    tone_model(tmp_path / "embedding_model.onnx")
    with pytest.raises(ConfigError, match="feature models beside it"):
        WakeWord(head)
