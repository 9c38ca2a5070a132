"""How an engine for TensorRT-LLM is built, and when one may be loaded. Pure.

An engine file runs only where it was built: its own header names neither the GPU nor the versions, so
`engine.manifest.json` beside it does, and it is loaded on an exact match only. Arguments are held against
`trtllm_contract.json`, read from TensorRT-LLM's source: a flag that is not there is an error here, not after
an hour of building.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal, TypeAlias

import msgspec

from edge_agent.errors import EngineError, EngineLoadFailed
from edge_agent.types import Value

Precision: TypeAlias = Literal["float16", "int8", "int4"]
MANIFEST = "engine.manifest.json"
VERSION = "1.2.1"
"""The last stable TensorRT-LLM that runs engine files (its TensorRT backend was removed after it)."""
FRAMES = 3000
"""Engine lengths of the encoder are counted in feature frames, not in positions."""
POSITIONS = 1500
DECODER_LENGTH = 448
PROMPT_LENGTH = 228
"""Of 448 decoder positions: 224 of prompt as in the reference, and the four task tokens."""


class Sizes(Value, frozen=True):
    """What an engine is built for; all of it is fixed in the file."""

    batch: int = 8
    beam: int = 1
    max_prompt: int = PROMPT_LENGTH
    max_length: int = DECODER_LENGTH


class Key(Value, frozen=True):
    """Everything an engine file depends on."""

    model_sha256: str
    platform: str
    """For example "linux-x86_64"."""
    compute: str
    """Compute capability: "9.0"."""
    cuda: str
    tensorrt: str
    tensorrt_llm: str
    precision: Precision
    sizes: Sizes

    @property
    def name(self) -> str:
        """A directory name that tells it in short."""
        sizes = self.sizes
        return (
            f"{self.model_sha256[:12]}-{self.platform}-sm{self.compute.replace('.', '')}-cu{self.cuda}"
            f"-trt{self.tensorrt}-trtllm{self.tensorrt_llm}-{self.precision}"
            f"-b{sizes.batch}-bw{sizes.beam}-p{sizes.max_prompt}-s{sizes.max_length}"
        )


class Manifest(Value, frozen=True):
    """What `engine.manifest.json` holds."""

    key: Key
    files: dict[str, str]
    """Path -> sha256 of both engines and both configurations."""
    gpu: str
    driver: str
    format: int = 1


def differences(wanted: Key, found: Key) -> tuple[str, ...]:
    """Why an engine may not be loaded, one phrase for each part of the key that differs."""
    mine, theirs = msgspec.to_builtins(wanted), msgspec.to_builtins(found)
    return tuple(
        f"{name.replace('_', ' ')} is {_short(theirs[name])}, here it is {_short(mine[name])}"
        for name in mine
        if mine[name] != theirs[name]
    )


def convert_arguments(checkpoint_dir: str, output_dir: str, precision: Precision) -> list[str]:
    """For examples/models/core/whisper/convert_checkpoint.py.

    Args:
        checkpoint_dir: holds an OpenAI-format checkpoint as `large-v2.pt`. The script opens files by a closed
            list of names, so Breeze-ASR-25's, which has large-v2's shape, is given that one.
    """
    flags: dict[str, str] = {
        "--model_dir": checkpoint_dir,
        "--model_name": "large-v2",
        "--dtype": "float16",
        "--logits_dtype": "float16",
        "--output_dir": output_dir,
    }
    alone = []
    if precision != "float16":
        flags["--weight_only_precision"] = precision
        alone.append("--use_weight_only")
    return checked("convert_checkpoint", flags, alone)


def encoder_arguments(checkpoint_dir: str, output_dir: str, sizes: Sizes) -> list[str]:
    """For trtllm-build, the encoder."""
    flags = {
        "--checkpoint_dir": f"{checkpoint_dir}/encoder",
        "--output_dir": f"{output_dir}/encoder",
        "--moe_plugin": "disable",
        "--max_batch_size": str(sizes.batch),
        "--gemm_plugin": "disable",
        "--bert_attention_plugin": "float16",
        "--max_input_len": str(FRAMES),
        "--max_seq_len": str(FRAMES),
    }
    return checked("trtllm-build", flags)


def decoder_arguments(checkpoint_dir: str, output_dir: str, sizes: Sizes) -> list[str]:
    """For trtllm-build, the decoder: paged cache, packed input, as in-flight batching needs them."""
    flags = {
        "--checkpoint_dir": f"{checkpoint_dir}/decoder",
        "--output_dir": f"{output_dir}/decoder",
        "--moe_plugin": "disable",
        "--max_batch_size": str(sizes.batch),
        "--max_beam_width": str(sizes.beam),
        "--max_seq_len": str(sizes.max_length),
        "--max_input_len": str(sizes.max_prompt),
        "--max_encoder_input_len": str(FRAMES),
        "--gemm_plugin": "float16",
        "--bert_attention_plugin": "float16",
        "--gpt_attention_plugin": "float16",
        "--kv_cache_type": "paged",
        "--remove_input_padding": "enable",
    }
    return checked("trtllm-build", flags)


def checked(command: str, flags: Mapping[str, str], alone: Sequence[str] = ()) -> list[str]:
    """Arguments, every one of which the contract knows.

    Raises:
        EngineError: a flag is unknown, or its value is not among the allowed ones.
    """
    known = {flag["name"]: flag for flag in contract()["commands"][command]["flags"]}
    for name, value in {**flags, **dict.fromkeys(alone, "")}.items():
        choices = known.get(name, {}).get("choices")
        if name not in known or (value and choices and value not in choices):
            raise EngineError(
                f"{command} knows no {name} {value}".rstrip(),
                remedy=f"use TensorRT-LLM {VERSION}, or correct the recipe",
            )
    return [word for name, value in flags.items() for word in (name, value)] + list(alone)


def cross_fraction(beam: int) -> float:
    """Share of the key-value memory for cross attention: 1500 positions an utterance, against 448 tokens for
    each hypothesis."""
    return round(POSITIONS / (POSITIONS + DECODER_LENGTH * beam), 3)


def cache_tokens(sizes: Sizes) -> int:
    """Key-value memory wanted, in tokens: a whole batch, and no more of a card that others share."""
    return sizes.batch * (POSITIONS + DECODER_LENGTH * sizes.beam)


def check_configs(encoder: Mapping[str, Any], decoder: Mapping[str, Any], mels: int, key: Key) -> None:
    """Hold the configurations that TensorRT-LLM wrote against the key and the model.

    Raises:
        EngineLoadFailed: they are of something else.
    """
    built, model = decoder.get("build_config", {}), decoder.get("pretrained_config", {})
    plugins = built.get("plugin_config", {})
    told = {
        "features": (encoder.get("pretrained_config", {}).get("n_mels"), mels),
        "longest prompt": (built.get("max_input_len"), key.sizes.max_prompt),
        "longest text": (built.get("max_seq_len"), key.sizes.max_length),
        "batch": (built.get("max_batch_size"), key.sizes.batch),
        "beam": (built.get("max_beam_width"), key.sizes.beam),
        "packed input": (plugins.get("remove_input_padding"), True),
        "TensorRT-LLM": (decoder.get("version"), key.tensorrt_llm),
        "hidden size": (model.get("hidden_size", 0) % 64, 0),
    }
    wrong = [f"{name} is {found}, not {wanted}" for name, (found, wanted) in told.items() if found != wanted]
    if wrong:
        raise EngineLoadFailed(
            f"the engine's configuration does not fit: {'; '.join(wrong)}",
            remedy="run: edge-agent engines build",
        )


@cache
def contract() -> Any:
    """Flags and signatures of TensorRT-LLM, as read from its source."""
    return json.loads(
        resources.files("edge_agent.engine").joinpath("trtllm_contract.json").read_text("utf-8")
    )


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {number}" for name, number in value.items())
    return str(value)[:12] if len(str(value)) == 64 else str(value)
