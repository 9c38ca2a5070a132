"""The int8 form, which machines with AVX512-VNNI run: the words of CTranslate2's int8, for less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.audio.files import read_audio
from edge_agent.decoding import features, speculate
from edge_agent.decoding.features import Mel
from edge_agent.engine import ct2, ort, warp
from edge_agent.engine.base import EngineConfig
from edge_agent.engine.ort_steps import Heard, OrtSteps
from edge_agent.engine.whisper import WhisperEngine
from edge_agent.models.convert import convert_to_onnx
from edge_agent.models.store import ModelStore
from edge_agent.types import DecodeOptions, PcmFloat
from tests import corpus
from tests.unit.engine.real import model_dir

NAME = "whisper-tiny.en"
CLIPS = 12


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny's int8 graphs, made here."""
    store = ModelStore(tmp_path_factory.mktemp("store"), catalog={})
    store.import_dir(NAME, model_dir(NAME, prepared=False))
    return convert_to_onnx(NAME, store, "int8")


def _config(directory: Path, kind: str = "onnxruntime") -> EngineConfig:
    return EngineConfig(kind=kind, model_dir=directory, model_name="m@0")


@pytest.fixture(scope="module")
def engine(directory: Path) -> WhisperEngine:
    """They, open."""
    return ort.open_engine(_config(directory))


@pytest.fixture(scope="module")
def peer() -> Iterator[ct2.Ct2Engine]:
    """The same weights on CTranslate2."""
    opened = ct2.open_engine(_config(model_dir(NAME), "ctranslate2"))
    yield opened
    opened.close()


def _sound(number: int = 0) -> PcmFloat:
    return read_audio(corpus.clips(set="en_read_kathleen")[number].path)


def _steps(engine: WhisperEngine) -> OrtSteps:
    assert isinstance(engine.steps, OrtSteps)
    return engine.steps


def _mel(number: int = 0) -> Mel:
    """Features of a clip and of a second of silence."""
    return _padded(_sound(number))


def _padded(sound: PcmFloat) -> Mel:
    mel = features.log_mel(sound, 80)
    frames = (mel.shape[1] + 101) // 2 * 2
    return features.fit(mel, frames, padding=features.silence_value(mel))


class _Counted:
    """A session that counts its runs."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.runs = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.runs += 1
        found: dict[str, Any] = self._session.run(feeds)
        return found


def test_the_words_are_those_of_ctranslate2(engine: WhisperEngine, peer: ct2.Ct2Engine) -> None:
    """Same weights, same rounding of the sound; weights of the decoder are scaled in smaller blocks."""
    options = DecodeOptions(words=False)
    same = [
        engine.transcribe(_sound(number), options=options).text
        == peer.transcribe(_sound(number), options=options).text
        for number in range(CLIPS)
    ]
    assert sum(same) >= CLIPS - 2


def test_beams_go_on_from_their_own_past(engine: WhisperEngine) -> None:
    """The caches are put in order outside the graph: what the search says of its text is what one pass over
    that text says, which has no order to lose. (Where CTranslate2 puts a comma, int8 may not.)"""
    steps = _steps(engine)
    prompt = engine.decoder.tokenizer.sot_sequence("en")
    changed = 0
    noise = np.random.default_rng(1)
    for number in range(CLIPS):
        clear = _sound(number)
        hiss = noise.normal(0, clear.std() / 2, len(clear)).astype(np.float32)
        mel = _padded(clear + hiss)  # so loud that the likeliest beginning often is not that of the best text
        found = steps.generate(steps.encode(mel, 500), prompt, beam=5)
        scored = steps.score(steps.encode(mel, 500), prompt, found.tokens, 0)
        chances = np.array([*scored.probabilities, scored.end_probability])
        assert np.log(chances).mean() == pytest.approx(found.avg_logprob, abs=0.05)
        changed += found.tokens != steps.generate(steps.encode(mel, 500), prompt).tokens
    assert changed  # some text was found on a path that greedy decoding left


def test_beams_that_outgrow_the_cache_leave_it_as_it_was(engine: WhisperEngine) -> None:
    """What is decoded in doubt is decoded again on the same sound, after the beams took a larger one."""
    steps, tokenizer = _steps(engine), engine.decoder.tokenizer
    start = tokenizer.sot_sequence("en")
    before = tokenizer.encode(" It was said before" * 20)[: 63 - len(start)]
    prompt = [tokenizer.special.sot_prev, *before, *start]
    encoded = steps.encode(_mel(), 500)
    steps.generate(encoded, prompt, max_new=1)
    assert encoded.cache.rows == len(prompt)
    steps.generate(encoded, prompt, beam=5, max_new=12)
    again = steps.generate(encoded, prompt, max_new=12)
    assert again == steps.generate(steps.encode(_mel(), 500), prompt, max_new=12)


def test_kept_silence_is_what_projecting_it_gives(engine: WhisperEngine) -> None:
    """Keys and values of a sound in a longer window, joined or projected as a whole."""
    steps = _steps(engine)
    hidden = steps.encode(_mel(), 500).hidden
    joined = steps._cross.of(hidden, 500)
    quiet = steps._cross._silence.positions(hidden.shape[1], 500)
    whole = steps._graphs["cross"].run({"hidden": np.concatenate([hidden[0], quiet])[None]})
    for name, value in whole.items():
        assert joined[name].shape == value.shape
        assert np.abs(joined[name] - value).max() < 1e-4, name


def test_silence_is_kept_from_start_to_start(engine: WhisperEngine, directory: Path) -> None:
    """Its 30 s are encoded once in the life of a model."""
    _steps(engine).generate(_steps(engine).encode(_mel(), 500), [50257, 50362], max_new=1)
    kept = list(directory.glob("silence-int8-*.f32"))
    assert len(kept) == 1
    again = _steps(ort.open_engine(_config(directory)))
    counted = _Counted(again._graphs["encoder"])
    again._graphs = {**again._graphs, "encoder": counted}  # type: ignore[dict-item] - stands in for a session
    again.generate(again.encode(_mel(), 500), [50257, 50362], max_new=1)
    assert counted.runs == 1


def test_word_times_of_what_was_written_cost_no_pass(engine: WhisperEngine) -> None:
    """They are those that a pass over the text gives."""
    steps = _steps(engine)
    prompt = engine.decoder.tokenizer.sot_sequence("en")
    counted = _Counted(steps._graphs["decoder"])
    own = OrtSteps(
        {**steps._graphs, "decoder": counted},  # type: ignore[dict-item] - stands in for a session
        steps.abilities,
        engine.decoder.tokenizer.special,
        steps.shape,
    )
    mel = _mel()
    encoded = own.encode(mel, 500)
    text = own.generate(encoded, prompt).tokens
    written = counted.runs
    free = own.score(encoded, prompt, text, mel.shape[1])
    assert counted.runs == written
    paid = own.score(own.encode(mel, 500), prompt, text, mel.shape[1])
    assert counted.runs == written + 1
    assert free.probabilities == pytest.approx(paid.probabilities, abs=0.1)
    assert free.end_probability == pytest.approx(paid.end_probability, abs=0.1)
    starts = [dict(reversed(one.path)) for one in (free, paid)]
    assert starts[0].keys() == starts[1].keys() == set(range(len(text) + 1))
    assert max(abs(starts[0][token] - starts[1][token]) for token in starts[0]) <= 2


@pytest.mark.parametrize("damage", ["none", "one wrong", "cut short", "too long", "other words", "empty"])
@pytest.mark.parametrize("number", range(4))
def test_speculation_loses_nothing(engine: WhisperEngine, damage: str, number: int) -> None:
    """Whatever the draft, what comes out is what greedy decoding gives, token by token."""
    steps, prompt, mel = _steps(engine), engine.decoder.tokenizer.sot_sequence("en"), _mel(number)
    plain = steps.generate(steps.encode(mel, 500), prompt).tokens
    middle = len(plain) // 2
    draft = {
        "none": plain,
        "one wrong": (*plain[:middle], 257, *plain[middle + 1 :]),
        "cut short": plain[:-3],
        "too long": (*plain, 262, 1573),
        "other words": tuple(engine.decoder.tokenizer.encode(" Something else was said here.")),
        "empty": (),
    }[damage]
    found = speculate.verify(steps, steps.encode(mel, 500), prompt, draft, frames=mel.shape[1])
    assert (found.tokens, found.ended) == (plain, True)


def test_the_hypothesis_before_pays_while_one_speaks(directory: Path) -> None:
    """After the warm-up, and with every step forward, decoding the sound anew would cost more. What is in the
    cache already costs nothing to write again: the books must not take that for the price of a token."""
    fresh = ort.open_engine(_config(directory))
    fresh.warm_up()
    growing = DecodeOptions(language="en", words=True, growing=True)
    heard = None
    for clip in corpus.clips(set="en_read_ljspeech")[:2]:
        pcm = read_audio(clip.path)
        for end in range(12800, min(len(pcm), 96000), 8000):
            heard = fresh.transcribe(pcm[:end], options=growing, draft=heard if end > 12800 else None)
    (entry,) = fresh.draft_statistics
    assert entry.kind == "history"
    assert entry.on
    assert entry.saved_ms > 0


def test_an_encoder_output_knows_its_window(engine: WhisperEngine) -> None:
    """Silence is appended to what the decoder sees, not encoded."""
    heard = _steps(engine).encode(_mel(), 500)
    assert isinstance(heard, Heard)
    assert (heard.hidden.shape[1], heard.positions) == (_mel().shape[1] // 2, 500)


@settings(deadline=None)
@given(
    st.integers(1, 12).flatmap(lambda rows: st.integers(1, 30).map(lambda columns: (rows, columns))),
    st.integers(0, 2**32 - 1),
)
def test_the_cheapest_path_is_found(shape: tuple[int, int], seed: int) -> None:
    """Row by row gives what cell by cell gives."""
    cost = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    total = np.full((shape[0] + 1, shape[1] + 1), np.inf)
    total[0, 0] = 0.0
    for row in range(1, shape[0] + 1):
        for column in range(1, shape[1] + 1):
            before = min(total[row - 1, column - 1], total[row - 1, column], total[row, column - 1])
            total[row, column] = float(cost[row - 1, column - 1]) + before
    path = warp._path(cost)
    assert path[-1] == (shape[0] - 1, shape[1] - 1)
    assert sum(float(cost[place]) for place in path) == pytest.approx(total[shape], abs=1e-6)


@given(st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=40))
def test_the_running_median_is_one(values: list[float]) -> None:
    """Of seven, the ends mirrored."""
    row = np.array(values, dtype=np.float32)
    padded = np.pad(row, 3, mode="reflect")
    wanted = [np.median(padded[place : place + 7]) for place in range(len(row))]
    assert warp._smoothed(row[None, None])[0, 0].tolist() == pytest.approx(wanted)
