"""NVIDIA's CUDA libraries where pip puts them: `site-packages/nvidia/<part>/lib`, off the loader's own path.

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
_PLACES = {
    "libcudart.so.12": "cuda_runtime",
    "libcublasLt.so.12": "cublas",
    "libcublas.so.12": "cublas",
    "libcudnn.so.9": "cudnn",
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
    part = _PLACES.get(name, "")
    wheels = [Path(entry) / "nvidia" / part / "lib" / name for entry in sys.path if entry and part]
    return [*(("wheel", str(path)) for path in wheels if path.is_file()), ("system", name)]
