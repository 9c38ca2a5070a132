"""Turns the texts of a machine into the facts that profiles are chosen by.

No I/O here. Truncated, foreign or hostile text never raises: what cannot be understood stays at its
modest default and is told in `Device.notes`.
"""

from __future__ import annotations

import re

from edge_agent.hardware import cgroups, cpu, gpu, heat
from edge_agent.hardware.raw import RawFacts
from edge_agent.types import Device

BITS_32 = {"aarch64": "armv8l", "x86_64": "i686"}
"""What a 32-bit program sees on a 64-bit kernel; libraries must match the program."""

LOW_MEMORY_BYTES = 300 << 20
"""Free memory below which a model of the smallest kind may not load (peak of whisper-base: 294 MB)."""


def device(raw: RawFacts) -> Device:
    """The facts of the machine that `raw` was read from."""
    notes = [f"cannot read {problem}" for problem in raw.unread]
    processor = cpu.parse(raw.cpuinfo)
    if not processor.flags:
        notes.append("/proc/cpuinfo does not tell the CPU's features; profiles that need them are left out")
    logical, usable = _cpus(raw, processor, notes)
    ram = _meminfo_bytes(raw.meminfo, "MemTotal")
    if ram is None:
        notes.append("/proc/meminfo does not tell how much memory there is")
    free = _meminfo_bytes(raw.meminfo, "MemAvailable")
    if free is not None and free < LOW_MEMORY_BYTES:
        notes.append(f"only {free >> 20} MB of memory are free now")
    limit = cgroups.limit_bytes(raw.memory_limits)
    compatible = tuple(filter(None, map(_printable, raw.board_compatible.split("\0"))))
    l4t = gpu.l4t_release(raw.tegra_release)
    if raw.tegra_release.strip() and not l4t:
        notes.append("/etc/nv_tegra_release is not in the known form")
    graphics = gpu.find(raw.gpu_report, compatible=compatible, pci=raw.nvidia_pci, driver=raw.nvidia_driver)
    return Device(
        arch=_arch(raw, processor, notes),
        cpu_model=_printable(processor.model) or "unknown CPU",
        cpu_flags=processor.flags,
        cores=logical,
        usable_cpus=usable,
        ram_bytes=ram or 0,
        usable_ram_bytes=min(ram or 0, limit) if limit is not None and ram else ram or limit or 0,
        board=_board(raw, processor),
        board_compatible=compatible,
        l4t=l4t,
        jetpack=gpu.jetpack(l4t),
        physical_cores=cpu.physical_cores(raw.cpu_siblings, processor.cores, logical),
        core_kinds=cpu.core_kinds(processor, raw.cpu_capacity, raw.cpu_types),
        gpus=graphics.gpus,
        cuda=gpu.cuda(raw.cuda_report, runtime=graphics.cuda) if graphics.gpus else None,
        power_mode=heat.power_mode(raw.power_mode),
        notes=(*notes, *graphics.notes, *heat.notes(raw.thermal_zones, graphics.gpus)),
    )


def _arch(raw: RawFacts, processor: cpu.Cpu, notes: list[str]) -> str:
    arch = _printable(raw.arch) or processor.arch
    if raw.userland_bits == 32 and arch in BITS_32:
        notes.append(f"this is a 32-bit system on a 64-bit kernel ({arch})")
        return BITS_32[arch]
    if not arch:
        notes.append("the kind of processor cannot be told")
    return arch or "unknown"


def _cpus(raw: RawFacts, processor: cpu.Cpu, notes: list[str]) -> tuple[int, float]:
    """Logical CPUs of the machine, and how many of them this process may use."""
    online = cpu.cpu_list(raw.cpu_online)
    logical = len(online) or processor.blocks
    if not logical:
        notes.append("the number of CPUs cannot be told; one is assumed")
        logical = 1
    if online and processor.blocks and len(online) != processor.blocks:
        notes.append(f"/proc/cpuinfo lists {processor.blocks} CPUs, the kernel says {len(online)} are online")
    allowed = cpu.cpu_list(raw.cpu_allowed)
    mine = len(allowed & online) if online else len(allowed)
    usable = float(min(mine or logical, logical))
    quota = cgroups.quota_cpus(raw.cpu_quotas)
    return logical, usable if quota is None else min(usable, quota)


def _meminfo_bytes(meminfo: str, key: str) -> int | None:
    match = re.search(rf"^{key}:\s*([0-9]{{1,15}}) kB$", meminfo, re.MULTILINE | re.ASCII)
    return int(match[1]) * 1024 if match else None


def _board(raw: RawFacts, processor: cpu.Cpu) -> str:
    told = _printable(raw.board_model) or _printable(processor.board)
    if told:
        return told
    words = [line for line in map(_printable, raw.product.splitlines()) if line and "O.E.M." not in line]
    return " ".join(dict.fromkeys(words))


def _printable(text: str) -> str:
    """One line without control characters, at most 200 long: it will be shown and published."""
    return "".join(c if c.isprintable() else " " for c in text).strip()[:200]
