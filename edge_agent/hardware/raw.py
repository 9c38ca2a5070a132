"""What a machine says about itself, as text, before anyone judges it."""

from __future__ import annotations

from edge_agent.types import Value


class CpuRange(Value, frozen=True):
    """A kernel list of CPUs such as "0-3,8" with the name it is known under."""

    name: str
    cpus: str


class CgroupLimit(Value, frozen=True):
    """One limit file of one control group; `period` is the second file of a version 1 CPU quota."""

    path: str
    text: str
    period: str = ""


class ThermalZone(Value, frozen=True):
    """One /sys/class/thermal/thermal_zone*: its `type`, `temp` and first passive or hot trip, as text."""

    name: str
    temperature: str
    trip: str = ""


class RawFacts(Value, frozen=True):
    """Texts read from one machine. Empty means: the file is not there."""

    arch: str = ""
    """As `uname -m` says; empty where only the files can tell."""
    userland_bits: int = 64
    cpuinfo: str = ""
    meminfo: str = ""
    cpu_online: str = ""
    cpu_allowed: str = ""
    """CPUs this process may run on."""
    cpu_capacity: tuple[CpuRange, ...] = ()
    """Name: the capacity the kernel gives (1024 is the fastest); one entry per CPU."""
    cpu_siblings: tuple[str, ...] = ()
    """Per CPU, the list of CPUs that share its core."""
    cpu_types: tuple[CpuRange, ...] = ()
    """cpu_core and cpu_atom of Intel's mixed processors."""
    cpu_quotas: tuple[CgroupLimit, ...] = ()
    memory_limits: tuple[CgroupLimit, ...] = ()
    board_model: str = ""
    board_compatible: str = ""
    """NUL-separated."""
    product: str = ""
    """Maker and product from the firmware of a PC, one per line."""
    tegra_release: str = ""
    nvidia_pci: tuple[str, ...] = ()
    """PCI addresses of NVIDIA display devices."""
    nvidia_driver: str = ""
    """Text of /proc/driver/nvidia/version."""
    cuda_report: str = ""
    """JSON of the CUDA child process; empty: there was no GPU to ask for."""
    power_mode: str = ""
    """Text of /var/lib/nvpmodel/status of a Jetson."""
    thermal_zones: tuple[ThermalZone, ...] = ()
    gpu_report: str = ""
    """JSON of the NVML child process, or the output of `nvidia-smi -q -x`."""
    unread: tuple[str, ...] = ()
    """Files that are there but could not be read, and why."""
