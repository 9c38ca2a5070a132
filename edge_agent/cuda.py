"""NVIDIA's libraries where pip puts them, `site-packages/nvidia/<part>/lib` and such: off the loader's path.

A library loaded here by its full path satisfies every later search for its name (dlopen(3): a shared object
with the same SONAME is not loaded again), so that a wheel built against it needs no LD_LIBRARY_PATH.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

CUBLAS = ("libcudart.so.12", "libcublasLt.so.12", "libcublas.so.12")
"""What the CTranslate2 wheel loads when it first meets a GPU, in the order in which they need each other."""
CUDNN = ("libcudnn.so.9",)
"""What onnxruntime's CUDA provider needs besides."""
TENSORRT = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")
"""What its TensorRT provider needs besides."""
_PLACES = {
    "libcudart.so.12": "nvidia/cuda_runtime/lib",
    "libcublasLt.so.12": "nvidia/cublas/lib",
    "libcublas.so.12": "nvidia/cublas/lib",
    "libcudnn.so.9": "nvidia/cudnn/lib",
    **dict.fromkeys(TENSORRT, "tensorrt_libs"),
}


def preload(names: tuple[str, ...] = CUBLAS) -> dict[str, str]:
    """Load the libraries for the whole process; name -> "wheel" or "system" of those that could be."""
    found = {}
    for name in names:
        for where, path in _candidates(name):
            try:
                ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            found[name] = where
            break
    return found


def _candidates(name: str) -> list[tuple[str, str]]:
    """Wheels first: their versions are the ones this installation was resolved with."""
    place = _PLACES.get(name, "")
    wheels = [Path(entry) / place / name for entry in sys.path if entry and place]
    return [*(("wheel", str(path)) for path in wheels if path.is_file()), ("system", name)]
