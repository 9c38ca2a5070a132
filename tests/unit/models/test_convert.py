"""Conversion: a Hugging Face checkpoint with random weights in Breeze's vocabulary, and the ONNX form."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.decoding.tokens import Tokenizer, roundtrip_faults
from edge_agent.decoding.vocabulary import load_vocabulary
from edge_agent.engine.base import EngineConfig, open_engine
from edge_agent.errors import DigestMismatch, DiskFull, ModelError, ModelMissing
from edge_agent.models.convert import convert_to_onnx, import_checkpoint
from edge_agent.models.mapped import map_ct2, map_safetensors
from edge_agent.models.store import ModelStore
from edge_agent.types import DecodeOptions
from tests.benchmarks import conversion
from tests.checkpoints import LARGE_V2, SMALL, checkpoint
from tests.unit.engine.real import model_dir
from tests.unit.outbox.test_faults import small_disk


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one layer; not to be changed."""
    return checkpoint(tmp_path_factory.mktemp("smallest") / "hf", mels=80, width=64, layers=1)


@pytest.fixture
def source(smallest: Path, tmp_path: Path) -> Path:
    """The same, of which files may be replaced."""
    return Path(shutil.copytree(smallest, tmp_path / "hf", copy_function=os.link))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """The small checkpoint, in a store as "breeze"."""
    root = tmp_path_factory.mktemp("convert")
    store = ModelStore(root / "store", catalog={})
    import_checkpoint("breeze", checkpoint(root / "hf", dtype="BF16", **SMALL), store)
    return store


def test_a_checkpoint_becomes_a_model_that_loads(imported: ModelStore) -> None:
    """CTranslate2 takes it, with the vocabulary, the prompt tokens and the tokenizer in place."""
    directory = imported.published_dir("breeze")
    tokenizer = Tokenizer(directory)
    for text in (" then the crane", " 我想要 check 一下"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(" then")) == 1  # the merge that some published files lack
    engine = open_engine(
        EngineConfig(kind="ctranslate2", model_dir=directory, model_name="breeze@0", compute_type="float32")
    )
    assert {"en", "zh"} <= set(engine.info.languages)
    engine.transcribe(np.ones(8000, dtype=np.float32) * 0.1, options=DecodeOptions(language="zh"))


def test_the_weights_are_where_they_belong(imported: ModelStore, tmp_path: Path) -> None:
    """Joined projections hold query, key and value in this order, the key's missing bias as zeros."""
    theirs = map_safetensors(checkpoint(tmp_path / "hf", dtype="BF16", **SMALL))
    ours = map_ct2(imported.published_dir("breeze") / "model.bin")
    at = "model.decoder.layers.1.encoder_attn."
    joined = np.concatenate([theirs[f"{at}k_proj.weight"], theirs[f"{at}v_proj.weight"]])
    assert np.array_equal(ours["decoder/layer_1/attention/linear_1/weight"], joined.astype(np.float16))
    bias = ours["decoder/layer_1/self_attention/linear_0/bias"]
    assert not bias[128:256].any()
    assert bias[:128].any()
    assert int(ours["encoder/num_heads"]) == 2


def test_both_engines_agree_on_it(imported: ModelStore) -> None:
    """The ONNX form and CTranslate2 compute the same function of the converted weights."""
    directory = convert_to_onnx("breeze", imported, "float32")
    assert imported.onnx_path("breeze", "float32") == directory
    assert imported.verify("breeze") == ()
    mel = np.random.default_rng(0).normal(0, 0.5, (80, 400)).astype(np.float32)
    prompt = [50258, 50259, 50359, 50363]
    scores = []
    for kind, place in (("onnxruntime", directory), ("ctranslate2", imported.published_dir("breeze"))):
        engine: Any = open_engine(
            EngineConfig(kind=kind, model_dir=place, model_name="breeze@0", compute_type="float32")
        )
        encoded = engine.steps.encode(mel)
        hidden = getattr(encoded, "hidden", encoded)
        scores.append((np.array(hidden), engine.steps.generate(encoded, prompt, max_new=5)))
    assert np.abs(scores[0][0] - scores[1][0]).max() < 1e-3
    assert scores[0][1].tokens == scores[1][1].tokens


def test_a_damaged_onnx_form_is_found(smallest: Path, tmp_path: Path) -> None:
    """At load by its size, and by `models verify` to the last byte."""
    store = ModelStore(tmp_path, catalog={})
    import_checkpoint("breeze", smallest, store)
    weights = convert_to_onnx("breeze", store, "int8") / "decoder.bin"
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(data)
    assert "decoder.bin" in store.verify("breeze")[0]
    weights.write_bytes(data[:-1])
    with pytest.raises(DigestMismatch, match=r"decoder\.bin is damaged"):
        store.onnx_path("breeze", "int8")


@pytest.mark.slow
def test_int8_is_close_to_float32(tmp_path: Path) -> None:
    """Weights in blocks of 64 leave the encoder's output nearly as it was, at a quarter of the size."""
    store = ModelStore(tmp_path, catalog={})
    store.import_dir("whisper-tiny.en", model_dir("whisper-tiny.en", prepared=False))
    mel = np.random.default_rng(0).normal(0, 0.3, (80, 400)).astype(np.float32)
    outputs, sizes = [], []
    for precision in ("float32", "int8"):
        directory = convert_to_onnx("whisper-tiny.en", store, precision)  # type: ignore[arg-type] - a literal
        engine: Any = open_engine(EngineConfig(kind="onnxruntime", model_dir=directory, model_name="m@0"))
        outputs.append(engine.steps.encode(mel).hidden)
        sizes.append(sum(path.stat().st_size for path in directory.glob("*.bin")))
    assert np.abs(outputs[0] - outputs[1]).mean() < 0.05 * outputs[0].std()
    assert sizes[1] < 0.3 * sizes[0]


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", '{"model_type": "bert"}', "not whisper"),
        ("config.json", "{]", "cannot be converted"),
        ("model.safetensors", "short", "not a safetensors file"),
        ("merges.txt", None, "merges.txt"),
        ("generation_config.json", '{"alignment_heads": [[9, 0]]}', "alignment heads"),
        ("generation_config.json", '{"lang_to_id": {"<|zh|>": 50259}}', "languages"),
    ],
)
def test_what_does_not_fit_is_refused(
    source: Path, tmp_path: Path, file: str, content: str | None, says: str
) -> None:
    """Nothing of it reaches the store."""
    (source / file).unlink()
    if content is not None:
        (source / file).write_text(content)
    store = ModelStore(tmp_path / "store", catalog={})
    with pytest.raises(ModelError, match=says) as caught:
        import_checkpoint("breeze", source, store)
    assert "\n" not in str(caught.value)
    assert store.list() == ()


def test_a_size_that_config_denies_is_refused(source: Path, tmp_path: Path) -> None:
    """A checkpoint whose config.json is of another model."""
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").unlink()
    (source / "config.json").write_text(json.dumps({**config, "num_mel_bins": 128}))
    with pytest.raises(ModelError, match="num_mel_bins 128, not 80"):
        import_checkpoint("breeze", source, ModelStore(tmp_path / "store", catalog={}))


def test_a_new_import_takes_the_old_forms_away(smallest: Path, tmp_path: Path) -> None:
    """An ONNX form of other weights would answer in the name of the new ones."""
    store = ModelStore(tmp_path, catalog={})
    import_checkpoint("breeze", smallest, store)
    convert_to_onnx("breeze", store, "int8")
    assert store.onnx_path("breeze", "int8").is_dir()
    import_checkpoint("breeze", smallest, store)
    with pytest.raises(ModelMissing, match="--to onnx"):
        store.onnx_path("breeze", "int8")


def test_bfloat16_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    """Opening a checkpoint of any size takes no memory; each array is made float32 by itself."""
    source = checkpoint(tmp_path / "hf", dtype="BF16", **SMALL)
    tracemalloc.start()
    try:
        weights = map_safetensors(source)
        taken = tracemalloc.get_traced_memory()[1]
        table = weights["model.decoder.embed_tokens.weight"]
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table.dtype == np.float32
    assert taken < 1_000_000 < table.nbytes < read


def test_a_full_disk_is_said_to_be_full(smallest: Path, tmp_path: Path) -> None:
    """It is not the checkpoint's fault, and nothing is left behind."""
    with small_disk(tmp_path / "disk", "4m") as folder:
        with pytest.raises(DiskFull, match="no room left"):
            import_checkpoint("breeze", smallest, ModelStore(folder, catalog={}))
        assert [path.name for path in folder.rglob("*") if path.is_file()] == []


def test_a_vocabulary_of_its_own_is_kept(tmp_path: Path) -> None:
    """Ids follow the checkpoint's merges, not those everybody else has."""
    store = ModelStore(tmp_path / "store", catalog={})
    import_checkpoint("own", checkpoint(tmp_path / "hf", mels=80, width=64, layers=1, swapped=200), store)
    ours = load_vocabulary(store.published_dir("own")).tokens
    theirs = load_vocabulary(model_dir("whisper-base", prepared=False)).tokens
    assert sum(one != other for one, other in zip(ours, theirs, strict=True)) == 400
    assert roundtrip_faults(store.published_dir("own")) == ()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_shape_of_breeze_converts(tmp_path: Path) -> None:
    """Random weights in the shape of large-v2, 3 GB of them, with a vocabulary of their own: every form is
    made in less memory than half the model's size, is whole, and recognises."""
    source = checkpoint(tmp_path / "hf", swapped=conversion.SWAPPED, **LARGE_V2)
    for step in ("CTranslate2 float16", "CTranslate2 int8", "ONNX int8"):
        cost = conversion.measure(step, tmp_path / "store", source)
        print(step, cost)
        assert cost.peak_bytes < 0.5 * conversion.size_of(source)
    store = ModelStore(tmp_path / "store", catalog={})
    assert store.verify(conversion.NAME) == ()
    published = store.published_dir(conversion.NAME)
    assert (published / "model.bin").stat().st_size > 3_000_000_000
    assert json.loads((published / "vocabulary.json").read_text()) != list(
        load_vocabulary(model_dir("whisper-base", prepared=False)).tokens
    )
    forms = {
        "ctranslate2": store.prepared_dir(conversion.NAME),
        "onnxruntime": store.onnx_path(conversion.NAME, "int8"),
    }
    shutil.rmtree(source)
    mel = np.random.default_rng(0).normal(0, 0.5, (80, 400)).astype(np.float32)
    hidden = []
    for kind, directory in forms.items():
        engine: Any = open_engine(EngineConfig(kind=kind, model_dir=directory, model_name="breeze@0"))
        encoded = engine.steps.encode(mel)
        hidden.append(np.array(getattr(encoded, "hidden", encoded)).ravel())
        prompt = engine.decoder.tokenizer.sot_sequence("zh")
        assert engine.steps.generate(encoded, prompt, max_new=3).tokens
        engine.close()
        del engine, encoded
    assert np.corrcoef(*hidden)[0, 1] > 0.99
