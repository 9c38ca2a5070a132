"""Which form of a model an engine loads. The ONNX form is made from the published files where it is missing.

A box that was updated has models of the version before, and must not be deaf until somebody comes: what
cannot be made (the disk is full or read-only, the published files were given up) is replaced by the form that
CTranslate2 loads, which every model has, and the choice says so.
"""

from __future__ import annotations

import logging
from pathlib import Path

from edge_agent.errors import ModelError, ModelMissing
from edge_agent.models.convert import convert_to_onnx, onnx_is_current
from edge_agent.models.store import ModelStore
from edge_agent.profile.schema import EngineChoice
from edge_agent.types import Value

log = logging.getLogger(__name__)


class Form(Value, frozen=True):
    """What to load."""

    kind: str
    """Of the engine that loads it."""
    directory: Path
    name: str
    """As published."""
    warning: str = ""
    """Why it is not the form the profile asks for; empty: it is."""


def ready(store: ModelStore, model: str, engine: EngineChoice) -> Form:
    """The form of a model for an engine, made now if need be (a second of CPU time for whisper-base).

    Args:
        model: a name in the store, or a directory.

    Raises:
        ModelMissing: not in the store.
        DigestMismatch: its files are damaged.
    """
    if "/" in model and Path(model).is_dir():
        return _in_directory(Path(model), engine)
    if engine.kind == "ctc":
        raise ModelMissing(
            f"{model} is no directory, and the store holds Whisper models only",
            remedy="name the directory with model.onnx and tokens.txt as the model",
        )
    name = store.published_name(model)
    if engine.kind != "onnxruntime":
        return Form(
            kind=engine.kind, directory=store.path(model, compute_type=engine.compute_type), name=name
        )
    try:
        return Form(kind=engine.kind, directory=made(store, model, engine), name=name)
    except ModelError as error:
        directory = store.path(model, compute_type=engine.compute_type)
        log.warning("%s; CTranslate2 serves instead", error.cause)
        return Form(kind="ctranslate2", directory=directory, name=name, warning=error.cause)


def made(store: ModelStore, model: str, engine: EngineChoice) -> Path:
    """The ONNX form's directory; it is made unless a sound one of these published files is here.

    Raises:
        ModelError: it cannot be made; each reason's own kind.
    """
    precision = engine.compute_type
    if onnx_is_current(store, model, precision):
        return store.onnx_path(model, precision)
    return convert_to_onnx(model, store, precision)


def _in_directory(directory: Path, engine: EngineChoice) -> Form:
    """A directory given by hand is loaded as what it is."""
    kind = engine.kind
    if kind == "onnxruntime" and not (directory / "onnx.json").is_file():
        kind = "ctranslate2"
    return Form(kind=kind, directory=directory, name=directory.name)
