"""Single-pass models: the front end against Kaldi's numbers, tokens to words, and two synthetic models whose
words are tones, through the whole engine."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import forms
from edge_agent.decoding import fbank
from edge_agent.engine import ctc, ctc_text
from edge_agent.engine.base import Engine, EngineConfig, open_engine
from edge_agent.engine.ctc_text import Piece
from edge_agent.errors import EngineError, EngineLoadFailed, ModelMissing
from edge_agent.models.store import ModelStore
from edge_agent.opening import Wish, open_recogniser
from edge_agent.types import DecodeOptions
from tests import tone_words
from tests.tone_words import SENSE, say
from tests.unit.profile.making import profile

KALDI = {
    0: (11.344123, 16.286184, 19.070620, 22.595072),
    7: (13.941622, 16.524555, 20.156557, 23.474270),
}
"""Bands 0, 10, 40 and 79 of the first and last frame, as kaldi-native-fbank 1 computes them."""


def _open(directory: Path, **changes: object) -> Engine:
    fields = {"kind": "ctc", "model_dir": directory, "model_name": "tones", **changes}
    return open_engine(EngineConfig(**fields))  # type: ignore[arg-type] - fields vary by test


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SenseVoice of tones."""
    return tone_words.sense_voice(tmp_path_factory.mktemp("sense"))


@pytest.fixture(scope="module")
def engine(directory: Path) -> Engine:
    """It, open and warm."""
    opened = _open(directory)
    opened.warm_up()
    return opened


def test_the_filter_bank_is_kaldis() -> None:
    """A tone in noise: 80 log energies of eight frames."""
    rng = np.random.default_rng(7)
    time = np.arange(1600) / 16_000
    sound = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.05 * rng.normal(size=1600)
    bands = fbank.log_bands(sound.astype(np.float32))
    assert bands.shape == (8, 80)
    for row, wanted in KALDI.items():
        assert bands[row, [0, 10, 40, 79]] == pytest.approx(wanted, abs=1e-3)


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 8))
def test_stacks_hold_the_frames_around_their_place(count: int, window: int, shift: int) -> None:
    """Row i is centred on frame i * shift; beyond the ends stand the first and the last frame."""
    frames = np.arange(count, dtype=np.float32)[:, None]
    rows = fbank.stacked(frames, window, shift)
    assert rows.shape == (-(-count // shift), window)
    for place, row in enumerate(rows):
        first = place * shift - (window - 1) // 2
        assert list(row) == [min(max(first + step, 0), count - 1) for step in range(window)]


def test_tones_become_words(engine: Engine) -> None:
    """Repetitions count once, silence between two equal ones parts them, words have their places."""
    sound = say(None, 2, 3, 4, None, 5, 6, None)
    heard = engine.transcribe(sound, options=DecodeOptions(language="en", words=True))
    assert heard.text == "turn on the light"
    assert heard.tokens == (2, 3, 4, 5, 6)
    assert [word.text for word in heard.words] == ["turn", "on", "the", "light"]
    starts = [word.start_s for word in heard.words]
    assert starts == pytest.approx([0.3, 0.6, 0.9, 1.5], abs=0.07)
    assert heard.words[-1].end_s == pytest.approx(2.1, abs=0.07)
    assert all(word.confidence > 0.5 for word in heard.words)
    assert engine.transcribe(say(2, None, 2), options=DecodeOptions()).text == "turn turn"


def test_chinese_has_no_spaces(engine: Engine) -> None:
    """Each character is a word; a mark belongs to the one before."""
    heard = engine.transcribe(say(7, 8, 9, 2), options=DecodeOptions(language="zh", words=True))
    assert heard.text == "开灯， turn"
    assert [word.text for word in heard.words] == ["开", "灯，", "turn"]


@pytest.mark.parametrize(
    ("options", "language"),
    [
        (DecodeOptions(language="auto"), "en"),
        (DecodeOptions(language="auto", allowed_languages=("zh", "ja")), "zh"),
        (DecodeOptions(language="zh-TW"), "zh"),
    ],
)
def test_the_language_is_the_one_asked_for_or_the_models(
    engine: Engine, options: DecodeOptions, language: str
) -> None:
    """Its first answer is a tag for it."""
    assert engine.transcribe(say(7), options=options).language == language


@pytest.mark.parametrize("samples", [0, 1, 399, 401, 16_000])
def test_silence_of_any_length_says_nothing(engine: Engine, samples: int) -> None:
    """Also when it is shorter than a window, and when it is not quite silent."""
    for level in (0.0, 2e-4):
        noise = np.random.default_rng(0).normal(0, level, samples).astype(np.float32)
        assert engine.transcribe(noise, options=DecodeOptions()).text == ""


def test_what_it_cannot_do_is_said(engine: Engine) -> None:
    """Before anything is lost."""
    assert engine.info.kind == "ctc/float32"
    assert engine.info.model.startswith("tones@")
    assert not engine.info.steps
    assert engine.info.languages == ("zh", "en", "yue", "ja", "ko")
    with pytest.raises(EngineError, match='does not know the language "de"'):
        engine.transcribe(say(2), options=DecodeOptions(language="de"))
    with pytest.raises(EngineError, match="30 s"):
        engine.transcribe(np.zeros(16_000 * 31, dtype=np.float32), options=DecodeOptions())


def test_paraformer_names_tokens_up_to_the_end(tmp_path: Path) -> None:
    """Marked pieces go on, a space stands between scripts, nothing comes after the end of the sentence."""
    engine = _open(tone_words.paraformer(tmp_path))
    heard = engine.transcribe(
        say(3, 4, 5, 6, 7, 8, None, 3), options=DecodeOptions(language="zh", words=True)
    )
    assert heard.text == "turn on light 开灯"
    assert heard.words == ()
    assert ctc.NO_TIMES in engine.info.notes


@given(st.lists(st.sampled_from(["▁a", "b", "▁", "开", "，", "c@@", "d", "."]), max_size=12))
def test_no_piece_is_lost_and_words_are_the_text(texts: list[str]) -> None:
    """Whatever comes after whatever, in either spelling."""
    pieces = [
        Piece(token=place, text=text, first=place, end=place + 1, logprob=-0.1)
        for place, text in enumerate(texts)
    ]
    for spell in (ctc_text.spelt, ctc_text.unmarked):
        words = spell(pieces)
        letters = "".join(word.text for word in words).replace(" ", "")
        wanted = "".join(
            text.replace("▁", "") if spell is ctc_text.spelt else text.removesuffix("@@") for text in texts
        )
        assert letters == wanted.replace(" ", "")
        assert all(word.text.strip() and word.pieces for word in words)
        kept = [piece.token for word in words for piece in word.pieces]
        assert kept == sorted(set(kept))


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"model_type": "zipformer"}, "not known"),
        ({"vocab_size": 99}, "99"),
        ({"neg_mean": "1,2"}, "neg_mean has 2 numbers"),
        ({"inv_stddev": "x"}, "could not convert"),
        ({"lfr_window_shift": 0}, "from one to the next"),
    ],
)
def test_a_model_of_another_make_is_refused(tmp_path: Path, told: dict[str, object], says: str) -> None:
    """One line, and where to get the right one."""
    with pytest.raises(EngineLoadFailed, match=says) as caught:
        _open(tone_words.sense_voice(tmp_path, **told))
    assert "sherpa-onnx" in caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["nothing there", "no tokens", "rubbish tokens", "cut graph"])
def test_a_damaged_model_is_one_line(tmp_path: Path, damage: str) -> None:
    """Whatever is wrong, the engine is not opened."""
    if damage != "nothing there":
        tone_words.sense_voice(tmp_path)
    if damage == "no tokens":
        (tmp_path / "tokens.txt").unlink()
    if damage == "rubbish tokens":
        (tmp_path / "tokens.txt").write_bytes(b"\xff\xfe 0\nx y\n")
    if damage == "cut graph":
        path = tmp_path / "model.onnx"
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(EngineLoadFailed) as caught:
        _open(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_profile_of_ones_own_names_it(directory: Path, tmp_path: Path) -> None:
    """From the profile to the text; a name of the store is refused, it holds Whisper models only."""
    chosen = profile("tones", f'[engine]\nkind = "ctc"\nmodel = "{directory}"\ncompute_type = "float32"\n')
    wish = Wish(models_dir=tmp_path, profile="tones", profiles=(chosen,))
    recogniser = open_recogniser(wish)
    heard = recogniser.engine.transcribe(say(2, 3), options=recogniser.options)
    assert heard.text == "turn on"
    named = msgspec.structs.replace(chosen.engine, model="sense-voice")
    with pytest.raises(ModelMissing, match="name the directory"):
        forms.ready(ModelStore(tmp_path), "sense-voice", named)


def test_int8_is_taken_where_it_is(directory: Path, tmp_path: Path) -> None:
    """By its file name, whatever else is there."""
    tone_words.sense_voice(tmp_path)
    (tmp_path / "model.onnx").rename(tmp_path / "model.int8.onnx")
    assert _open(tmp_path, compute_type="int8").info.kind == "ctc/int8"
    assert _open(directory, compute_type="int8").info.kind == "ctc/float32"
    assert len(SENSE) == 16
