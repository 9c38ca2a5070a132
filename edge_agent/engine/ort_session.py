"""onnxruntime sessions: opened as the profile says, run with numpy arrays or with values bound on a device.

On the CPU arrays go in and out without a copy. On a GPU what one run answers and the next one takes (the
key-value cache, the cross keys and values) stays there; only tokens, masks and logits cross the bus.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent import cuda
from edge_agent.engine.base import EngineConfig
from edge_agent.engine.memory_care import is_out_of_memory
from edge_agent.errors import EngineError, EngineLoadFailed, OutOfMemory
from edge_agent.types import Value

Array = NDArray[Any]
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT_BYTES = 32 << 20
"""The most that glibc takes for the second."""
_CUDA_OPTIONS = {
    # Searching the fastest convolution runs each one once per new length of sound; the heuristic does not.
    "cudnn_conv_algo_search": "HEURISTIC",
    # Growing by powers of two takes twice what is needed from a card that others share.
    "arena_extend_strategy": "kSameAsRequested",
}


_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "off": "ORT_DISABLE_ALL",
}
_TENSORRT = "TensorrtExecutionProvider"


class Runtime(Value, frozen=True):
    """How the profile wants graphs to be opened."""

    provider: Literal["cuda", "tensorrt"] = "cuda"
    """On a GPU. TensorRT takes the graphs whose shapes it is told, and CUDA the others."""
    graph_level: Literal["all", "extended", "basic", "off"] = "all"
    """What onnxruntime may rewrite in a graph when it opens it."""


class Shapes(Value, frozen=True):
    """Of one input, for TensorRT, which plans a graph for a range of them."""

    name: str
    least: tuple[int, ...]
    usual: tuple[int, ...]
    most: tuple[int, ...]


class Session(Protocol):
    """One graph, ready to run. Threads may share it."""

    grows: bool
    """Sizes may change from run to run at no cost."""
    inputs: frozenset[str]
    """Names of what a run is fed."""
    outputs: tuple[str, ...]
    """Names of what it answers."""
    facts: Mapping[str, str]
    """What its maker wrote into the file."""

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name; values are of the kind that `run` takes."""
        ...

    def fetch(self, value: Any) -> Array:
        """An output as a numpy array in the machine's memory."""
        ...

    def place(self, array: Array) -> Any:
        """A numpy array as the kind of value that stays where the graph runs."""
        ...


def open_session(
    path: Path, config: EngineConfig, runtime: Runtime | None = None, *, shapes: Shapes | None = None
) -> Session:
    """Load one graph.

    Args:
        path: the .onnx file.
        config: device, threads.
        runtime: wishes of the profile; None: none.
        shapes: of its input, of a graph that TensorRT may take.

    Raises:
        EngineLoadFailed: onnxruntime, its provider or the file cannot be used.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise EngineLoadFailed(
            f"the library onnxruntime cannot be loaded: {error}", remedy="install edge-asr-agent[cpu]"
        ) from error
    runtime = runtime or Runtime()
    by_tensorrt = config.device != "cpu" and runtime.provider == "tensorrt" and shapes is not None
    providers = _providers(config, ort.get_available_providers())
    if by_tensorrt and shapes is not None:
        providers.insert(0, _tensorrt(path, config, shapes, ort.get_available_providers()))
    _keep_freed_memory()
    options = ort.SessionOptions()
    options.intra_op_num_threads = config.threads_per_worker
    options.inter_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[runtime.graph_level])
    options.log_severity_level = 3
    # Threads that spin while they wait take the core that another decode or the microphone needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The plan of memory holds for one shape only, and sounds differ in length.
    options.enable_mem_pattern = False
    # Nor does the arena pay on the CPU: it keeps the room of the longest sound (30 MB), and is no faster.
    options.enable_cpu_mem_arena = False
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except failures() as error:
        message = " ".join(str(error).split())[:200]
        raise EngineLoadFailed(
            f"onnxruntime cannot load {path}: {message}",
            remedy="end what else runs here, or choose a smaller model"
            if is_out_of_memory(message)
            else "make it again with: edge-agent models convert",
        ) from error
    if config.device == "cpu":
        return ArraySession(session)
    # onnxruntime goes on without a provider that does not start, and says so in its log only.
    if "CUDAExecutionProvider" not in session.get_providers():
        raise EngineLoadFailed(
            "onnxruntime could not start its CUDA provider", remedy="install CUDA 12 and cuDNN 9 libraries"
        )
    if by_tensorrt and _TENSORRT not in session.get_providers():
        raise EngineLoadFailed(
            "onnxruntime could not start its TensorRT provider",
            remedy="install TensorRT 10 (pip install tensorrt-cu12), or set engine.session.provider to cuda",
        )
    return BoundSession(session, "cuda")


def _keep_freed_memory() -> None:
    """Let the C library keep what a decode frees until the next one. By itself it returns each array of more
    than 128 KB at once, and fresh memory costs more than the arithmetic on it; an arena of the runtime's own
    would keep it for ever."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc only
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: classes of its own that share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [
        found for found in vars(state).values() if isinstance(found, type) and issubclass(found, Exception)
    ]
    return (*own, RuntimeError, ValueError, MemoryError)


class ArraySession:
    """On the CPU: numpy arrays in and out."""

    grows = True

    def __init__(self, session: Any) -> None:
        self._session = session
        self.outputs = tuple(output.name for output in session.get_outputs())
        self.inputs = frozenset(entry.name for entry in session.get_inputs())
        self.facts: Mapping[str, str] = session.get_modelmeta().custom_metadata_map

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(self.outputs, _call(self._session.run, self.outputs, feeds), strict=True))

    def fetch(self, value: Array) -> Array:
        return value

    def place(self, array: Array) -> Array:
        return array


class BoundSession:
    """On a device: outputs stay there, bound as inputs of the next run."""

    grows = False

    def __init__(self, session: Any, device: str) -> None:
        self._session = session
        self._device = device
        self.outputs = tuple(output.name for output in session.get_outputs())
        self.inputs = frozenset(entry.name for entry in session.get_inputs())
        self.facts: Mapping[str, str] = session.get_modelmeta().custom_metadata_map

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        binding = self._session.io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, self.place(value) if isinstance(value, np.ndarray) else value)
        for name in self.outputs:
            binding.bind_output(name, self._device)
        _call(self._session.run_with_iobinding, binding)
        return dict(zip(self.outputs, binding.get_outputs(), strict=True))

    def fetch(self, value: Any) -> Array:
        array: Array = value.numpy()
        return array

    def place(self, array: Array) -> Any:
        import onnxruntime as ort

        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device, 0)


def _providers(config: EngineConfig, available: Sequence[str]) -> list[Any]:
    if config.device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in available:
        raise EngineLoadFailed(
            "onnxruntime is installed without its CUDA provider", remedy="install edge-asr-agent[gpu]"
        )
    cuda.preload((*cuda.CUBLAS, *cuda.CUDNN))
    return [("CUDAExecutionProvider", _CUDA_OPTIONS), "CPUExecutionProvider"]


def _tensorrt(path: Path, config: EngineConfig, shapes: Shapes, available: Sequence[str]) -> Any:
    """The provider with its options. Plans are kept beside the model, where that can be written: making one
    takes minutes, and a file that fits no more (card, versions, graph) is made anew by the provider."""
    if _TENSORRT not in available:
        raise EngineLoadFailed(
            "onnxruntime is installed without its TensorRT provider",
            remedy="install edge-asr-agent[gpu], or set engine.session.provider to cuda",
        )
    cuda.preload(cuda.TENSORRT)

    def told(sizes: tuple[int, ...]) -> str:
        return f"{shapes.name}:{'x'.join(map(str, sizes))}"

    kept = os.access(path.parent, os.W_OK)
    return (
        _TENSORRT,
        {
            "trt_profile_min_shapes": told(shapes.least),
            "trt_profile_opt_shapes": told(shapes.usual),
            "trt_profile_max_shapes": told(shapes.most),
            "trt_fp16_enable": str(config.compute_type == "float16"),
            "trt_engine_cache_enable": str(kept),
            "trt_engine_cache_path": str(path.parent / "tensorrt"),
            "trt_timing_cache_enable": str(kept),
            "trt_timing_cache_path": str(path.parent / "tensorrt"),
        },
    )


def _call(function: Any, *args: Any) -> Any:
    """Call the library; what it raises becomes an `EngineError`."""
    try:
        return function(*args)
    except failures() as error:
        message = " ".join(str(error).split())[:300]
        if is_out_of_memory(message):
            raise OutOfMemory(
                f"onnxruntime has no memory left: {message}",
                remedy="end what else runs here, or choose a smaller profile",
            ) from error
        raise EngineError(
            f"onnxruntime failed: {message}", remedy="make the model again with: edge-agent models convert"
        ) from error
