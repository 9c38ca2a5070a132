"""What every engine promises, checked on each kind that runs here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.engine.base import Engine, EngineConfig, open_engine
from edge_agent.errors import EngineError, EngineLoadFailed
from edge_agent.models.convert import convert_to_onnx
from edge_agent.models.store import ModelStore
from edge_agent.types import DecodeOptions, Hypothesis
from tests import tone_words
from tests.unit.engine.real import model_dir

RATE = 16_000


@pytest.fixture(scope="module", params=["scripted", "ctranslate2", "onnxruntime", "ctc"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Each kind of engine, open."""
    if request.param == "scripted":
        config = EngineConfig(
            kind="scripted", model_dir=Path(), model_name="play@0", extra={"script": ["hello", ""]}
        )
    elif request.param == "ctc":
        directory = tone_words.sense_voice(tmp_path_factory.mktemp("tones"))
        config = EngineConfig(kind="ctc", model_dir=directory, model_name="tones@0")
    elif request.param == "onnxruntime":
        store = ModelStore(tmp_path_factory.mktemp("store"), catalog={})
        store.import_dir("whisper-tiny.en", model_dir("whisper-tiny.en", prepared=False))
        config = EngineConfig(
            kind="onnxruntime",
            model_dir=convert_to_onnx("whisper-tiny.en", store, "int8"),
            model_name="whisper-tiny.en@1a5afae06a4d",
        )
    else:
        config = EngineConfig(
            kind="ctranslate2",
            model_dir=model_dir("whisper-tiny.en"),
            model_name="whisper-tiny.en@1a5afae06a4d",
        )
    opened = open_engine(config)
    opened.warm_up()
    yield opened
    opened.close()


def test_it_says_what_it_is(engine: Engine) -> None:
    """Kind, model with digest, languages and the longest audio are known before the first decode."""
    assert engine.info.kind
    assert "@" in engine.info.model
    assert "en" in engine.info.languages
    assert engine.info.max_audio_s >= 10


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.5, 1.595, 1.6, 29.99, 30.0])
def test_any_length_of_sound_gives_a_hypothesis(engine: Engine, seconds: float) -> None:
    """From nothing to the longest audio, with costs that are not negative and JSON that round-trips."""
    noise = np.random.default_rng(1).normal(0, 0.01, int(seconds * RATE)).astype(np.float32)
    heard = engine.transcribe(noise, options=DecodeOptions(words=True))
    assert isinstance(heard, Hypothesis)
    assert heard.cost.total_ms >= 0
    assert msgspec.json.decode(msgspec.json.encode(heard), type=Hypothesis) == heard


def test_a_draft_from_elsewhere_does_no_harm(engine: Engine) -> None:
    """A draft without tokens, or with any, is only a hint."""
    sound = np.zeros(RATE, dtype=np.float32)
    engine.transcribe(sound, options=DecodeOptions(), draft=Hypothesis(text=""))
    engine.transcribe(sound, options=DecodeOptions(), draft=Hypothesis(text="a b", tokens=(257, 275)))


def test_an_unknown_kind_is_refused() -> None:
    """The error names the kinds there are."""
    with pytest.raises(EngineLoadFailed, match="ctranslate2"):
        open_engine(EngineConfig(kind="abacus", model_dir=Path(), model_name="x"))


def test_an_engine_raises_only_its_own_error() -> None:
    """A fault inside the engine arrives as EngineError."""
    play = open_engine(
        EngineConfig(
            kind="scripted", model_dir=Path(), model_name="x", extra={"script": [{"error": "broken"}]}
        )
    )
    with pytest.raises(EngineError, match="broken"):
        play.transcribe(np.zeros(10, dtype=np.float32), options=DecodeOptions())
