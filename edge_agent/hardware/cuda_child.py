"""Finds out what programs can use of CUDA by loading it, and prints one JSON document.

Runs in a process of its own: a library built for another driver can hang or kill whoever loads it, and
making a CUDA context takes memory on the GPU that only the end of the process gives back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from edge_agent import cuda

TENSORRT_LLM_PYTHON = "EDGE_AGENT_TRTLLM_PYTHON"
"""Names the Python of the environment that holds TensorRT-LLM."""
DEFAULT_TENSORRT_LLM_PYTHON = "/opt/edge-agent/trtllm/bin/python"
_METADATA_TIMEOUT_S = 20.0


def report() -> dict[str, object]:
    """The fields of `edge_agent.types.Cuda`, less `runtime`, which the driver tells."""
    libraries = cuda.preload((*cuda.CUBLAS, *cuda.CUDNN))
    types, types_why = _ctranslate2()
    version, version_why = _tensorrt_llm()
    return {
        "libraries": libraries,
        "ctranslate2_types": types,
        "ctranslate2_why": types_why,
        "onnxruntime_providers": _onnxruntime(),
        "tensorrt_llm": version,
        "tensorrt_llm_why": version_why,
    }


def _ctranslate2() -> tuple[list[str], str]:
    try:
        import ctranslate2
    except (ImportError, OSError) as error:
        return [], f"CTranslate2 cannot be loaded ({_line(error)})"
    try:
        if not ctranslate2.get_cuda_device_count():
            return [], "CTranslate2 finds no GPU; its build may be without CUDA, as the ARM wheels are"
        return sorted(ctranslate2.get_supported_compute_types("cuda")), ""
    except (RuntimeError, ValueError) as error:
        return [], f"CTranslate2 cannot use the GPU ({_line(error)})"


def _onnxruntime() -> list[str]:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except (ImportError, OSError):
        return []
    return list(onnxruntime.get_available_providers())


def _tensorrt_llm() -> tuple[str, str]:
    """Whether it is installed, by its metadata: importing it takes long, prints, and starts MPI."""
    python = Path(os.environ.get(TENSORRT_LLM_PYTHON) or DEFAULT_TENSORRT_LLM_PYTHON)
    if not python.is_file():
        return "", f"there is no environment for TensorRT-LLM at {python}"
    code = "from importlib.metadata import version; print(version('tensorrt_llm'))"
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", code],
            capture_output=True,
            text=True,
            timeout=_METADATA_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"the environment of TensorRT-LLM cannot be used ({_line(error)})"
    if done.returncode:
        return "", f"{python} has no TensorRT-LLM ({_line(done.stderr)})"
    return done.stdout.strip(), ""


def _line(message: object) -> str:
    lines = str(message).strip().splitlines()
    return lines[-1][:200] if lines else ""


if __name__ == "__main__":
    answer = report()  # libraries may print while they load; the answer is the last line
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
