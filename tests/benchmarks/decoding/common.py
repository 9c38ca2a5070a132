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
from edge_agent.engine.base import EngineConfig
from edge_agent.engine.ct2 import Ct2Engine, open_engine
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


def engine(name: str, *, layout: Layout = "parallel-prefix", threads: int = 1, **extra: object) -> Ct2Engine:
    """A model on one worker, warm."""
    config = EngineConfig(
        kind="ctranslate2",
        model_dir=prepared(name, layout),
        model_name=f"{name}@bench",
        threads_per_worker=threads,
        extra=extra,
    )
    opened = open_engine(config)
    opened.warm_up()
    return opened


def cpu_ms(work: Callable[[], Result]) -> tuple[Result, float]:
    """The result of `work` and the CPU milliseconds it took, over all threads."""
    started = time.process_time()
    result = work()
    return result, 1e3 * (time.process_time() - started)


def mel_of(clip: corpus.Clip) -> features.Mel:
    """Features of a clip."""
    return features.log_mel(read_audio(clip.path), 80)


def view(opened: Ct2Engine, mel: NDArray[np.float32], window: Window) -> Encoded:
    """A sound encoded as the decoder sees it through a window."""
    padding = 0.0 if window == context.FULL else features.silence_value(mel)
    return opened.steps.encode(features.fit(mel, window.frames, padding=padding), window.positions)


def short(mel: NDArray[np.float32], rule: Rule | None = None) -> Window:
    """The short window of a sound."""
    return context.window("short", mel.shape[1], rule or Rule(), 80)
