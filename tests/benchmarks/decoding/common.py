"""What the decoding benchmarks share: prepared models, clips, CPU time."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: CPU time must not count idle BLAS threads

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_agent.audio.files import read_audio
from edge_agent.decoding import context, features
from edge_agent.decoding.context import Rule, Window
from edge_agent.decoding.steps import Encoded
from edge_agent.engine import ct2, ort
from edge_agent.engine.base import EngineConfig
from edge_agent.engine.ort_steps import Heard
from edge_agent.engine.whisper import WhisperEngine
from edge_agent.models.convert import convert_to_onnx, onnx_is_current
from edge_agent.models.prepare import prepare
from edge_agent.models.rows import Layout
from edge_agent.models.store import ModelStore
from edge_agent.verbs.common import models_dir
from tests import corpus

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edge-agent" / "bench"
Result = TypeVar("Result")


def prepared(name: str, layout: Layout) -> Path:
    """Directory of a model prepared in the given row layout; made once, outside the model store."""
    store = ModelStore(CACHE / layout)
    if not store.has_source(name):
        store.import_dir(name, ModelStore(models_dir()).source_dir(name))
    return store.path(name) if store.has_prepared(name) else prepare(name, store, layout=layout)


ENGINES = ("onnxruntime", "ctranslate2")
"""Kinds of engine the benchmarks know; the first is what machines with AVX512-VNNI run."""


def engine(name: str, kind: str = ENGINES[0], *, threads: int = 1, **extra: object) -> WhisperEngine:
    """A model on one worker, warm."""
    config = EngineConfig(
        kind=kind,
        model_dir=prepared(name, "parallel-prefix") if kind == "ctranslate2" else onnx(name),
        model_name=f"{name}@bench",
        threads_per_worker=threads,
        extra=extra,
    )
    opened = (ct2 if kind == "ctranslate2" else ort).open_engine(config)
    opened.warm_up()
    return opened


def onnx(name: str) -> Path:
    """Directory of the int8 ONNX form in the model store; made once."""
    store = ModelStore(models_dir())
    current = onnx_is_current(store, name, "int8")
    return store.onnx_path(name, "int8") if current else convert_to_onnx(name, store, "int8")


def fresh(encoded: Encoded) -> Encoded:
    """The same encoder output, with nothing read or projected after it yet."""
    if isinstance(encoded, Heard):
        return Heard(encoded.hidden, encoded.positions, encoded.cache.empty())
    return encoded


def cpu_ms(work: Callable[[], Result]) -> tuple[Result, float]:
    """The result of `work` and the CPU milliseconds it took, over all threads."""
    started = time.process_time()
    result = work()
    return result, 1e3 * (time.process_time() - started)


def mel_of(clip: corpus.Clip) -> features.Mel:
    """Features of a clip."""
    return features.log_mel(read_audio(clip.path), 80)


def view(opened: WhisperEngine, mel: NDArray[np.float32], window: Window) -> Encoded:
    """A sound encoded as the decoder sees it through a window."""
    padding = 0.0 if window == context.FULL else features.silence_value(mel)
    return opened.steps.encode(features.fit(mel, window.frames, padding=padding), window.positions)


def short(mel: NDArray[np.float32], rule: Rule | None = None) -> Window:
    """The short window of a sound."""
    return context.window("short", mel.shape[1], rule or Rule(), 80)
