"""Reads what a machine says about itself, below a given root. The only file here that does I/O.

With root "/" it also asks the NVIDIA driver, in a child process with a time-out. Another root is a tree of
files copied from a machine, for example by `--root`; the driver's answer is then the file
`edge-agent-probe/nvidia-smi.xml` (made with `nvidia-smi -q -x`) or `edge-agent-probe/nvml.json` in it, what
its CUDA libraries can do `edge-agent-probe/cuda.json` (`python -m edge_agent.hardware.cuda_child | tail -1`),
and `proc/sys/kernel/arch` or /proc/cpuinfo tell the architecture.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from edge_agent.errors import UsageError
from edge_agent.hardware import cgroups, cuda_child, nvml_child
from edge_agent.hardware.raw import CgroupLimit, CpuRange, RawFacts, ThermalZone

LARGEST_FILE_BYTES = 4 << 20
"""A cpuinfo of 1024 CPUs fits; a device that never ends does not."""
NVML_TIMEOUT_S = 10.0
"""The driver of a machine with eight sleeping GPUs takes several seconds to wake."""
LIVE_ROOT = Path("/")
CUDA_TIMEOUT_S = 60.0
"""The first CUDA context on a cold machine: large libraries, and the driver may compile for a new card."""
NVIDIA_SIGNS = ("dev/nvidiactl", "dev/nvhost-ctrl", "dev/nvgpu", "dev/dxg", "proc/driver/nvidia/version")
MOST_CPUS = 4096
FRESH_S = 60.0
"""An answer of the driver holds for one start, which looks at the machine several times."""
GIVEN_UP_S = 600.0
"""A driver that did not answer is not asked again before: it may take all of its time-out each time."""


def read(root: Path = LIVE_ROOT) -> RawFacts:
    """Read all facts below `root`. Missing files are normal; unreadable ones are listed in `unread`.

    Raises:
        UsageError: `root` is not a directory.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is not a directory", remedy="name the root of a machine's files")
    files = _Files(root)
    live = root.resolve() == LIVE_ROOT
    pci = _nvidia_display_devices(files)
    limits = _limits(files)
    report = _gpu_report(files, live=live, signs=bool(pci))
    return RawFacts(
        arch=os.uname().machine if live else files.text("proc/sys/kernel/arch").strip(),
        userland_bits=struct.calcsize("P") * 8 if live else 64,
        cpuinfo=files.text("proc/cpuinfo"),
        meminfo=files.text("proc/meminfo"),
        cpu_online=files.text("sys/devices/system/cpu/online"),
        cpu_allowed=_allowed(files),
        cpu_capacity=_capacities(files),
        cpu_siblings=_siblings(files),
        cpu_types=tuple(
            CpuRange(name=name, cpus=cpus)
            for name in ("cpu_core", "cpu_atom")
            if (cpus := files.text(f"sys/devices/{name}/cpus"))
        ),
        cpu_quotas=limits["cpu"],
        memory_limits=limits["memory"],
        board_model=files.text("proc/device-tree/model"),
        board_compatible=files.text("proc/device-tree/compatible"),
        product="\n".join(files.text(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")),
        tegra_release=files.text("etc/nv_tegra_release"),
        nvidia_pci=pci,
        nvidia_driver=files.text("proc/driver/nvidia/version"),
        gpu_report=report,
        cuda_report=_cuda_report(files, live=live, asked=bool(report)),
        power_mode=files.text("var/lib/nvpmodel/status"),
        thermal_zones=_thermal_zones(files),
        unread=tuple(files.unread),
    )


def ask_nvml(timeout_s: float = NVML_TIMEOUT_S) -> str:
    """The JSON of the NVML child process; its death or silence becomes {"error": …}."""
    words = ("the NVIDIA driver did not answer", "the GPU could not be asked", "the NVIDIA driver library")
    return _ask(["-I", "-S", nvml_child.__file__], timeout_s, words, "error")


def ask_cuda(timeout_s: float = CUDA_TIMEOUT_S) -> str:
    """The JSON of the CUDA child process; its death or silence becomes {"problem": …}."""
    words = ("the CUDA libraries did not answer", "the CUDA libraries could not be tried", "a CUDA library")
    return _ask(["-I", cuda_child.__file__], timeout_s, words, "problem").strip().rpartition("\n")[2]


def _ask(arguments: list[str], timeout_s: float, words: tuple[str, str, str], key: str) -> str:
    """What a Python child prints; with its failure in `words` below `key` otherwise."""
    silent, impossible, library = words
    try:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, timeout=timeout_s, check=False, text=True
        )
    except subprocess.TimeoutExpired:
        return json.dumps({key: f"{silent} in {timeout_s:.0f} s"})
    except OSError as error:
        return json.dumps({key: f"{impossible} ({error})"})
    if done.returncode < 0:
        return json.dumps({key: f"{library} crashed (signal {-done.returncode})"})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return json.dumps({key: f"{library} cannot be used ({last})"})
    return done.stdout


class _Files:
    """Reads small text files below a root and remembers which of them refused."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unread: list[str] = []

    def text(self, name: str) -> str:
        """Content of a file, or "" when there is none."""
        try:
            with (self.root / name).open("rb") as file:
                return file.read(LARGEST_FILE_BYTES).decode("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            self.unread.append(f"/{name} ({error.strerror})")
            return ""

    def entries(self, name: str) -> list[str]:
        """Names in a directory, sorted; empty when there is none."""
        try:
            return sorted(entry.name for entry in (self.root / name).iterdir())
        except OSError:
            return []

    def exists(self, name: str) -> bool:
        """Whether a path is there, readable or not."""
        return os.path.lexists(self.root / name)


def _allowed(files: _Files) -> str:
    for line in files.text("proc/self/status").splitlines():
        key, _, value = line.partition(":")
        if key == "Cpus_allowed_list":
            return value.strip()
    return ""


def _cpus(files: _Files) -> list[str]:
    names = (
        name for name in files.entries("sys/devices/system/cpu") if name[:3] == "cpu" and name[3:].isdigit()
    )
    return sorted(names, key=lambda name: int(name[3:]))[:MOST_CPUS]


def _capacities(files: _Files) -> tuple[CpuRange, ...]:
    return tuple(
        CpuRange(name=value.strip(), cpus=name[3:])
        for name in _cpus(files)
        if (value := files.text(f"sys/devices/system/cpu/{name}/cpu_capacity"))
    )


def _siblings(files: _Files) -> tuple[str, ...]:
    return tuple(
        value.strip()
        for name in _cpus(files)
        if (value := files.text(f"sys/devices/system/cpu/{name}/topology/thread_siblings_list"))
    )


def _limits(files: _Files) -> dict[str, tuple[CgroupLimit, ...]]:
    found: dict[str, list[CgroupLimit]] = {"cpu": [], "memory": []}
    for group in cgroups.groups(files.text("proc/self/cgroup"), files.text("proc/self/mountinfo")):
        here = group.path.lstrip("/")
        names = {
            ("cpu", 2): ("cpu.max", ""),
            ("cpu", 1): ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
            ("memory", 2): ("memory.max", ""),
            ("memory", 1): ("memory.limit_in_bytes", ""),
        }
        name, second = names[group.controller, group.version]
        text = files.text(f"{here}/{name}")
        if text:
            period = files.text(f"{here}/{second}") if second else ""
            found[group.controller].append(CgroupLimit(path=group.path, text=text, period=period))
    return {controller: tuple(limits) for controller, limits in found.items()}


def _nvidia_display_devices(files: _Files) -> tuple[str, ...]:
    """PCI vendor 0x10de is NVIDIA; class 0x03xxxx is a display controller."""
    place = "sys/bus/pci/devices"
    return tuple(
        name
        for name in files.entries(place)
        if files.text(f"{place}/{name}/vendor").strip() == "0x10de"
        and files.text(f"{place}/{name}/class").startswith("0x03")
    )


def _gpu_report(files: _Files, *, live: bool, signs: bool) -> str:
    if not live:
        return files.text("edge-agent-probe/nvidia-smi.xml") or files.text("edge-agent-probe/nvml.json")
    if signs or any(files.exists(name) for name in NVIDIA_SIGNS):
        return _lately(ask_nvml)
    return ""


_ANSWERS: dict[Callable[[], str], tuple[float, str]] = {}


def _lately(ask: Callable[[], str]) -> str:
    """What was answered a moment ago, or what is answered now."""
    now = time.monotonic()
    if ask in _ANSWERS:
        at, answer = _ANSWERS[ask]
        if now - at < (GIVEN_UP_S if '"error"' in answer else FRESH_S):
            return answer
    answer = ask()
    _ANSWERS[ask] = (time.monotonic(), answer)
    return answer


def _cuda_report(files: _Files, *, live: bool, asked: bool) -> str:
    if not live:
        return files.text("edge-agent-probe/cuda.json")
    return _ask_cuda_once() if asked else ""


@cache
def _ask_cuda_once() -> str:
    """Loading CUDA takes seconds, and what is installed does not change under a running program."""
    return ask_cuda()


def _thermal_zones(files: _Files) -> tuple[ThermalZone, ...]:
    place = "sys/class/thermal"
    zones = [name for name in files.entries(place) if name.startswith("thermal_zone")][:64]
    return tuple(_thermal_zone(files, f"{place}/{zone}") for zone in zones)


def _thermal_zone(files: _Files, zone: str) -> ThermalZone:
    """Its first trip point of the kind at which the kernel slows the machine down."""
    trip = next(
        (
            files.text(f"{zone}/{name.removesuffix('_type')}_temp")
            for name in files.entries(zone)
            if name.startswith("trip_point_")
            and name.endswith("_type")
            and files.text(f"{zone}/{name}").strip() in {"passive", "hot"}
        ),
        "",
    )
    return ThermalZone(name=files.text(f"{zone}/type"), temperature=files.text(f"{zone}/temp"), trip=trip)
