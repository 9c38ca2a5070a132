"""A prepared model is smaller, loads faster, and says the same to the last bit."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.audio.files import read_audio
from edge_agent.decoding.features import fit, log_mel
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.errors import DigestMismatch, ModelError
from edge_agent.models.files import sha256_of, write_json
from edge_agent.models.manifest import read_prepared
from edge_agent.models.prepare import prepare
from edge_agent.models.rows import Layout
from edge_agent.models.seal import read_manifest, seal
from edge_agent.models.store import ModelStore
from edge_agent.models.weights import Header, WeightsReader, WeightsWriter, quantise_rows
from edge_agent.verbs.common import models_dir
from edge_agent.verbs.models_golden import golden_faults
from tests.corpus import clips


@pytest.fixture(scope="module", params=["whisper-base", "whisper-tiny.en"])
def name(request: pytest.FixtureRequest) -> str:
    """Each model of the catalogue."""
    return str(request.param)


@pytest.fixture
def store(tmp_path: Path, name: str) -> ModelStore:
    """A store of its own for tests that change it."""
    return linked(tmp_path, name)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, name: str) -> ModelStore:
    """A store with the model prepared, for tests that only read."""
    store = linked(tmp_path_factory.mktemp("ready"), name)
    prepare(name, store)
    return store


def linked(place: Path, name: str) -> ModelStore:
    """A store with the published files linked in; skipped where the machine has no such model."""
    here = ModelStore(models_dir())
    if not here.has_source(name):
        pytest.skip(f"pull it first with: edge-agent models pull {name}")
    store = ModelStore(place / "models")
    store.source_dir(name).mkdir(parents=True)
    for path in here.published_dir(name).iterdir():
        if path.name == "manifest.json":
            write_json(store.source_dir(name) / path.name, msgspec.json.decode(path.read_bytes()))
        else:
            (store.source_dir(name) / path.name).symlink_to(path)
    return store


def whisper(directory: Path) -> Any:
    """The model at int8, one thread."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    return ctranslate2.models.Whisper(str(directory), compute_type="int8", intra_threads=1)


def test_encoder_bits_and_tokens_are_those_of_the_published_model(ready: ModelStore, name: str) -> None:
    """Loading int8 weights gives bit for bit what quantising at load gives."""
    import ctranslate2

    published, prepared = whisper(ready.source_dir(name)), whisper(ready.prepared_dir(name))
    prompt = Tokenizer(ready.source_dir(name)).sot_sequence("en")
    told = read_prepared(ready.prepared_dir(name))
    assert told is not None
    rows = [told.ids.get(token, token) for token in prompt]
    tokens = {row: token for token, row in told.ids.items()}
    for clip in clips(set="en_read_kathleen")[:2]:
        mel = ctranslate2.StorageView.from_array(fit(log_mel(read_audio(clip.path), 80), 1000)[None])
        theirs, ours = published.encode(mel), prepared.encode(mel)
        assert np.array_equal(np.array(theirs), np.array(ours))
        for beam in (1, 5):
            wanted = published.generate(theirs, [prompt], beam_size=beam)[0].sequences_ids
            [heard] = prepared.generate(ours, [rows], beam_size=beam)[0].sequences_ids
            assert [tokens.get(row, row) for row in heard] == wanted[0]


def test_the_judge_stands_beside_the_model(ready: ModelStore, name: str) -> None:
    """It judges the model's own choices above one half, also those the model itself gives less."""
    import ctranslate2

    told = read_prepared(ready.prepared_dir(name))
    assert told is not None
    assert told.eot_mirror is not None
    prepared, judge = whisper(ready.prepared_dir(name)), whisper(ready.prepared_dir(name) / told.judge)
    prompt = Tokenizer(ready.source_dir(name)).sot_sequence("en")
    rows = [told.ids.get(token, token) for token in prompt]
    doubted = proven = 0
    for clip in clips(set="en_read_kathleen")[:12]:
        mel = ctranslate2.StorageView.from_array(fit(log_mel(read_audio(clip.path), 80), 1000)[None])
        sound = prepared.encode(mel)
        [heard] = prepared.generate(sound, [rows], beam_size=1)[0].sequences_ids
        text = [[*heard, told.eot_mirror]]
        chances = prepared.align(sound, rows[:-1], text, 1000)[0].text_token_probs
        judged = judge.align(sound, rows[:-1], text, 1000)[0].text_token_probs
        assert all(sure > 0.5 for sure, chance in zip(judged, chances, strict=True) if chance > 0.55)
        doubted += sum(chance <= 0.5 for chance in chances)
        proven += sum(sure > 0.5 for sure, chance in zip(judged, chances, strict=True) if chance <= 0.5)
    assert doubted or name != "whisper-base"  # the small model is surer of these sentences
    assert proven >= doubted / 2


@pytest.mark.parametrize("layout", ["plain", "parallel-prefix"])
def test_the_golden_clip_proves_each_layout(store: ModelStore, name: str, layout: Layout) -> None:
    """Same tokens; the scoring pass sees the end; a prefix read in one pass goes on with the same tokens."""
    directory = prepare(name, store, layout=layout)
    told = read_prepared(directory)
    assert told is not None
    assert told.eot_mirror is not None
    assert told.layout == (layout if name == "whisper-base" else "plain")
    assert golden_faults(store.source_dir(name), directory) == ()


def test_the_golden_check_sees_a_damaged_model(store: ModelStore, name: str) -> None:
    """A prepared model whose numbers are wrong does not pass."""
    directory = prepare(name, store)
    weights = (directory / "model.bin").read_bytes()
    reader = WeightsReader(io.BytesIO(weights))
    with (directory / "model.bin").open("wb") as file:
        writer = WeightsWriter(file, reader.header)
        for key, array in reader.variables():
            writer.add(key, np.zeros_like(array) if key.endswith("layer_0/ffn/linear_0/weight") else array)
        writer.finish(reader.aliases())
    assert golden_faults(store.source_dir(name), directory) != ()


def test_the_vocabulary_and_tokenizer_stay_standard(store: ModelStore, name: str) -> None:
    """Wherever rows lie, tokens are told by their standard ids, and the tokenizer is repaired on disk."""
    published = Tokenizer(store.source_dir(name))
    ours = Tokenizer(prepare(name, store, layout="parallel-prefix"))
    assert ours.vocabulary == published.vocabulary
    assert ours.encode(" then the crane") == published.encode(" then the crane")
    merges = json.loads((store.prepared_dir(name) / "tokenizer.json").read_text())["model"]["merges"]
    assert len(merges) == 50_000


def test_the_store_gives_out_the_prepared_form_for_int8_only(store: ModelStore, name: str) -> None:
    """Other compute types want the published numbers; the published name stays that of the source."""
    before = store.published_name(name)
    directory = prepare(name, store)
    assert store.path(name) == directory
    assert store.path(name, compute_type="float32") == store.source_dir(name)
    assert store.published_name(name) == before
    store.prune(keep=[name], sources=True)
    assert store.path(name) == directory
    assert store.published_name(name) == before


def test_a_damaged_prepared_form_is_passed_over(store: ModelStore, name: str) -> None:
    """The published files serve while they are there; without them the damage is an error."""
    os.truncate(prepare(name, store) / "model.bin", 1000)
    assert store.path(name) == store.source_dir(name)
    (store.source_dir(name) / "manifest.json").unlink()
    with pytest.raises(DigestMismatch, match="1,000 bytes"):
        store.path(name)


def test_wrong_alignment_heads_are_refused(store: ModelStore, name: str) -> None:
    """A model whose configuration names heads it does not have is left as published."""
    config = store.source_dir(name) / "config.json"
    text = config.read_text().replace('"alignment_heads": [', '"alignment_heads": [[99, 0],', 1)
    config.unlink()
    config.write_text(text)
    digests = read_manifest(store.source_dir(name)).digests
    seal(store.source_dir(name), name, {**digests, "config.json": sha256_of(config)})
    with pytest.raises(ModelError, match="alignment heads"):
        prepare(name, store)
    assert not store.prepared_dir(name).exists()
    assert not list(store.root.rglob("*.partial"))


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.floats(-100, 100, width=32),
    )
)
def test_quantised_rows_are_within_half_a_step(weight: np.ndarray[Any, Any]) -> None:
    """Every number is its int8 value divided by the row's scale, to half a step; the largest reaches 127."""
    stored, scale = quantise_rows(weight)
    step = 1 / scale[:, None]
    assert np.all(np.abs(stored / scale[:, None] - weight) <= 0.5001 * step + 1e-30)
    assert np.all(np.abs(stored).max(axis=1)[np.abs(weight).max(axis=1) > 1e-30] == 127)


@given(
    st.dictionaries(
        st.text("abc/_", min_size=1, max_size=20),
        hnp.arrays(
            st.sampled_from([np.float16, np.float32, np.int8, np.int16, np.int32]),
            hnp.array_shapes(min_dims=0, max_side=5),
            elements=st.integers(0, 100),
        ),
        max_size=5,
    )
)
def test_weights_come_back_as_written(variables: dict[str, np.ndarray[Any, Any]]) -> None:
    """Writing and reading a file is the identity."""
    file = io.BytesIO()
    header = Header(binary_version=6, model_class="WhisperSpec", revision=3, variables=len(variables))
    writer = WeightsWriter(file, header)
    for key, array in variables.items():
        writer.add(key, array)
    writer.finish([("alias", "name")])
    file.seek(0)
    reader = WeightsReader(file)
    assert reader.header == header
    for (key, array), (back_key, back) in zip(variables.items(), reader.variables(), strict=True):
        assert key == back_key
        assert array.dtype == back.dtype
        assert np.array_equal(array, back)
    assert reader.aliases() == [("alias", "name")]


@given(st.binary(max_size=200))
def test_bytes_that_are_no_weights_are_refused(data: bytes) -> None:
    """Anything else ends in a ValueError, not in a crash or a huge allocation."""
    try:
        reader = WeightsReader(io.BytesIO(data))
        for _ in reader.variables():
            pass
        reader.aliases()
    except ValueError:
        pass
