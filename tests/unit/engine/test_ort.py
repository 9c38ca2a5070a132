"""Whisper on onnxruntime: the same tokens as CTranslate2, and drafts that change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.files import read_audio
from edge_agent.decoding import features, speculate
from edge_agent.engine import ort_search, ort_session, warp
from edge_agent.engine.base import EngineConfig, open_engine
from edge_agent.engine.ct2 import Ct2Engine
from edge_agent.engine.ort_steps import OrtSteps
from edge_agent.engine.whisper import WhisperEngine
from edge_agent.errors import EngineError, EngineLoadFailed
from edge_agent.models.convert import convert_to_onnx
from edge_agent.models.store import ModelStore
from edge_agent.types import DecodeOptions, PcmFloat
from tests import corpus
from tests.unit.engine.real import model_dir

NAME = "whisper-tiny.en"


def _config(directory: Path, kind: str, **changes: object) -> EngineConfig:
    fields = {"kind": kind, "model_dir": directory, "model_name": "m@0", **changes}
    return EngineConfig(**fields)  # type: ignore[arg-type] - fields vary by test


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny's ONNX form in float32, made here."""
    store = ModelStore(tmp_path_factory.mktemp("store"), catalog={})
    store.import_dir(NAME, model_dir(NAME, prepared=False))
    return convert_to_onnx(NAME, store, "float32")


@pytest.fixture(scope="module")
def engine(directory: Path) -> WhisperEngine:
    """It, open."""
    opened = open_engine(_config(directory, "onnxruntime"))
    assert isinstance(opened, WhisperEngine)
    return opened


@pytest.fixture(scope="module")
def peer() -> Iterator[Ct2Engine]:
    """The same weights on CTranslate2 in float32."""
    config = _config(model_dir(NAME, prepared=False), "ctranslate2", compute_type="float32")
    opened = open_engine(config)
    assert isinstance(opened, Ct2Engine)
    yield opened
    opened.close()


def _sound(number: int = 0) -> PcmFloat:
    return read_audio(corpus.clips(set="en_read_kathleen")[number].path)


def _heard(engine: WhisperEngine, number: int = 0) -> tuple[object, list[int], int]:
    """Encoder output of a clip in a 10 s window, the prompt, and the frames of sound."""
    mel = features.log_mel(_sound(number), 80)
    fitted = features.fit(mel, 1000, padding=features.silence_value(mel))
    return engine.steps.encode(fitted), engine.decoder.tokenizer.sot_sequence("en"), mel.shape[1]


def test_the_encoder_is_the_same_function(engine: WhisperEngine, peer: Ct2Engine) -> None:
    """Positions of the 30 s window agree to float32's rounding, kept silence included."""
    mel = features.fit(features.log_mel(_sound(), 80), 600)
    ours = engine.steps.encode(mel, 500)
    theirs = np.array(peer.steps.encode(mel, 500))
    assert (ours.hidden.shape, ours.positions, theirs.shape) == ((1, 300, 384), 500, (1, 500, 384))
    assert np.abs(ours.hidden - theirs[:, :300]).max() < 1e-3


@pytest.mark.parametrize("number", range(3))
def test_same_tokens_as_ctranslate2(engine: WhisperEngine, peer: Ct2Engine, number: int) -> None:
    """Token by token, greedy, with probabilities that agree; word times within two positions."""
    options = DecodeOptions(words=True)
    ours = engine.transcribe(_sound(number), options=options)
    theirs = peer.transcribe(_sound(number), options=options)
    assert ours.tokens == theirs.tokens
    assert ours.avg_logprob == pytest.approx(theirs.avg_logprob, abs=1e-3)
    assert ours.no_speech_prob == pytest.approx(theirs.no_speech_prob, abs=1e-3)
    assert [word.text for word in ours.words] == [word.text for word in theirs.words]
    far = [abs(a.start_s - b.start_s) for a, b in zip(ours.words, theirs.words, strict=True)]
    assert np.median(far) <= 0.041


def test_beam_search_finds_the_same_text(engine: WhisperEngine, peer: Ct2Engine) -> None:
    """Five hypotheses, their caches reordered inside the graph."""
    ours = engine.transcribe(_sound(), options=DecodeOptions(beam=5))
    assert ours.tokens == peer.transcribe(_sound(), options=DecodeOptions(beam=5)).tokens


@pytest.mark.parametrize("damage", ["none", "one wrong", "cut short", "too long", "other words", "empty"])
def test_speculation_loses_nothing(engine: WhisperEngine, damage: str) -> None:
    """Whatever the draft, what comes out is what greedy decoding gives, token by token."""
    encoded, prompt, frames = _heard(engine)
    plain = engine.steps.generate(encoded, prompt).tokens
    draft = {
        "none": plain,
        "one wrong": (*plain[:4], 257, *plain[5:]),
        "cut short": plain[:-3],
        "too long": (*plain, 262, 1573),
        "other words": tuple(engine.decoder.tokenizer.encode(" Something else was said here.")),
        "empty": (),
    }[damage]
    fresh, _, _ = _heard(engine)
    found = speculate.verify(engine.steps, fresh, prompt, draft, frames=frames)
    assert found.tokens == plain
    assert found.ended
    assert damage != "none" or (found.passes == 1 and found.accepted == len(plain)) or found.passes == 2


def test_a_place_is_returned_to(engine: WhisperEngine) -> None:
    """After reading something else, going on from a prefix gives what a fresh start gives."""
    encoded, prompt, frames = _heard(engine)
    plain = engine.steps.generate(encoded, prompt).tokens
    engine.steps.score(encoded, prompt, [257] * 90, frames)  # also makes the cache grow
    for place in (0, 3, len(plain) - 1):
        found = engine.steps.generate(encoded, prompt, prefix=plain[:place])
        assert found.tokens == plain[place:]


def test_proofs_are_exact(engine: WhisperEngine) -> None:
    """Greedy's own tokens are each the best, a changed one is not, and neither is the end before it."""
    encoded, prompt, _ = _heard(engine)
    plain = engine.steps.generate(encoded, prompt).tokens
    margins = engine.steps.prove(encoded, prompt, plain)
    assert len(margins) == len(plain) + 1
    assert min(margins) > 0
    assert engine.steps.prove(encoded, prompt, [*plain[:2], 257])[2] < 0
    assert engine.steps.prove(encoded, prompt, plain[:3])[3] < 0


def _likely(engine: WhisperEngine, given: list[int], count: int, width: int) -> list[tuple[int, ...]]:
    """Branches as Medusa's heads would draft them, by heads that are right one time in two."""
    rng = np.random.default_rng(len(given))
    encoded, prompt, _ = _heard(engine)
    right = engine.steps.generate(encoded, prompt, prefix=given, max_new=count).tokens
    drafted = [
        tuple(token if rng.random() < 0.5 + 0.3 * (branch == 0) else 257 + branch for token in right)
        for branch in range(width)
    ]
    return [*drafted, right[:1]]


def test_a_tree_is_judged_as_each_of_its_paths_is(engine: WhisperEngine) -> None:
    """One pass over several branches gives what sequential reading of each gives, and forgets them."""
    steps = engine.steps
    assert isinstance(steps, OrtSteps)
    encoded, prompt, _ = _heard(engine)
    plain = steps.generate(encoded, prompt).tokens
    branches = [plain, (*plain[:2], 257, *plain[3:]), plain[:4], (), (*plain[:2], 257, 262)]
    kept = {name: value.copy() for name, value in encoded.cache.arrays.items()}
    found = steps.prove_branches(encoded, prompt, branches)
    for branch, margins in zip(branches, found, strict=True):
        fresh, _, _ = _heard(engine)
        assert margins == pytest.approx(steps.prove(fresh, prompt, branch), abs=1e-4)
    assert min(found[0]) > 0
    assert [found[1][2] < 0, found[2][4] < 0, found[3][0] < 0] == [True, True, True]
    assert all(np.array_equal(kept[name], value) for name, value in encoded.cache.arrays.items())
    assert steps.generate(encoded, prompt).tokens == plain


def test_trees_of_drafted_tokens_lose_nothing(engine: WhisperEngine) -> None:
    """Several heads draft, one pass judges, the longest proven path stays: greedy's text, in fewer passes."""
    steps = engine.steps
    assert isinstance(steps, OrtSteps)
    encoded, prompt, _ = _heard(engine)
    plain = steps.generate(encoded, prompt)
    written: list[int] = []
    passes, ended = 0, False
    while not ended:
        branches = _likely(engine, written, 4, 3)
        judged = steps.prove_branches(encoded, [*prompt, *written], branches)
        passes += 1
        kept = 0
        for branch, margins in zip(branches, judged, strict=True):
            proven = next((place for place, margin in enumerate(margins) if margin < 0), len(margins))
            if proven > len(branch):
                kept, ended, best = len(branch), True, branch
                break
            if proven > kept:
                kept, best = proven, branch
        if not kept:  # every head was wrong: one step of plain decoding
            best = steps.generate(encoded, prompt, prefix=written, max_new=1).tokens
            kept, ended = len(best), not best
        written += best[:kept]
    assert tuple(written) == plain.tokens
    assert passes < len(plain.tokens)


def test_a_tree_that_does_not_fit_is_refused(engine: WhisperEngine) -> None:
    """Beyond the decoder's positions."""
    steps = engine.steps
    assert isinstance(steps, OrtSteps)
    encoded, prompt, _ = _heard(engine)
    with pytest.raises(EngineError, match="do not fit"):
        steps.prove_branches(encoded, prompt, [[257] * 448])


def test_values_bound_on_a_device_give_the_same(directory: Path, engine: WhisperEngine) -> None:
    """The path GPUs take, bound values and a cache of full size, on the one device that is here."""
    config = _config(directory, "onnxruntime")
    graphs = {}
    for name in ("encoder", "cross", "decoder"):
        plain = ort_session.open_session(directory / f"{name}.onnx", config)
        graphs[name] = ort_session.BoundSession(plain._session, "cpu")
    theirs = engine.steps
    assert isinstance(theirs, OrtSteps)
    bound = OrtSteps(graphs, theirs.abilities, engine.decoder.tokenizer.special, theirs.shape)
    mel = features.fit(features.log_mel(_sound(), 80), 1000)
    prompt = engine.decoder.tokenizer.sot_sequence("en")
    for beam in (1, 3):
        found = bound.generate(bound.encode(mel), prompt, beam=beam)
        assert found == theirs.generate(theirs.encode(mel), prompt, beam=beam)


def test_a_draft_is_used_by_the_engine(engine: WhisperEngine) -> None:
    """The previous hypothesis of the same sound is taken over in one pass."""
    first = engine.transcribe(_sound(), options=DecodeOptions())
    second = engine.transcribe(_sound(), options=DecodeOptions(), draft=first)
    assert second.tokens == first.tokens
    assert second.cost.accepted_tokens == len(first.tokens)


@pytest.mark.parametrize("damage", ["missing", "rubbish", "other version", "no graph"])
def test_a_damaged_model_is_one_line(tmp_path: Path, directory: Path, damage: str) -> None:
    """Whatever is wrong, the engine is not opened and says what to do."""
    if damage != "missing":
        (tmp_path / "onnx.json").write_bytes((directory / "onnx.json").read_bytes())
    if damage == "rubbish":
        (tmp_path / "onnx.json").write_text("{]")
    if damage == "other version":
        text = (directory / "onnx.json").read_text().replace('"format": 2', '"format": 9')
        (tmp_path / "onnx.json").write_text(text)
    if damage == "no graph":
        for name in ("vocabulary.txt", "tokenizer.json"):
            (tmp_path / name).write_bytes((directory / name).read_bytes())
    with pytest.raises(EngineLoadFailed, match="models convert") as caught:
        open_engine(_config(tmp_path, "onnxruntime"))
    assert "\n" not in str(caught.value)


def test_a_gpu_without_its_provider_is_refused(directory: Path) -> None:
    """The CPU wheel of onnxruntime is not silently used in a GPU's place."""
    with pytest.raises(EngineLoadFailed, match="CUDA provider"):
        open_engine(_config(directory, "onnxruntime", device="cuda"))


def test_wrong_options_and_sounds_are_refused(directory: Path, engine: WhisperEngine) -> None:
    """One line each, naming what would be right."""
    with pytest.raises(EngineLoadFailed, match="options are context"):
        open_engine(_config(directory, "onnxruntime", extra={"speed": 11}))
    with pytest.raises(EngineError, match="30 s"):
        engine.transcribe(np.zeros(16_000 * 31, dtype=np.float32), options=DecodeOptions())


def test_beam_prefers_the_likelier_whole() -> None:
    """A first token that is second best wins when what follows it is surer."""

    def after(tokens: list[int], _order: list[int]) -> np.ndarray:
        sure = np.log(np.array([[0.98, 0.01, 0.01]], dtype=np.float32))
        vague = np.log(np.array([[0.34, 0.33, 0.33]], dtype=np.float32))
        return np.concatenate([sure if token == 2 else vague for token in tokens])

    first = np.log(np.array([0.02, 0.5, 0.48], dtype=np.float32))
    assert ort_search.beam(first, after, eot=0, max_new=5, width=2).tokens == (2,)
    assert ort_search.greedy(first, after, eot=0, max_new=5).tokens[0] == 1


def test_an_end_behind_all_that_goes_on_ends_nothing() -> None:
    """A text that might end here, less likely than `width` ways to go on, is not taken for a finished one."""
    step = np.log(np.array([0.1, 0.3, 0.25, 0.35], dtype=np.float32))
    last = np.log(np.array([0.97, 0.01, 0.01, 0.01], dtype=np.float32))

    def after(tokens: list[int], _order: list[int]) -> np.ndarray:
        lengths.append(len(tokens))
        return np.stack([last if len(lengths) == 3 else step for _ in tokens])

    lengths: list[int] = []
    found = ort_search.beam(step, after, eot=0, max_new=9, width=2)
    assert (len(found.tokens), found.ended) == (3, True)


def test_beam_stops_at_the_longest() -> None:
    """A model that never ends is cut, and says so."""
    never = np.log(np.array([[1e-30, 0.6, 0.4]] * 2, dtype=np.float32))
    found = ort_search.beam(never[0], lambda tokens, _: never[: len(tokens)], eot=0, max_new=4, width=2)
    assert not found.ended
    assert found.tokens == (1, 1, 1, 1)


def test_the_path_follows_the_attention() -> None:
    """Tokens that look at positions 0-9, 10-19 and 20-29 begin there."""
    attention = np.full((2, 3, 40), 1e-4, dtype=np.float32)
    for token in range(3):
        attention[:, token, 10 * token : 10 * token + 10] = 0.1
    starts: dict[int, int] = {}
    for token, position in warp.align(attention, 30):
        starts.setdefault(token, position)
    assert [starts[token] for token in range(3)] == pytest.approx([0, 10, 20], abs=1)
