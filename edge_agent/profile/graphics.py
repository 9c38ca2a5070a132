"""Whether a machine's GPU, and the software for it, will do for a profile. No I/O here.

An engine is promised only when its libraries were seen to load: a missing cuBLAS would show at the first
decode, after the start was reported as a success.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_agent.profile.schema import GpuNeed, Profile
from edge_agent.types import Cuda, Device, Gpu

MB = 1 << 20
CUDA_MAJOR = {"ctranslate2": 12, "onnxruntime": 12, "tensorrt-llm": 13}
"""CUDA that the engines' x86 wheels are built for; a driver runs programs of its own and older majors."""
CUBLAS = ("libcublas.so.12", "libcublasLt.so.12")
CUDNN = "libcudnn.so.9"


def graphics(need: GpuNeed, device: Device) -> tuple[list[str], list[str]]:
    """What speaks for the machine's GPU, and why none will do."""
    if not need.vendor:
        return [], []
    if not device.gpus:
        return [], ["it needs an NVIDIA GPU, and none is usable here"]
    misfits = [(gpu, _gpu_misfit(need, gpu, device)) for gpu in device.gpus]
    for gpu, misfit in misfits:
        if not misfit:
            return [f"the GPU is {describe_gpu(gpu)}"], []
    return [], [f"{gpu.name}: {misfit}" for gpu, misfit in misfits]


def software(profile: Profile, device: Device) -> list[str]:
    """What the profile's engine lacks to run on the GPU; empty for engines on the CPU."""
    engine = profile.engine
    if engine.device != "cuda" or not device.gpus:
        return []
    cuda = device.cuda or Cuda(problem="whether CUDA programs run here was not tried")
    if cuda.problem:
        return [cuda.problem]
    needed = CUDA_MAJOR.get(engine.kind, 12)
    major = cuda.runtime.partition(".")[0]
    if device.arch == "x86_64" and major.isdigit() and int(major) < needed:
        return [
            f"the driver supports CUDA {cuda.runtime}, and {engine.kind} needs {needed}; update the driver"
        ]
    return _CHECKS[engine.kind](engine.compute_type, cuda, device) if engine.kind in _CHECKS else []


def occupied(profile: Profile, device: Device) -> list[str]:
    """Why the GPU's free memory will not do now."""
    wanted_mb = profile.limits.vram_max_mb
    if not profile.match.gpu.vendor or not wanted_mb or not device.gpus:
        return []
    gpu = device.gpus[0]
    if gpu.integrated or gpu.free_bytes is None or gpu.free_bytes >= wanted_mb * MB:
        return []
    return [f"{wanted_mb} MB of GPU memory must be free; {gpu.name} has {gpu.free_bytes // MB} MB free now"]


def _ctranslate2(compute_type: str, cuda: Cuda, device: Device) -> list[str]:
    if not cuda.ctranslate2_types:
        return [cuda.ctranslate2_why or "CTranslate2 cannot use the GPU"]
    # A build of one's own, as on every Jetson, is linked with the CUDA of its system.
    missing = [name for name in CUBLAS if name not in cuda.libraries] if device.arch == "x86_64" else []
    if missing:
        return [f"{' and '.join(missing)} cannot be loaded; pip install nvidia-cublas-cu12"]
    if compute_type not in cuda.ctranslate2_types:
        return [f"CTranslate2 does not compute in {compute_type} on this GPU"]
    return []


def _onnxruntime(_compute_type: str, cuda: Cuda, device: Device) -> list[str]:
    if "CUDAExecutionProvider" not in cuda.onnxruntime_providers:
        return ["onnxruntime is installed without its CUDA provider; install edge-asr-agent[gpu]"]
    missing = [name for name in (*CUBLAS, CUDNN) if name not in cuda.libraries]
    if missing and device.arch == "x86_64":
        return [f"{' and '.join(missing)} cannot be loaded; pip install nvidia-cublas-cu12 nvidia-cudnn-cu12"]
    return []


def _tensorrt_llm(_compute_type: str, cuda: Cuda, device: Device) -> list[str]:
    if device.arch != "x86_64" or device.gpus[0].integrated:
        return ["TensorRT-LLM is supported on cards in x86 machines only"]
    if not cuda.tensorrt_llm:
        return [cuda.tensorrt_llm_why or "there is no environment for TensorRT-LLM"]
    return []


_CHECKS: Mapping[str, Callable[[str, Cuda, Device], list[str]]] = {
    "ctranslate2": _ctranslate2,
    "onnxruntime": _onnxruntime,
    "tensorrt-llm": _tensorrt_llm,
}


def _gpu_misfit(need: GpuNeed, gpu: Gpu, device: Device) -> str:
    """Why a GPU will not do; empty: it will."""
    if need.integrated is not None and gpu.integrated != need.integrated:
        return "it needs a GPU on the processor" if need.integrated else "it needs a GPU on a card of its own"
    if (need.min_compute or need.max_compute) and gpu.compute is None:
        return "its compute capability is not known"
    if gpu.compute is not None:
        has = f"{gpu.compute[0]}.{gpu.compute[1]}"
        if need.min_compute and gpu.compute < _compute(need.min_compute):
            return f"compute capability {need.min_compute} is needed, it has {has}"
        if need.max_compute and gpu.compute > _compute(need.max_compute):
            return f"compute capability up to {need.max_compute} is supported, it has {has}"
    memory = device.usable_ram_bytes if gpu.integrated else gpu.vram_bytes
    if need.min_vram_mb and (memory is None or memory < need.min_vram_mb * MB):
        has = "an unknown amount" if memory is None else f"{memory // MB} MB"
        return f"{need.min_vram_mb} MB of its memory are needed, it has {has}"
    return ""


def _compute(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def describe_gpu(gpu: Gpu) -> str:
    """For example "NVIDIA GeForce RTX 3060 (compute 8.6, 12 GB)"."""
    facts = [f"compute {gpu.compute[0]}.{gpu.compute[1]}"] if gpu.compute else []
    if gpu.vram_bytes:
        facts.append(f"{round(gpu.vram_bytes / (1 << 30))} GB")
    elif gpu.integrated:
        facts.append("shares the machine's memory")
    return f"{gpu.name} ({', '.join(facts)})" if facts else gpu.name
