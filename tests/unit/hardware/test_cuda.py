"""What can be found out about CUDA: for real on this machine, and with stand-ins for its libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.hardware import cuda_child, gpu, heat, probe
from edge_agent.hardware.raw import ThermalZone
from edge_agent.types import Gpu


def _library(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    soname = f"-Wl,-soname,{name}"
    command = ["gcc", "-shared", "-fPIC", soname, "-x", "c", "/dev/null", "-o", str(folder / name)]
    subprocess.run(command, check=True, timeout=60)
    return folder


def test_the_child_answers_on_any_machine() -> None:
    """With or without a GPU the answer is one JSON object of the known form, made by the real libraries."""
    found = gpu.cuda(probe.ask_cuda(), runtime="12.4")
    assert found.problem == ""
    assert found.runtime == "12.4"
    assert found.ctranslate2_types or found.ctranslate2_why
    assert "CPUExecutionProvider" in found.onnxruntime_providers


def test_libraries_are_found_where_the_loader_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS of the system is found through the loader; the others stay missing."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(_library(tmp_path, "libcublas.so.12")))
    libraries = json.loads(probe.ask_cuda())["libraries"]
    assert libraries["libcublas.so.12"] == "system"


def _preloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Where a process finds cuBLAS, and what it has mapped after a second search for the name."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(_library(tmp_path / "system", "libcublas.so.12")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    code = (
        "import ctypes, edge_agent.cuda as c; found = c.preload(('libcublas.so.12',));"
        "ctypes.CDLL('libcublas.so.12'); print(found['libcublas.so.12']);"
        "print(sorted({line.split()[-1] for line in open('/proc/self/maps') if 'libcublas' in line}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    where, mapped = done.stdout.splitlines()
    return where, mapped


def test_a_wheels_library_comes_before_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS of its wheel is loaded by its full path, and every later search for the name finds that one."""
    wheel = _library(tmp_path / "site/nvidia/cublas/lib", "libcublas.so.12")
    assert _preloaded(tmp_path, monkeypatch) == ("wheel", f"['{wheel}/libcublas.so.12']")


def test_a_wheel_that_cannot_be_loaded_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken download does not hide the library that is there."""
    (tmp_path / "site/nvidia/cublas/lib").mkdir(parents=True)
    (tmp_path / "site/nvidia/cublas/lib/libcublas.so.12").write_bytes(b"half a file")
    found = _preloaded(tmp_path, monkeypatch)
    assert found == ("system", f"['{tmp_path}/system/libcublas.so.12']")


def test_a_child_that_hangs_or_dies_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The agent goes on with what is known, and says why nothing more is."""
    monkeypatch.setattr(cuda_child, "__file__", str(tmp_path / "child.py"))
    (tmp_path / "child.py").write_text("import time; time.sleep(60)")
    assert "did not answer in 1 s" in gpu.cuda(probe.ask_cuda(1.0), runtime="").problem
    (tmp_path / "child.py").write_text("import os; os.abort()")
    assert "crashed (signal 6)" in gpu.cuda(probe.ask_cuda(), runtime="").problem
    (tmp_path / "child.py").write_text("print('{]')")
    assert "cannot be read" in gpu.cuda(probe.ask_cuda(), runtime="").problem


def test_tensorrt_llm_is_looked_for_in_its_own_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment it names is asked for its version; one without it, or none, is told."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 1.2.1\n")
    python.chmod(0o755)
    monkeypatch.setenv(cuda_child.TENSORRT_LLM_PYTHON, str(python))
    assert json.loads(probe.ask_cuda())["tensorrt_llm"] == "1.2.1"
    python.write_text("#!/bin/sh\necho No package metadata >&2; exit 1\n")
    assert "No package metadata" in json.loads(probe.ask_cuda())["tensorrt_llm_why"]
    monkeypatch.setenv(cuda_child.TENSORRT_LLM_PYTHON, str(tmp_path / "nothing"))
    assert "there is no environment" in json.loads(probe.ask_cuda())["tensorrt_llm_why"]


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        (ThermalZone(name="cpu", temperature="96000"), True),
        (ThermalZone(name="cpu", temperature="86000", trip="85000"), True),
        (ThermalZone(name="cpu", temperature="84000", trip="85000"), False),
        (ThermalZone(name="off", temperature="-274000"), False),
        (ThermalZone(name="odd", temperature="warm"), False),
    ],
)
def test_heat_is_told_when_it_slows_the_machine(zone: ThermalZone, told: bool) -> None:
    """Above the zone's own trip point, or 95 degrees without one; a sensor that is off is passed over."""
    assert bool(heat.notes([zone], [])) is told


def test_a_hot_card_is_told() -> None:
    """A card that slows itself down makes recognition late; the reader should know."""
    assert "Card is at 90 °C" in heat.notes([], [Gpu(name="Card", temperature_c=90.0)])[0]


def test_power_mode_of_a_jetson() -> None:
    """The number of the mode; other texts give none."""
    assert heat.power_mode("pmode:0002 fmode:fanNull\n") == "2"
    assert heat.power_mode("fine") == ""
