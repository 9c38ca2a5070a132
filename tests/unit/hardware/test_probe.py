"""Reading a machine's files: below a root, and this machine's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.errors import UsageError
from edge_agent.hardware import facts, probe


def test_root_that_is_no_directory(tmp_path: Path) -> None:
    """A mistyped --root is a wrong usage, not an empty machine."""
    with pytest.raises(UsageError, match="is not a directory"):
        probe.read(tmp_path / "nowhere")


def test_empty_root(tmp_path: Path) -> None:
    """A tree without any of the files is read without complaint."""
    assert probe.read(tmp_path).unread == ()


def test_files_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    """A folder where a file should be stands for every file that refuses to be read."""
    (tmp_path / "proc/cpuinfo").mkdir(parents=True)
    assert probe.read(tmp_path).unread == ("/proc/cpuinfo (Is a directory)",)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """Binary rubbish is read as text with marks in place of what cannot be."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_bytes(bytes(range(256)) * 64)
    assert facts.device(probe.read(tmp_path)).cores == 1


def test_endless_file_is_cut(tmp_path: Path) -> None:
    """A file larger than any real one is read up to the bound."""
    (tmp_path / "proc").mkdir()
    with (tmp_path / "proc/meminfo").open("wb") as file:
        file.truncate(64 << 20)
    assert len(probe.read(tmp_path).meminfo) == probe.LARGEST_FILE_BYTES


def test_a_copied_tree_is_never_mixed_with_this_machine(tmp_path: Path) -> None:
    """Architecture, affinity and GPUs of the machine the test runs on stay out."""
    raw = probe.read(tmp_path)
    assert (raw.arch, raw.cpu_allowed, raw.gpu_report) == ("", "", "")


def test_this_machine() -> None:
    """The real files agree with what the kernel tells this process."""
    device = facts.device(probe.read())
    assert device.arch == os.uname().machine
    assert device.usable_cpus <= len(os.sched_getaffinity(0))
    assert device.cpu_flags
    assert device.usable_ram_bytes > 100 << 20


def test_affinity_of_this_process_counts() -> None:
    """Pinned to one CPU, one is usable."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert facts.device(probe.read()).usable_cpus <= 1.0
    finally:
        os.sched_setaffinity(0, before)


def test_a_driver_is_asked_once_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is looked at several times; waking its driver takes seconds and is done once."""
    asked: list[float] = []

    def ask() -> str:
        asked.append(0.0)
        return '{"error": "asleep"}' if len(asked) > 1 else '{"driver": "550"}'

    now = [100.0]
    monkeypatch.setattr(probe.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(probe, "NVIDIA_SIGNS", ("proc/cpuinfo",))  # as if it had one
    monkeypatch.setattr(probe, "ask_nvml", ask)
    monkeypatch.setattr(probe, "_ask_cuda_once", lambda: "{}")
    for _ in range(5):
        assert "550" in probe.read().gpu_report
    assert len(asked) == 1
    now[0] += probe.FRESH_S + 1
    assert "asleep" in probe.read().gpu_report
    now[0] += probe.FRESH_S + 1
    assert "asleep" in probe.read().gpu_report
    assert len(asked) == 2
    now[0] += probe.GIVEN_UP_S
    probe.read()
    assert len(asked) == 3
