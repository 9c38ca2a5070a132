"""Where nobody speaks nobody is quoted: silence, noise, music, coughs; with and without a detector."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.opening import Wish, open_recogniser
from edge_agent.text.segments import said
from edge_agent.types import SAMPLE_RATE_HZ, DecodeOptions, Hypothesis, PcmFloat
from edge_agent.verbs.common import models_dir
from edge_agent.verbs.recordings import passages
from tests.noises import noises
from tests.unit.engine.real import model_dir

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _model() -> None:
    model_dir("whisper-base")


def published(heard: Hypothesis) -> bool:
    """Whether a final with words would go out."""
    return not heard.rejected and any(mark.isalnum() for mark in heard.text)


@pytest.mark.parametrize("words", [False, True])
def test_the_decoder_alone_publishes_nothing(words: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything reaches the model; each text it makes up is withheld, and the reason counted."""
    recogniser = open_recogniser(Wish(models_dir=models_dir(), words=words))
    heard = {name: recogniser.engine.transcribe(pcm, options=recogniser.options) for name, pcm in noises()}
    recogniser.engine.close()
    assert {name: one.text for name, one in heard.items() if published(one)} == {}
    counted = Counter(one.rejected or "nothing heard" for one in heard.values())
    with capsys.disabled():
        print(f"\n{len(heard)} sounds without speech, no detector: {dict(counted)}")
    assert sum(count for reason, count in counted.items() if reason != "nothing heard") > 10


def test_recordings_without_speech_have_no_text() -> None:
    """The path of `edge-agent transcribe`."""
    recogniser = open_recogniser(Wish(models_dir=models_dir()))
    texts = {}
    for name, pcm in noises():
        found = passages(recogniser.engine, [pcm], recogniser.options, workers=1)
        texts[name] = " ".join(filter(None, (said(passage.hypothesis) for passage in found)))
    recogniser.engine.close()
    assert {name: text for name, text in texts.items() if text} == {}


def test_a_partial_of_noise_makes_no_words_later() -> None:
    """As the live path does it: the text of the first half is the draft of the whole."""
    recogniser = open_recogniser(Wish(models_dir=models_dir()))
    growing = msgspec.structs.replace(recogniser.options, growing=True)
    told = {}
    for name, pcm in noises():
        first = recogniser.engine.transcribe(pcm[: len(pcm) // 2], options=growing)
        draft = first if first.text and not first.rejected else None
        whole = recogniser.engine.transcribe(pcm, options=recogniser.options, draft=draft)
        if published(whole):
            told[name] = whole.text
    recogniser.engine.close()
    assert told == {}


def test_a_subscriber_receives_no_words(tmp_path: Path) -> None:
    """The whole path: file, detector, engine, outbox, broker, subscriber."""
    pause = np.zeros(SAMPLE_RATE_HZ, np.float32)
    path = write(
        tmp_path / "noise.wav", np.concatenate([part for _, pcm in noises() for part in (pcm, pause)])
    )
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "demo", "--fast", "--json", str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    finals = [one["payload"] for one in messages if one["topic"].endswith("/transcript/final")]
    assert [final["text"] for final in finals if final["text"]] == []
    partials = [one["payload"]["text"] for one in messages if one["topic"].endswith("/transcript/partial")]
    assert [text for text in partials if text] == []


@pytest.mark.parametrize("language", ["de", "zh"])
def test_other_languages_invent_nothing_either(language: str) -> None:
    """The decoder alone, told another language."""
    recogniser = open_recogniser(Wish(models_dir=models_dir(), language=language))
    options = DecodeOptions(language=language)
    told = {}
    for name, pcm in noises():
        heard = recogniser.engine.transcribe(pcm, options=options)
        if published(heard):
            told[name] = heard.text
    recogniser.engine.close()
    assert told == {}


def write(path: Path, pcm: PcmFloat) -> Path:
    """A 16 kHz WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())
    return path
