"""Loads native libraries in processes of their own: one built for another CPU must not end the doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

from edge_agent.health.deep import Installed, Probe

TIMEOUT_S = 60.0
"""A cold start from a slow card takes some seconds."""

# Each does a small piece of the library's own work: some are fine until they are used.
WORK = {
    "ctranslate2": "import ctranslate2 as m; m.get_supported_compute_types('cpu')",
    "onnxruntime": "import onnxruntime as m; m.InferenceSession; m.get_available_providers()",
    "alsaaudio": "import alsaaudio as m; m.cards(); m.__version__ = getattr(m, '__version__', '')",
    "av": "import av as m; m.Codec('flac', 'r')",
    "soxr": "import soxr as m, numpy; m.resample(numpy.zeros(480, 'float32'), 48000, 16000)",
    "tokenizers": "import tokenizers as m; m.Tokenizer(m.models.BPE())",
    "numpy": "import numpy as m; m.dot(m.ones((8, 8)), m.ones((8, 8)))",
}
_CUBLAS = "import ctypes; ctypes.CDLL('libcublas.so.12')"
_SHOW = "; import json; print('PROBE ' + json.dumps(str(getattr(m, '__version__', ''))))"
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


def libraries(*, cuda: bool = False) -> tuple[Probe, ...]:
    """Every native library the agent uses, at once; `cuda`: also cuBLAS, which recognition on a GPU needs."""
    running = {name: _start(code + _SHOW) for name, code in WORK.items()}
    if cuda:
        running["libcublas"] = _start(_CUBLAS)
    return tuple(_probe(name, process) for name, process in running.items())


def runtimes() -> tuple[Installed, ...]:
    """The installed distributions that own the module `onnxruntime`."""
    found = []
    for name in _RUNTIMES:
        try:
            found.append(Installed(name=name, version=metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


def _start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
    )


def _probe(name: str, process: subprocess.Popen[str]) -> Probe:
    try:
        said, complaint = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Probe(name=name, error=f"loading it takes longer than {TIMEOUT_S:.0f} s")
    if process.returncode < 0:
        return Probe(name=name, signal=-process.returncode)
    if process.returncode:
        lines = complaint.strip().splitlines()
        return Probe(name=name, error=lines[-1] if lines else "it ends without a word")
    versions = [line.removeprefix("PROBE ") for line in said.splitlines() if line.startswith("PROBE ")]
    return Probe(name=name, version=json.loads(versions[-1]) if versions else "")
