"""How graphs are opened: levels for real; with a GPU up to the library's door, which is a stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge_agent.decoding import features
from edge_agent.engine import ort, ort_session
from edge_agent.engine.base import EngineConfig
from edge_agent.engine.ort_session import Runtime, open_session
from edge_agent.errors import EngineLoadFailed
from edge_agent.models.convert import convert_to_onnx
from edge_agent.models.store import ModelStore
from tests.unit.engine.real import model_dir

NAME = "whisper-tiny.en"
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
OPTIONS = {
    CUDA: {"cudnn_conv_algo_search", "arena_extend_strategy"},
    TENSORRT: {
        *("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes", "trt_fp16_enable"),
        *("trt_engine_cache_enable", "trt_engine_cache_path"),
        *("trt_timing_cache_enable", "trt_timing_cache_path"),
    },
}
"""Of the names that onnxruntime 1.22 knows, those we use; it refuses any other."""


class Card:
    """onnxruntime on a machine with a GPU: notes how it was asked, answers what was started."""

    def __init__(self, *starting: str) -> None:
        self.starting = starting
        self.asked: dict[str, list[Any]] = {}

    def session(self, path: str, options: Any, *, providers: list[Any]) -> Any:
        for provider in providers:
            name, given = provider if isinstance(provider, tuple) else (provider, {})
            assert given.keys() <= OPTIONS.get(name, set()), "an option that onnxruntime does not know"
            assert all(isinstance(value, str) for value in given.values())
        self.asked[Path(path).stem] = providers
        return _Started(self.starting)


class _Started:
    def __init__(self, providers: tuple[str, ...]) -> None:
        self._providers = providers

    def get_providers(self) -> list[str]:
        return [*self._providers, "CPUExecutionProvider"]

    def get_outputs(self) -> list[Any]:
        return []

    get_inputs = get_outputs

    def get_modelmeta(self) -> Any:
        return type("Meta", (), {"custom_metadata_map": {}})


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    found = Card(TENSORRT, CUDA)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA])
    monkeypatch.setattr(onnxruntime, "InferenceSession", found.session)
    monkeypatch.setattr(ort_session.cuda, "preload", lambda names: {})
    return found


def _opened(directory: Path, runtime: Runtime, *, compute_type: str = "float16") -> None:
    config = EngineConfig(
        kind="onnxruntime", model_dir=directory, model_name="m", compute_type=compute_type, device="cuda"
    )
    for graph in ort.GRAPHS:
        shapes = ort.encoder_shapes(80) if graph == "encoder" else None
        open_session(directory / f"{graph}.onnx", config, runtime, shapes=shapes)


def test_without_a_wish_all_graphs_are_cudas(card: Card, tmp_path: Path) -> None:
    """As before."""
    _opened(tmp_path, Runtime())
    names = {graph: [p[0] if isinstance(p, tuple) else p for p in card.asked[graph]] for graph in ort.GRAPHS}
    assert names == {graph: [CUDA, "CPUExecutionProvider"] for graph in ort.GRAPHS}


@pytest.mark.parametrize("compute_type", ["float16", "float32"])
def test_tensorrt_takes_the_encoder(card: Card, tmp_path: Path, compute_type: str) -> None:
    """With the shapes it may meet and the numbers of the profile; the rest is CUDA's."""
    _opened(tmp_path, Runtime(provider="tensorrt"), compute_type=compute_type)
    name, options = card.asked["encoder"][0]
    assert name == TENSORRT
    assert options["trt_profile_min_shapes"] == "features:1x80x2"
    assert options["trt_profile_max_shapes"] == f"features:1x80x{features.MAX_FRAMES}"
    assert options["trt_fp16_enable"] == str(compute_type == "float16")
    assert options["trt_engine_cache_path"].startswith(str(tmp_path))
    assert [card.asked[graph][0][0] for graph in ("cross", "decoder")] == [CUDA, CUDA]


def test_a_tensorrt_that_does_not_start_is_told(card: Card, tmp_path: Path) -> None:
    """onnxruntime would go on without it and say so in its own log only."""
    card.starting = (CUDA,)
    with pytest.raises(EngineLoadFailed, match="could not start its TensorRT provider") as failed:
        _opened(tmp_path, Runtime(provider="tensorrt"))
    assert "engine.session.provider" in failed.value.remedy


def test_a_library_without_tensorrt_is_told(
    card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel for CPUs has neither."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA])
    with pytest.raises(EngineLoadFailed, match="without its TensorRT provider"):
        _opened(tmp_path, Runtime(provider="tensorrt"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny's ONNX form in float32."""
    store = ModelStore(tmp_path_factory.mktemp("store"), catalog={})
    store.import_dir(NAME, model_dir(NAME, prepared=False))
    return convert_to_onnx(NAME, store, "float32")


def test_each_level_opens_the_same_function(directory: Path) -> None:
    """What may be rewritten changes the rounding, not the result; on the CPU the provider is no matter."""
    config = EngineConfig(kind="onnxruntime", model_dir=directory, model_name="m", compute_type="float32")
    mel = np.random.default_rng(1).normal(0, 0.3, (1, 80, 400)).astype(np.float32)
    found = []
    for level in ("all", "extended", "basic", "off"):
        runtime = Runtime(graph_level=level, provider="tensorrt")
        session = open_session(directory / "encoder.onnx", config, runtime, shapes=ort.encoder_shapes(80))
        found.append(session.fetch(session.run({"features": mel})["hidden"]))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=2e-3)


def test_a_wrong_wish_is_one_line(directory: Path) -> None:
    """Named as the profile names it."""
    config = EngineConfig(
        kind="onnxruntime", model_dir=directory, model_name="m", extra={"session": {"provider": "metal"}}
    )
    with pytest.raises(EngineLoadFailed, match="an option of the onnxruntime engine is wrong"):
        ort.open_engine(config)
