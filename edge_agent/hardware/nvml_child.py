"""Asks NVIDIA's management library about the GPUs and prints one JSON document.

Runs in a process of its own, started by path, with the standard library alone: a broken driver can hang or
kill whoever loads its library. Structures and numbers are those of nvml.h (NVML API reference).
"""

from __future__ import annotations

import ctypes
import json
import sys

_NOT_SUPPORTED = 3
"""NVML_ERROR_NOT_SUPPORTED: what a GPU without memory of its own answers when asked for it."""


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def report() -> dict[str, object]:
    """{"driver", "cuda", "gpus": [{"name", "compute", "vram_bytes", "free_bytes", "temperature_c",
    "shares_memory"}]}, or {"error"} in words."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        return {"error": f"the NVIDIA driver library cannot be loaded ({error})"}
    library.nvmlErrorString.restype = ctypes.c_char_p
    code = library.nvmlInit_v2()
    if code:
        words = (library.nvmlErrorString(code) or b"").decode("utf-8", "replace")
        return {"error": f"the NVIDIA driver does not answer (NVML error {code}: {words})"}
    try:
        count = ctypes.c_uint()
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        gpus = [_gpu(library, index) for index in range(min(count.value, 64))]
        return {
            "driver": _text(library.nvmlSystemGetDriverVersion),
            "cuda": _cuda(library),
            "gpus": [gpu for gpu in gpus if gpu],
        }
    finally:
        library.nvmlShutdown()


def _gpu(library: ctypes.CDLL, index: int) -> dict[str, object] | None:
    handle = ctypes.c_void_p()
    if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)):
        return None
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), _Memory()
    unknown = library.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor))
    refused = library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    return {
        "name": _text(library.nvmlDeviceGetName, handle),
        "compute": None if unknown else [major.value, minor.value],
        "vram_bytes": None if refused else memory.total,
        "free_bytes": None if refused else memory.free,
        "temperature_c": _temperature(library, handle),
        "shares_memory": refused == _NOT_SUPPORTED,
    }


def _cuda(library: ctypes.CDLL) -> str:
    """ "12.4" from 12040; empty with a driver that does not tell."""
    ask = getattr(library, "nvmlSystemGetCudaDriverVersion_v2", None)
    number = ctypes.c_int()
    if ask is None or ask(ctypes.byref(number)):
        return ""
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _temperature(library: ctypes.CDLL, handle: ctypes.c_void_p) -> int | None:
    """Degrees Celsius of the GPU's own sensor (0 is NVML_TEMPERATURE_GPU)."""
    ask = getattr(library, "nvmlDeviceGetTemperature", None)
    degrees = ctypes.c_uint()
    if ask is None or ask(handle, ctypes.c_int(0), ctypes.byref(degrees)):
        return None
    return degrees.value


def _text(function: ctypes._NamedFuncPointer, *arguments: object) -> str:
    buffer = ctypes.create_string_buffer(96)
    if function(*arguments, buffer, ctypes.c_uint(len(buffer))):
        return ""
    return buffer.value.decode("utf-8", "replace")


if __name__ == "__main__":
    json.dump(report(), sys.stdout)
