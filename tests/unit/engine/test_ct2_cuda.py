"""CTranslate2 on a GPU, with a stand-in at the library's edge: a real model on the CPU that notes what it was
asked for, and runs out of memory on demand."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ctranslate2
import pytest

from edge_agent import cuda
from edge_agent.audio.files import read_audio
from edge_agent.engine.base import EngineConfig, open_engine
from edge_agent.engine.memory_care import MemoryCare
from edge_agent.errors import EngineLoadFailed, OutOfMemory
from edge_agent.types import DecodeOptions
from tests import corpus
from tests.unit.engine.real import model_dir

NO_MEMORY = "CUDA failed with error out of memory"


class Card:
    """What the stand-in GPU was asked, and what it refuses."""

    def __init__(self) -> None:
        self.loaded: list[dict[str, Any]] = []
        self.preloaded = False
        self.refuse_loads = ""
        self.refuse_decodes = 0

    def whisper(self, path: str, **options: Any) -> Any:
        """In place of ctranslate2.models.Whisper: the real one, on the CPU."""
        self.loaded.append(options)
        if options["device"] == "cuda" and self.refuse_loads:
            raise RuntimeError(self.refuse_loads)
        real = _REAL(path, **{**options, "device": "cpu", "compute_type": "int8"})
        return _Model(self, real)


_REAL = ctranslate2.models.Whisper


class _Model:
    def __init__(self, card: Card, real: Any) -> None:
        self._card = card
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def generate(self, *args: Any, **options: Any) -> Any:
        if self._card.refuse_decodes:
            self._card.refuse_decodes -= 1
            raise RuntimeError(NO_MEMORY)
        return self._real.generate(*args, **options)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """A GPU that is not there."""
    card = Card()
    monkeypatch.setattr(ctranslate2.models, "Whisper", card.whisper)
    monkeypatch.setattr(cuda, "preload", lambda: setattr(card, "preloaded", True))
    return card


def _config() -> EngineConfig:
    return EngineConfig(
        kind="ctranslate2",
        model_dir=model_dir("whisper-tiny.en"),
        model_name="m@0",
        device="cuda",
        compute_type="int8_float16",
        workers=2,
    )


def test_device_and_type_come_from_the_profile(card: Card) -> None:
    """The library is asked for the GPU and the number type, once cuBLAS is loaded."""
    engine = open_engine(_config())
    assert card.preloaded
    assert [(options["device"], options["compute_type"]) for options in card.loaded] == [
        ("cuda", "int8_float16")
    ]
    assert engine.info.kind == "ctranslate2/int8_float16"


def test_words_are_the_same_by_this_path(card: Card) -> None:
    """Encoder output by way of the machine's memory, drafts included."""
    engine = open_engine(_config())
    plain = open_engine(
        EngineConfig(kind="ctranslate2", model_dir=model_dir("whisper-tiny.en"), model_name="m@0")
    )
    pcm = read_audio(corpus.clips(set="en_read_kathleen")[0].path)
    heard = engine.transcribe(pcm, options=DecodeOptions())
    assert heard.text == plain.transcribe(pcm, options=DecodeOptions()).text
    assert engine.transcribe(pcm, options=DecodeOptions(), draft=heard).tokens == heard.tokens


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (NO_MEMORY, "end what else uses the GPU"),
        ("Library libcublas.so.12 is not found or cannot be loaded", "pip install nvidia-cublas-cu12"),
        ("CUDA failed with error no CUDA-capable device is detected", 'use device "cpu"'),
    ],
)
def test_a_load_that_fails_says_what_to_do(card: Card, words: str, remedy: str) -> None:
    """Each of the library's ways to fail has its own remedy, in one line."""
    card.refuse_loads = words
    with pytest.raises(EngineLoadFailed, match=remedy):
        open_engine(_config())


def test_memory_that_ran_out_once_costs_one_retry(card: Card) -> None:
    """The utterance is heard all the same; from then on one is decoded at a time."""
    engine = open_engine(_config())
    pcm = read_audio(corpus.clips(set="en_read_kathleen")[0].path)
    expected = engine.transcribe(pcm, options=DecodeOptions()).text
    card.refuse_decodes = 1
    assert engine.transcribe(pcm, options=DecodeOptions()).text == expected
    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(lambda _: engine.transcribe(pcm, options=DecodeOptions()).text, range(2)))
    assert texts == [expected, expected]


def test_memory_that_stays_out_is_an_error_of_its_own(card: Card) -> None:
    """Whoever opened the engine can tell it from a broken model and take a smaller profile."""
    engine = open_engine(_config())
    card.refuse_decodes = 100
    pcm = read_audio(corpus.clips(set="en_read_kathleen")[0].path)
    with pytest.raises(OutOfMemory, match="smaller profile"):
        engine.transcribe(pcm, options=DecodeOptions())


def test_after_a_shortage_decodes_take_turns() -> None:
    """Two threads never decode at the same time once memory ran out."""
    care = MemoryCare()
    first, inside, most = threading.Event(), 0, 0
    count = threading.Lock()

    def short_once() -> None:
        if not first.is_set():
            first.set()
            raise OutOfMemory("no memory", remedy="wait")

    def decode() -> None:
        nonlocal inside, most
        with count:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.01)
        with count:
            inside -= 1

    care.run(short_once)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: care.run(decode), range(8)))
    assert most == 1
