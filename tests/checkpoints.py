"""Hugging Face checkpoints of Whisper with random weights, as transformers writes them, of any size."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests.unit.engine.real import model_dir

LARGE_V2 = {"mels": 80, "width": 1280, "layers": 32}
"""The shape of Breeze-ASR-25."""
SMALL = {"mels": 80, "width": 128, "layers": 2}
BYTES = 256
"""Tokens before the first product of a merge."""


def arrays(mels: int, width: int, layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
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


def save(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
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


def checkpoint(
    directory: Path, *, mels: int, width: int, layers: int, dtype: str = "F16", swapped: int = 0
) -> Path:
    """A checkpoint in the multilingual vocabulary.

    Args:
        swapped: of the last merges so many pairs change places, and their products ids: a vocabulary that is
            the model's own.
    """
    published = model_dir("whisper-base", prepared=False)
    vocabulary = 51865
    directory.mkdir(parents=True)
    save(directory / "model.safetensors", arrays(mels, width, layers, vocabulary), dtype)
    heads = width // 64
    config = {
        "model_type": "whisper", "num_mel_bins": mels, "d_model": width, "encoder_layers": layers,
        "decoder_layers": layers, "vocab_size": vocabulary, "decoder_attention_heads": heads,
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
    written, merges = described["model"]["vocab"], _merges(described)
    for one, other in swaps(merges, swapped):
        merges[one], merges[other] = merges[other], merges[one]
        for place in (one, other):
            written[merges[place].replace(" ", "")] = BYTES + place
    (directory / "vocab.json").write_text(json.dumps(written))
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    added = {token["content"]: token["id"] for token in described["added_tokens"]}
    (directory / "added_tokens.json").write_text(json.dumps(added))
    return directory


def swaps(merges: list[str], count: int) -> list[tuple[int, int]]:
    """Neighbours among the last merges of which the later needs nothing of the earlier."""
    found = []
    for place in range(len(merges) - 2, 0, -2):
        if len(found) == count:
            break
        made = merges[place].replace(" ", "")
        if made not in merges[place + 1].split(" "):
            found.append((place, place + 1))
    return found


def _merges(described: dict[str, Any]) -> list[str]:
    """As text, the first one put back where the published file lacks it: ids count from it."""
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in described["model"]["merges"]]
    return merges if merges[0] == "Ġ t" else ["Ġ t", *merges]
