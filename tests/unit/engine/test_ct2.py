"""The CTranslate2 engine: errors in one line, text as the reference's."""

from __future__ import annotations

import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.files import read_audio
from edge_agent.decoding import features
from edge_agent.engine.base import EngineConfig, open_engine
from edge_agent.engine.ct2_layout import JUDGE_SHARPNESS
from edge_agent.engine.ct2_steps import sharpened_margin
from edge_agent.errors import EdgeAgentError, EngineError, EngineLoadFailed
from edge_agent.models.judge import SHARPNESS
from edge_agent.models.prepare import prepare
from edge_agent.models.store import ModelStore
from edge_agent.types import DecodeOptions
from tests import corpus
from tests.unit.engine.real import model_dir


def _config(directory: Path, **changes: object) -> EngineConfig:
    fields = {"kind": "ctranslate2", "model_dir": directory, "model_name": "m@0", **changes}
    return EngineConfig(**fields)  # type: ignore[arg-type] - fields vary by test


def _copy_with(tmp_path: Path, name: str, content: bytes) -> Path:
    directory = tmp_path / "model"
    shutil.copytree(model_dir("whisper-tiny.en", prepared=False), directory)
    (directory / name).chmod(0o644)
    (directory / name).write_bytes(content)
    return directory


def _one_line(error: EdgeAgentError) -> bool:
    return "\n" not in str(error) and len(str(error)) < 400


@pytest.mark.parametrize("name", ["model.bin", "config.json", "vocabulary.txt"])
@pytest.mark.parametrize("content", [b"", b"rubbish" * 100])
def test_a_damaged_model_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    """Whatever file is damaged, the engine is not opened and says so in one line."""
    with pytest.raises(EdgeAgentError) as caught:
        open_engine(_config(_copy_with(tmp_path, name, content)))
    assert _one_line(caught.value)


def test_a_truncated_model_is_one_line(tmp_path: Path) -> None:
    """A download that stopped half-way does not load."""
    whole = (model_dir("whisper-tiny.en", prepared=False) / "model.bin").read_bytes()
    with pytest.raises(EngineLoadFailed) as caught:
        open_engine(_config(_copy_with(tmp_path, "model.bin", whole[: len(whole) // 2])))
    assert _one_line(caught.value)


def test_an_empty_directory_is_one_line(tmp_path: Path) -> None:
    """No model.bin: the remedy says how to fetch it."""
    with pytest.raises(EngineLoadFailed, match="models pull"):
        open_engine(_config(tmp_path))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"compute_type": "int9"}, "use one of"),
        ({"device": "abacus"}, "cpu"),
        ({"extra": {"speed": 11}}, "speed"),
    ],
)
def test_a_wrong_option_is_one_line(changes: dict[str, object], says: str) -> None:
    """The error names what can be used instead."""
    with pytest.raises(EngineLoadFailed, match=says) as caught:
        open_engine(_config(model_dir("whisper-tiny.en"), **changes))
    assert _one_line(caught.value)


def test_too_much_audio_is_refused() -> None:
    """More than 30 s would lose words silently; the caller must cut."""
    engine = open_engine(_config(model_dir("whisper-tiny.en")))
    with pytest.raises(EngineError, match="30 s"):
        engine.transcribe(np.zeros(16_000 * 31, dtype=np.float32), options=DecodeOptions())


def test_an_unknown_language_is_refused() -> None:
    """An English-only model does not pretend to hear German."""
    engine = open_engine(_config(model_dir("whisper-tiny.en")))
    with pytest.raises(EngineError, match="de"):
        engine.transcribe(np.ones(16_000, dtype=np.float32), options=DecodeOptions(language="de"))


def test_two_threads_hear_what_one_hears() -> None:
    """With two workers, calls from two threads give the same texts as one after the other."""
    engine = open_engine(_config(model_dir("whisper-tiny.en"), workers=2))
    sounds = [read_audio(clip.path) for clip in corpus.clips(set="en_read_kathleen")[:4]]
    alone = [engine.transcribe(pcm, options=DecodeOptions()).text for pcm in sounds]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda pcm: engine.transcribe(pcm, options=DecodeOptions()).text, sounds))
    assert together == alone
    assert all(alone)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["whisper-base", "whisper-tiny.en"])
def test_the_full_context_gives_the_reference_text(name: str) -> None:
    """With 30 s of context, plain greedy decoding is faster-whisper's, letter by letter."""
    peer = pytest.importorskip("faster_whisper").WhisperModel(
        str(model_dir(name, prepared=False)), compute_type="int8", cpu_threads=1
    )
    engine = open_engine(_config(model_dir(name), extra={"context": "full"}))
    clips = [clip for clip in corpus.clips(language="en") if 1.0 < clip.duration_s < 29.0][::5]
    for clip in clips:
        pcm = read_audio(clip.path)
        segments, _ = peer.transcribe(
            pcm,
            language="en",
            beam_size=1,
            temperature=0,
            without_timestamps=True,
            condition_on_previous_text=False,
            no_speech_threshold=None,
        )
        expected = "".join(segment.text for segment in segments).strip()
        assert engine.transcribe(pcm, options=DecodeOptions()).text == expected, clip.id


@pytest.mark.slow
def test_where_nobody_speaks_nothing_is_published() -> None:
    """Noise, tones, music, a barking dog and silence, with no voice detector to help."""
    engine = open_engine(_config(model_dir("whisper-base")))
    published = {}
    for clip in corpus.clips(set="nonspeech"):
        pcm = read_audio(clip.path)[: 28 * 16_000]
        heard = engine.transcribe(pcm, options=DecodeOptions())
        if heard.text and not heard.rejected:
            published[clip.id] = heard.text
    assert published == {}


def test_a_prepared_model_proves_its_rows(tmp_path: Path) -> None:
    """The end of text is judged, nothing had to be switched off, and a right draft gives the same tokens."""
    store = ModelStore(tmp_path)
    store.import_dir("whisper-tiny.en", model_dir("whisper-tiny.en", prepared=False))
    engine = open_engine(_config(prepare("whisper-tiny.en", store)))
    assert engine.steps.abilities.scores_end
    assert engine.info.notes == ()
    pcm = read_audio(corpus.clips(set="en_read_kathleen")[4].path)
    first = engine.transcribe(pcm, options=DecodeOptions())
    second = engine.transcribe(pcm, options=DecodeOptions(words=True), draft=first)
    assert second.tokens == first.tokens
    assert second.words
    (entry,) = engine.draft_statistics
    assert (entry.kind, entry.utterances, entry.accepted_tokens) == ("history", 1, len(first.tokens))


def test_a_lying_manifest_falls_back_to_plain_decoding(tmp_path: Path) -> None:
    """A mirror that is not one is noticed at load, noted, and not used."""
    directory = tmp_path / "model"
    shutil.copytree(model_dir("whisper-tiny.en", prepared=False), directory)
    (directory / "prepared.json").write_text(
        '{"format": 2, "ids": {}, "eot_mirror": 50000, "suppress": [50000]}'
    )
    engine = open_engine(_config(directory))
    assert not engine.steps.abilities.scores_end
    assert len(engine.info.notes) == 1
    pcm = read_audio(corpus.clips(set="en_read_kathleen")[0].path)
    first = engine.transcribe(pcm, options=DecodeOptions())
    assert engine.transcribe(pcm, options=DecodeOptions(), draft=first).text == first.text


def test_margins_of_a_continuation_are_its_own() -> None:
    """One for each token and the end, none negative: the next best token is never better."""
    engine = open_engine(_config(model_dir("whisper-base")))
    steps, tokenizer = engine.steps, engine.decoder.tokenizer
    if not steps.abilities.fast_prefix:
        pytest.skip("the stored model was prepared in the plain layout")
    pcm = read_audio(corpus.clips(set="en_read_kathleen")[4].path)
    mel = features.log_mel(pcm, 80)
    encoded = steps.encode(features.fit(mel, 1000, padding=features.silence_value(mel)))
    prompt = tokenizer.sot_sequence("en")
    plain = steps.generate(encoded, prompt, max_new=60)
    found = steps.generate(encoded, prompt, prefix=plain.tokens[:4], max_new=56)
    assert (found.ended, found.tokens) == (plain.ended, plain.tokens[4:])
    assert len(found.margins) == len(found.tokens) + 1
    assert min(found.margins) >= 0


def test_the_judges_sharpness_is_what_the_engine_counts_on() -> None:
    """Margins in nats come from the judge's probabilities divided by it."""
    assert JUDGE_SHARPNESS == SHARPNESS
    assert sharpened_margin(0.5) == 0
    assert sharpened_margin(1 / (1 + math.exp(-16 * 0.2))) == pytest.approx(0.2)
