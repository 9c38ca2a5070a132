"""The engine seam: what every recogniser offers, and which module holds which kind."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

import msgspec

from edge_agent.errors import EngineLoadFailed
from edge_agent.types import DecodeOptions, EngineInfo, Hypothesis, PcmFloat, Value


class EngineConfig(Value, frozen=True):
    """What an engine is opened with; the profile and the command line fill it."""

    kind: str
    model_dir: Path
    model_name: str
    compute_type: str = "int8"
    device: str = "cpu"
    workers: int = 1
    """Decodes that may run at once, one thread each."""
    threads_per_worker: int = 1
    extra: dict[str, object] = msgspec.field(default_factory=dict)
    """Values only one kind of engine knows; it refuses what it does not know."""


class Engine(Protocol):
    """A recogniser. Calls block; they raise `EngineError` and nothing else."""

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        ...

    def warm_up(self) -> None:
        """Run the shapes in use once, so that the first utterance is not slower than the others."""
        ...

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        """Recognise float32[samples] at 16 kHz, at most `info.max_audio_s` long."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


MODULES = {
    "ctc": "edge_agent.engine.ctc",
    "ctranslate2": "edge_agent.engine.ct2",
    "onnxruntime": "edge_agent.engine.ort",
    "scripted": "edge_agent.engine.scripted",
    "tensorrt-llm": "edge_agent.engine.trtllm",
}
"""Kind of engine -> module with `open_engine(config) -> Engine`. Imported only when chosen: importing a
native library built for another CPU can end the process."""


def open_engine(config: EngineConfig) -> Engine:
    """Open the engine that `config.kind` names.

    Raises:
        EngineLoadFailed: unknown kind, missing library, unusable model.
    """
    if config.kind not in MODULES:
        raise EngineLoadFailed(
            f'there is no engine of kind "{config.kind}"', remedy=f"use one of {', '.join(sorted(MODULES))}"
        )
    module = import_module(MODULES[config.kind])
    engine: Engine = module.open_engine(config)
    return engine
