"""The NVML child process against a stand-in library that answers, refuses, hangs and crashes."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from edge_agent.hardware import gpu, probe
from edge_agent.types import Gpu

SOURCE = Path(__file__).with_name("fake_nvml.c")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the stand-in, compiled."""
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run(
        [
            "gcc",
            "-O1",
            "-Wall",
            "-Werror",
            "-shared",
            "-fPIC",
            "-o",
            str(folder / "libnvidia-ml.so.1"),
            str(SOURCE),
        ],
        check=True,
        timeout=60,
    )
    return folder


@pytest.fixture
def driver(library: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The stand-in is what a program finds as NVIDIA's library."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    return monkeypatch


def _found(timeout_s: float = 20.0) -> gpu.Found:
    return gpu.find(probe.ask_nvml(timeout_s), compatible=(), pci=("0000:01:00.0",), driver="")


def test_card(driver: pytest.MonkeyPatch) -> None:
    """Name, compute capability, memory and driver come through; a GPU that refuses its handle is left out."""
    driver.setenv("FAKE_NVML", "card")
    assert _found().gpus == (
        Gpu(
            name="NVIDIA GeForce RTX 4070",
            compute=(8, 9),
            vram_bytes=12282 << 20,
            driver="550.54.14",
            free_bytes=11000 << 20,
            temperature_c=41.0,
        ),
    )
    assert _found().cuda == "12.4"


def test_driver_that_knows_less(driver: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An older library without temperature and CUDA version still tells the rest."""
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-DOLD", "-o", str(tmp_path / "libnvidia-ml.so.1"), str(SOURCE)],
        check=True,
        timeout=60,
    )
    driver.setenv("LD_LIBRARY_PATH", str(tmp_path))
    driver.setenv("FAKE_NVML", "card")
    found = _found()
    assert found.gpus[0].temperature_c is None
    assert found.gpus[0].vram_bytes == 12282 << 20
    assert found.cuda == ""


def test_memory_that_is_not_told(driver: pytest.MonkeyPatch) -> None:
    """A GPU without memory of its own does not support the question; that is no fault."""
    driver.setenv("FAKE_NVML", "shared")
    found = _found()
    assert found.gpus[0].vram_bytes is None
    assert found.gpus[0].integrated
    assert found.notes == ()


def test_driver_not_loaded(driver: pytest.MonkeyPatch) -> None:
    """The error of the library is told with its number and words."""
    driver.setenv("FAKE_NVML", "unloaded")
    found = _found()
    assert found.gpus == ()
    assert "NVML error 9: Driver Not Loaded" in found.notes[0]


def test_library_that_hangs(driver: pytest.MonkeyPatch) -> None:
    """A driver that never answers costs the time-out and no more."""
    driver.setenv("FAKE_NVML", "hang")
    began = time.monotonic()
    found = _found(timeout_s=0.5)
    assert time.monotonic() - began < 5
    assert "did not answer" in found.notes[0]


def test_library_that_crashes(driver: pytest.MonkeyPatch) -> None:
    """A crash ends the child process, not the agent."""
    driver.setenv("FAKE_NVML", "crash")
    assert "crashed (signal 6)" in _found().notes[0]


def test_library_of_another_kind(driver: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that is no such library, or lacks its functions, is told as such."""
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"not a library")
    driver.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert "cannot be loaded" in _found().notes[0]
    subprocess.run(
        ["gcc", "-shared", "-x", "c", "/dev/null", "-o", str(tmp_path / "libnvidia-ml.so.1")],
        check=True,
        timeout=60,
    )
    assert "cannot be used" in _found().notes[0]
