"""Two engines, one text: with float32 weights tokens may differ only where float64 sees a tie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.engine.base import EngineConfig, open_engine
from edge_agent.models.convert import convert_to_onnx, import_checkpoint
from edge_agent.models.store import ModelStore
from tests import corpus
from tests.benchmarks import agreement
from tests.benchmarks.agreement import Heard, Parting
from tests.benchmarks.onnxruntime_engine import configs, language_of
from tests.checkpoints import SMALL, checkpoint
from tests.whisper_float64 import Whisper64

NOISE = 3e-4
"""Nats. Over the whole corpus the leads of the two differed by at most 0.00006."""


def _engines(name: str, root: Path) -> tuple[Any, Any, Whisper64]:
    pair = configs(name, root, "float32")
    one, other = (open_engine(config) for config in pair.values())
    return one, other, Whisper64(pair["CTranslate2"].model_dir)


def _compare(name: str, root: Path, clips: list[corpus.Clip], *, exact: bool) -> list[Heard]:
    one, other, truth = _engines(name, root)
    return [
        agreement.compare(clip, language_of(clip, one.info.languages), one, other, truth, exact=exact)
        for clip in clips
    ]


def test_both_engines_write_what_float64_writes(tmp_path: Path) -> None:
    """Every decision, on some recordings: no lead is off by more than rounding explains."""
    heard = _compare("whisper-tiny.en", tmp_path, corpus.clips(set="en_read_kathleen")[:4], exact=True)
    assert sum(one.decisions for one in heard) > 20
    assert agreement.faults(heard) == ()
    for one in heard:
        assert one.noise < NOISE
        assert one.errors is not None
        assert max(one.errors) < NOISE


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["whisper-base", "whisper-tiny.en"])
def test_same_tokens_on_every_recording(tmp_path: Path, name: str) -> None:
    """Except where the lead in float64 is below the noise measured on all the others."""
    clips = [clip for clip in corpus.clips() if clip.language.startswith("en") or not name.endswith(".en")]
    heard = _compare(name, tmp_path, clips, exact=False)
    assert agreement.faults(heard) == ()
    assert max(one.noise for one in heard) < NOISE


def test_a_tie_is_no_fault_and_a_fault_no_tie() -> None:
    """The noise is that of all recordings; float64's lead is held against it, not the engines' own."""
    tie = Parting(clip="a", place=3, tokens=(5, 6), leads=(4e-5, -1e-5), true_lead=-2e-5)
    fault = Parting(clip="b", place=0, tokens=(5, 6), leads=(1e-5, -1e-5), true_lead=2e-3)
    heard = [
        Heard(clip="a", decisions=3, noise=1e-5, closest=0.1, parting=tie),
        Heard(clip="b", decisions=0, noise=0.0, closest=0.1, parting=fault),
        Heard(clip="c", decisions=9, noise=5e-5, closest=0.1),
    ]
    assert agreement.faults(heard) == (fault,)
    assert agreement.faults(heard[:1]) == (tie,)
    assert (tie.right, fault.right) == ("onnxruntime", "CTranslate2")


def test_another_function_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer norm with a hundred times the epsilon, on random weights: float64 tells it from rounding."""
    store = ModelStore(tmp_path, catalog={})
    import_checkpoint("small", checkpoint(tmp_path / "hf", **SMALL), store)
    truth = Whisper64(store.published_dir("small"))
    mel = np.random.default_rng(0).normal(0, 0.5, (80, 400)).astype(np.float32)
    off = []
    for epsilon in (1e-5, 1e-3):
        monkeypatch.setattr("edge_agent.models.onnx_whisper._EPSILON", epsilon)
        directory = convert_to_onnx("small", store, "float32")
        engine: Any = open_engine(EngineConfig(kind="onnxruntime", model_dir=directory, model_name="m@0"))
        off.append(np.abs(engine.steps.encode(mel).hidden[0] - truth.encode(mel)).max())
    assert off[0] < 1e-4
    assert off[1] > 10 * off[0]
