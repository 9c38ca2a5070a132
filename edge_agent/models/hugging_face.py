"""A Hugging Face checkpoint of Whisper as a CTranslate2 model directory, without PyTorch or transformers.

Made for MediaTek-Research/Breeze-ASR-25 (the shape and vocabulary of Whisper large-v2) and right for every
`WhisperForConditionalGeneration` in safetensors. Shapes, vocabulary and special tokens are checked before
anything is written under its final name.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.decoding.vocabulary import load_vocabulary
from edge_agent.errors import ModelError
from edge_agent.models.mapped import map_safetensors
from edge_agent.models.weights import Header, WeightsWriter
from edge_agent.types import Value

Weights = Mapping[str, NDArray[Any]]
HEAD_WIDTH = 64
_GELU = 3
_HEADER = Header(binary_version=6, model_class="WhisperSpec", revision=3, variables=0)
"""As the converter of CTranslate2 4 writes it."""
_ALIASES = [("decoder/projection/weight", "decoder/embeddings/weight")]
_TIMESTAMPS = 1501
_CARRIED = ("preprocessor_config.json",)


class Shape(Value, frozen=True):
    """Sizes of a checkpoint."""

    mels: int
    width: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int

    @property
    def heads(self) -> int:
        """Whisper's heads are 64 wide in every size."""
        return self.width // HEAD_WIDTH


def convert(source: Path, target: Path) -> Shape:
    """Write model.bin (float16), config.json, vocabulary.json and tokenizer.json into the directory `target`.

    Raises:
        ModelError: `source` is not such a checkpoint, or its parts do not fit each other.
        OSError: no room is left for `target`.
    """
    try:
        weights = map_safetensors(source)
        shape = check_shapes(weights, _json(source / "config.json"))
        tokens = _tokens(source, shape)
        (target / "vocabulary.json").write_text(json.dumps(tokens, ensure_ascii=False), encoding="utf-8")
        load_vocabulary(target)  # the special tokens are all there
        _write_json(target / "tokenizer.json", _tokenizer(source))
        _write_json(target / "config.json", _config(source, shape, tokens))
        with (target / "model.bin").open("wb") as file:
            writer = WeightsWriter(file, _HEADER)
            for name, array in variables(weights, shape):
                writer.add(name, array)
            writer.finish(_ALIASES)
        for name in _CARRIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # not the checkpoint's fault
        raise _unfit(source, error) from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise _unfit(source, error) from error
    return shape


def _unfit(source: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{source} cannot be converted ({type(error).__name__}: {error})",
        remedy="name one with config.json, generation_config.json, the tokenizer and *.safetensors",
    )


def check_shapes(weights: Weights, config: Mapping[str, Any]) -> Shape:
    """The sizes, read from the arrays, held against config.json. ValueError where they do not fit."""
    if config.get("model_type") != "whisper":
        raise ValueError(f'model_type is "{config.get("model_type")}", not whisper')
    vocabulary, width = weights["model.decoder.embed_tokens.weight"].shape
    shape = Shape(
        mels=weights["model.encoder.conv1.weight"].shape[1],
        width=width,
        encoder_layers=_count(weights, "model.encoder.layers."),
        decoder_layers=_count(weights, "model.decoder.layers."),
        vocabulary=vocabulary,
    )
    told = {
        "num_mel_bins": shape.mels,
        "d_model": shape.width,
        "encoder_layers": shape.encoder_layers,
        "decoder_layers": shape.decoder_layers,
        "vocab_size": shape.vocabulary,
        "decoder_attention_heads": shape.heads,
        "encoder_attention_heads": shape.heads,
    }
    wrong = [
        f"{key} {config.get(key)}, not {value}" for key, value in told.items() if config.get(key) != value
    ]
    if wrong:
        raise ValueError(f"config.json does not fit the weights: {', '.join(wrong)}")
    return shape


def variables(weights: Weights, shape: Shape) -> Iterator[tuple[str, NDArray[Any]]]:
    """CTranslate2's variables, in the order of their names."""
    makers = dict(_encoder(weights, shape)) | dict(_decoder(weights, shape))
    for name in sorted(makers):
        made = makers[name]()
        yield name, made if made.dtype != np.float32 else made.astype(np.float16)


def _encoder(weights: Weights, shape: Shape) -> Iterator[tuple[str, Any]]:
    at = "model.encoder."
    yield "encoder/num_heads", lambda: np.array(shape.heads, dtype=np.int16)
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            yield f"encoder/{conv}/{part}", _one(weights, f"{at}{conv}.{part}")
    yield "encoder/position_encodings/encodings", _one(weights, f"{at}embed_positions.weight")
    yield from _norm(weights, "encoder/layer_norm", f"{at}layer_norm")
    for layer in range(shape.encoder_layers):
        yield from _layer(weights, f"encoder/layer_{layer}", f"{at}layers.{layer}.")


def _decoder(weights: Weights, shape: Shape) -> Iterator[tuple[str, Any]]:
    at = "model.decoder."
    flags = {
        "activation": _GELU, "alibi": 0, "pre_norm": 1, "scale_embeddings": 0, "start_from_zero_embedding": 0,
    }  # fmt: skip
    for name, number in flags.items():
        yield f"decoder/{name}", lambda number=number: np.array(number, dtype=np.int8)
    for name, number in {"alignment_heads": 1, "alignment_layer": -1, "num_heads": shape.heads}.items():
        yield f"decoder/{name}", lambda number=number: np.array(number, dtype=np.int16)
    yield "decoder/embeddings/weight", _one(weights, f"{at}embed_tokens.weight")
    yield "decoder/position_encodings/encodings", _one(weights, f"{at}embed_positions.weight")
    yield from _norm(weights, "decoder/layer_norm", f"{at}layer_norm")
    for layer in range(shape.decoder_layers):
        theirs, ours = f"{at}layers.{layer}.", f"decoder/layer_{layer}"
        yield from _layer(weights, ours, theirs)
        yield from _norm(weights, f"{ours}/attention/layer_norm", f"{theirs}encoder_attn_layer_norm")
        for number, parts in enumerate((("q_proj",), ("k_proj", "v_proj"), ("out_proj",))):
            yield from _linear(
                weights,
                f"{ours}/attention/linear_{number}",
                [f"{theirs}encoder_attn.{part}" for part in parts],
            )


def _layer(weights: Weights, ours: str, theirs: str) -> Iterator[tuple[str, Any]]:
    """Self-attention and feed-forward network, the same on both sides."""
    yield from _norm(weights, f"{ours}/self_attention/layer_norm", f"{theirs}self_attn_layer_norm")
    joined = [f"{theirs}self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj")]
    yield from _linear(weights, f"{ours}/self_attention/linear_0", joined)
    yield from _linear(weights, f"{ours}/self_attention/linear_1", [f"{theirs}self_attn.out_proj"])
    yield from _norm(weights, f"{ours}/ffn/layer_norm", f"{theirs}final_layer_norm")
    yield from _linear(weights, f"{ours}/ffn/linear_0", [f"{theirs}fc1"])
    yield from _linear(weights, f"{ours}/ffn/linear_1", [f"{theirs}fc2"])


def _norm(weights: Weights, ours: str, theirs: str) -> Iterator[tuple[str, Any]]:
    yield f"{ours}/gamma", _one(weights, f"{theirs}.weight")
    yield f"{ours}/beta", _one(weights, f"{theirs}.bias")


def _linear(weights: Weights, ours: str, theirs: list[str]) -> Iterator[tuple[str, Any]]:
    """Projections stacked; those without a bias (the keys') get one of zeros."""

    def bias(name: str) -> NDArray[np.float32]:
        if f"{name}.bias" in weights:
            return np.asarray(weights[f"{name}.bias"], dtype=np.float32)
        return np.zeros(weights[f"{name}.weight"].shape[0], dtype=np.float32)

    def weight(name: str) -> NDArray[np.float32]:
        return np.asarray(weights[f"{name}.weight"], dtype=np.float32)

    yield f"{ours}/weight", lambda: np.concatenate([weight(name) for name in theirs])
    yield f"{ours}/bias", lambda: np.concatenate([bias(name) for name in theirs])


def _one(weights: Weights, name: str) -> Any:
    return lambda: np.asarray(weights[name], dtype=np.float32)


def _count(weights: Weights, prefix: str) -> int:
    return 1 + max(int(name[len(prefix) :].split(".")[0]) for name in weights if name.startswith(prefix))


def _tokens(source: Path, shape: Shape) -> list[str]:
    """Every token in the order of its id; timestamps that a tokenizer leaves out are added."""
    ids: dict[str, int] = {}
    if (source / "tokenizer.json").is_file():
        described = _json(source / "tokenizer.json")
        ids |= described["model"]["vocab"]
        ids |= {token["content"]: token["id"] for token in described["added_tokens"]}
    else:
        ids |= _json(source / "vocab.json")
    if (source / "added_tokens.json").is_file():
        ids |= _json(source / "added_tokens.json")
    begin = ids["<|notimestamps|>"] + 1
    ids |= {f"<|{step * 0.02:.2f}|>": begin + step for step in range(_TIMESTAMPS)}
    tokens: list[str | None] = [None] * shape.vocabulary
    for token, place in ids.items():
        tokens[place] = token
    if missing := [place for place, token in enumerate(tokens) if token is None]:
        raise ValueError(f"the vocabulary lacks {len(missing)} tokens, the first of id {missing[0]}")
    return [token for token in tokens if token is not None]


def _tokenizer(source: Path) -> Any:
    """tokenizer.json, made from vocab.json and merges.txt where the checkpoint has only those."""
    if (source / "tokenizer.json").is_file():
        return _json(source / "tokenizer.json")
    lines = (source / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
        "end_of_word_suffix": "", "fuse_unk": False, "vocab": _json(source / "vocab.json"), "merges": merges,
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": {**level, "add_prefix_space": True},
        "model": model,
    }  # fmt: skip


def _config(source: Path, shape: Shape, tokens: list[str]) -> dict[str, Any]:
    """CTranslate2's config.json from generation_config.json."""
    told = _json(source / "generation_config.json")
    heads = told.get("alignment_heads")
    if not heads:  # the reference's choice where nobody measured: every head of the later half
        later = range(shape.decoder_layers // 2, shape.decoder_layers)
        heads = [[layer, head] for layer in later for head in range(shape.heads)]
    if not all(layer < shape.decoder_layers and head < shape.heads for layer, head in heads):
        raise ValueError("generation_config.json names alignment heads this model does not have")
    languages = told.get("lang_to_id") or {}
    wrong = [name for name, place in languages.items() if tokens[place] != name]
    if wrong:
        raise ValueError(f"the languages of generation_config.json are other tokens here: {wrong[:3]}")
    return {
        "alignment_heads": heads,
        "lang_ids": sorted(languages.values()),
        "suppress_ids": told.get("suppress_tokens") or [],
        "suppress_ids_begin": told.get("begin_suppress_tokens") or [],
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
