"""Engines on disk: `NAME/trtllm/KEY/` beside the model's other forms, each with its manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.engine import trtllm_recipe as recipe
from edge_agent.engine.trtllm_protocol import Environment
from edge_agent.errors import EngineLoadFailed
from edge_agent.files import write_atomically
from edge_agent.types import Value

FILES = ("encoder/config.json", "encoder/rank0.engine", "decoder/config.json", "decoder/rank0.engine")
_BUILD = "run: edge-agent engines build"


class Found(Value, frozen=True):
    """An engine that fits."""

    key: recipe.Key
    directory: Path


def engines_dir(model_dir: Path) -> Path:
    """Where the engines of a stored model are, given one of its forms."""
    return model_dir.parent / "trtllm"


class Recipe(Value, frozen=True):
    """How the engine of a model was built here, to build it again when the machine has changed."""

    checkpoint: str
    examples: str
    precision: str
    batch: int


def remember(model_dir: Path, recipe: Recipe) -> None:
    """Keep it beside the engines. OSError when it cannot be written."""
    write_atomically(_recipe_path(model_dir), msgspec.json.encode(recipe))


def recalled(model_dir: Path) -> Recipe | None:
    """What was kept; None: no engine of this model was built here.

    Raises:
        EngineLoadFailed: it cannot be read.
    """
    path = _recipe_path(model_dir)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recipe)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise EngineLoadFailed(f"{path} cannot be used: {error}", remedy=_BUILD) from error


def _recipe_path(model_dir: Path) -> Path:
    return engines_dir(model_dir).with_suffix(".json")


def find(model_dir: Path, wanted: recipe.Key, environment: Environment, mels: int) -> Found:
    """The engine built for exactly this.

    Raises:
        EngineLoadFailed: none was, or its files are not those it was sealed with; says what differs.
    """
    if environment.driver == "pytorch":
        return Found(
            key=wanted, directory=model_dir
        )  # this version runs checkpoints; there is no engine file
    directory = engines_dir(model_dir) / wanted.name
    if read(directory) is None:
        again = "" if recalled(model_dir) is None else "; edge-agent-engines.timer builds it again"
        raise EngineLoadFailed(f"{_why_none(engines_dir(model_dir), wanted)}{again}", remedy=_BUILD)
    return checked(directory, wanted, mels)


def checked(directory: Path, wanted: recipe.Key, mels: int) -> Found:
    """An engine held against the key, its digests and its configurations.

    Raises:
        EngineLoadFailed: something differs.
    """
    manifest = read(directory)
    if manifest is None:
        raise EngineLoadFailed(f"{directory} holds no {recipe.MANIFEST}", remedy=_BUILD)
    other = recipe.differences(wanted, manifest.key)
    if other:
        raise EngineLoadFailed(
            f"the engine {directory} is for something else: {'; '.join(other)}", remedy=_BUILD
        )
    changed = faults(directory, manifest)
    if changed:
        raise EngineLoadFailed(f"the engine is damaged: {changed[0]}", remedy=_BUILD)
    try:
        encoder, decoder = (_json(directory / side / "config.json") for side in ("encoder", "decoder"))
    except ValueError as error:
        raise EngineLoadFailed(
            f"the engine's configuration cannot be read: {error}", remedy=_BUILD
        ) from error
    recipe.check_configs(encoder, decoder, mels, manifest.key)
    return Found(key=manifest.key, directory=directory)


def read(directory: Path) -> recipe.Manifest | None:
    """The manifest of an engine; None where there is none.

    Raises:
        EngineLoadFailed: it cannot be read.
    """
    path = directory / recipe.MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=recipe.Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise EngineLoadFailed(f"{path} cannot be used: {error}", remedy=_BUILD) from error


def seal(directory: Path, key: recipe.Key, environment: Environment) -> recipe.Manifest:
    """Write the manifest of a finished build. OSError when a file is missing."""
    manifest = recipe.Manifest(
        key=key, files={name: _sha256(directory / name) for name in FILES}, gpu=environment.gpu, driver=""
    )
    (directory / recipe.MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return manifest


def faults(directory: Path, manifest: recipe.Manifest) -> tuple[str, ...]:
    """Every digest taken again; one line per file that is not as it was sealed."""
    found = []
    for name, digest in manifest.files.items():
        try:
            if _sha256(directory / name) != digest:
                found.append(f"{name} has changed")
        except OSError as error:
            found.append(f"{name}: {error.strerror}")
    return tuple(found)


def model_facts(model_dir: Path) -> tuple[int, tuple[int, ...], str]:
    """Features, suppressed tokens and the digest of a stored model's published form.

    Raises:
        EngineLoadFailed: it is not one.
    """
    try:
        config = _json(model_dir / "config.json")
        manifest = _json(model_dir / "manifest.json")
        digest = next(file["sha256"] for file in manifest["files"] if file["path"] == "model.bin")
        described = model_dir / "preprocessor_config.json"
        mels = int(_json(described).get("feature_size", 80)) if described.is_file() else 80
        return mels, tuple(int(token) for token in config["suppress_ids"]), str(digest)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise EngineLoadFailed(
            f"{model_dir} is not a model of the store: {error}", remedy="see: edge-agent models list"
        ) from error


def _why_none(place: Path, wanted: recipe.Key) -> str:
    """What the engines that are there were built for instead."""
    others = [manifest for path in sorted(place.glob("*")) if (manifest := read(path)) is not None]
    if not others:
        return f"no TensorRT-LLM engine was built in {place}"
    nearest = min((recipe.differences(wanted, manifest.key) for manifest in others), key=len)
    return f"no engine in {place} is for this machine: {'; '.join(nearest)}"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
