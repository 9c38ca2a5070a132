"""Conversion: a Hugging Face checkpoint with random weights in Breeze's vocabulary, and the ONNX form."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.decoding.tokens import Tokenizer, roundtrip_faults
from edge_agent.engine.base import EngineConfig, open_engine
from edge_agent.errors import DigestMismatch, ModelError, ModelMissing
from edge_agent.models.convert import convert_to_onnx, import_checkpoint
from edge_agent.models.mapped import map_ct2, map_safetensors
from edge_agent.models.store import ModelStore
from edge_agent.types import DecodeOptions
from tests.unit.engine.real import model_dir

LARGE_V2 = {"mels": 80, "width": 1280, "layers": 32}
SMALL = {"mels": 80, "width": 128, "layers": 2}


def _arrays(mels: int, width: int, layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a WhisperForConditionalGeneration."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.encoder.conv1.weight": (width, mels, 3),
        "model.encoder.conv1.bias": (width,),
        "model.encoder.conv2.weight": (width, width, 3),
        "model.encoder.conv2.bias": (width,),
        "model.encoder.embed_positions.weight": (1500, width),
        "model.decoder.embed_tokens.weight": (vocabulary, width),
        "model.decoder.embed_positions.weight": (448, width),
    }

    def linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    for side, kinds in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "encoder_attn"))):
        norm(f"model.{side}.layer_norm")
        for layer in range(layers):
            at = f"model.{side}.layers.{layer}"
            for kind in kinds:
                norm(f"{at}.{kind}_layer_norm")
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    linear(f"{at}.{kind}.{part}", width, width, bias=part != "k_proj")
            norm(f"{at}.final_layer_norm")
            linear(f"{at}.fc1", 4 * width, width)
            linear(f"{at}.fc2", width, 4 * width)
    return shapes


def _save(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    """A safetensors file of small random numbers, one array in memory at a time."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    block = np.random.default_rng(0).normal(0.0, 0.02, 1_000_003).astype(np.float32)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            array = np.resize(block, shape)
            if "norm.weight" in name:
                array += 1
            kept = (array.view(np.uint32) >> 16).astype(np.uint16) if dtype == "BF16" else array.astype("<f2")
            file.write(kept.tobytes())


def checkpoint(directory: Path, *, mels: int, width: int, layers: int, dtype: str = "F16") -> Path:
    """A checkpoint in the multilingual vocabulary, as transformers writes it."""
    published = model_dir("whisper-base", prepared=False)
    tokens = (published / "vocabulary.txt").read_text(encoding="utf-8").split("\n")[:51865]
    directory.mkdir(parents=True)
    _save(directory / "model.safetensors", _arrays(mels, width, layers, len(tokens)), dtype)
    heads = width // 64
    config = {
        "model_type": "whisper", "num_mel_bins": mels, "d_model": width, "encoder_layers": layers,
        "decoder_layers": layers, "vocab_size": len(tokens), "decoder_attention_heads": heads,
        "encoder_attention_heads": heads,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    generation = {
        "alignment_heads": [[layers - 1, 0]],
        "lang_to_id": {"<|en|>": 50259, "<|zh|>": 50260},
        "suppress_tokens": [1, 2, 7],
        "begin_suppress_tokens": [220, 50257],
    }
    (directory / "generation_config.json").write_text(json.dumps(generation))
    (directory / "preprocessor_config.json").write_text(json.dumps({"feature_size": mels}))
    described = json.loads((published / "tokenizer.json").read_text(encoding="utf-8"))
    (directory / "vocab.json").write_text(json.dumps(described["model"]["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in described["model"]["merges"]]
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    added = {token["content"]: token["id"] for token in described["added_tokens"]}
    (directory / "added_tokens.json").write_text(json.dumps(added))
    return directory


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


@pytest.mark.slow
def test_the_shape_of_breeze_converts(tmp_path: Path) -> None:
    """Random weights in the shape of large-v2: converted array by array, prepared, and loaded."""
    from edge_agent.models.prepare import prepare

    store = ModelStore(tmp_path / "store", catalog={})
    import_checkpoint("breeze-asr-25", checkpoint(tmp_path / "hf", **LARGE_V2), store)
    assert roundtrip_faults(store.published_dir("breeze-asr-25")) == ()
    assert store.published_dir("breeze-asr-25").joinpath("model.bin").stat().st_size > 3_000_000_000
    engine = open_engine(
        EngineConfig(kind="ctranslate2", model_dir=prepare("breeze-asr-25", store), model_name="breeze@0")
    )
    engine.transcribe(np.ones(8000, dtype=np.float32) * 0.1, options=DecodeOptions(language="zh"))
