"""Reads /proc/cpuinfo of x86 and ARM machines. No I/O here; any text is tolerated."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from edge_agent.hardware.raw import CpuRange
from edge_agent.types import CoreKind, Value

FAST_ENOUGH = 0.6
"""Share of the fastest core's capacity from which a core counts as fast. The kernel gives a Cortex-A55
beside a Cortex-A76 about half."""

ARM_CORES: Mapping[tuple[int, int], str] = {
    (0x41, 0xB76): "ARM1176",
    (0x41, 0xC07): "Cortex-A7",
    (0x41, 0xC09): "Cortex-A9",
    (0x41, 0xC0F): "Cortex-A15",
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD0E): "Cortex-A76AE",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4B): "Cortex-A78C",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD85): "Cortex-X925",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
    (0xC0, 0xAC3): "Ampere-1",
}
"""(implementer, part) of the MIDR register to the name in its maker's manuals, as lscpu has them."""

MAKERS = {0x41: "ARM", 0x4E: "NVIDIA", 0x51: "Qualcomm", 0x61: "Apple", 0x48: "HiSilicon", 0xC0: "Ampere"}

SLOW_CORES = frozenset({"Cortex-A7", "Cortex-A35", "Cortex-A53", "Cortex-A55", "Cortex-A510", "Cortex-A520"})
"""Makes that sit beside faster ones in mixed processors."""


class Cpu(Value, frozen=True):
    """What /proc/cpuinfo tells."""

    arch: str = ""
    """x86_64, aarch64, armv7l, ...; empty when the text does not tell."""
    model: str = ""
    flags: frozenset[str] = frozenset()
    """Flags that every core has."""
    blocks: int = 0
    """Processors listed."""
    numbers: tuple[int, ...] = ()
    """Number of each listed processor; there are gaps where cores are switched off."""
    makes: tuple[str, ...] = ()
    """Name of the core of each listed processor."""
    cores: int = 0
    """Cores without hyperthreads; 0: not told."""
    board: str = ""
    """The "Model" line that some ARM boards add."""


def parse(cpuinfo: str) -> Cpu:
    """Read the text of /proc/cpuinfo; what is missing or damaged stays empty."""
    blocks, tail = _blocks(cpuinfo)
    if not blocks:
        return Cpu(board=tail.get("Model", ""))
    arm = any("CPU part" in block or "CPU implementer" in block for block in blocks)
    key = "Features" if arm else "flags"
    told = [frozenset(block[key].split()) for block in blocks if key in block]
    flags = frozenset.intersection(*told) if told else frozenset()
    makes = tuple(_arm_core(block) if arm else block.get("model name", "") for block in blocks)
    return Cpu(
        arch=_arch(flags, arm=arm),
        model=_model(makes),
        flags=flags,
        blocks=len(blocks),
        numbers=tuple(_number(block["processor"], place) for place, block in enumerate(blocks)),
        makes=makes,
        cores=0 if arm else _physical_cores(blocks),
        board=tail.get("Model", ""),
    )


def cpu_list(text: str) -> frozenset[int]:
    """The CPUs of a kernel list such as "0-3,8"; malformed parts are left out."""
    found: set[int] = set()
    for part in text.strip().split(","):
        match = re.fullmatch(r"\s*([0-9]{1,5})(?:-([0-9]{1,5}))?\s*", part, re.ASCII)
        if match:
            found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def core_kinds(cpu: Cpu, capacity: Sequence[CpuRange], types: Sequence[CpuRange]) -> tuple[CoreKind, ...]:
    """Group the cores by make, fast ones first; empty when nothing distinguishes or names them."""
    if len(types) > 1:
        names = {"cpu_core": "performance core", "cpu_atom": "efficiency core"}
        return tuple(
            CoreKind(
                name=names.get(kind.name, kind.name),
                count=len(cpu_list(kind.cpus)),
                fast=kind.name == "cpu_core",
            )
            for kind in sorted(types, key=lambda kind: kind.name != "cpu_core")
            if cpu_list(kind.cpus)
        )
    by_cpu = {
        number: int(entry.name)
        for entry in capacity
        if entry.name.isascii() and entry.name.isdigit() and len(entry.name) < 6
        for number in cpu_list(entry.cpus)
    }
    best = max(by_cpu.values(), default=0)
    mixed = len(set(cpu.makes)) > 1
    counts: Counter[tuple[str, bool]] = Counter()
    for number, make in zip(cpu.numbers, cpu.makes, strict=True):
        slow = by_cpu[number] < FAST_ENOUGH * best if number in by_cpu else mixed and make in SLOW_CORES
        counts[make, not slow] += 1
    return tuple(
        CoreKind(name=name, count=count, fast=fast)
        for (name, fast), count in sorted(counts.items(), key=lambda item: (not item[0][1], item[0][0]))
        if name
    )


def physical_cores(siblings: Sequence[str], told: int, logical: int) -> int:
    """Cores without hyperthreads: counted by the lists of siblings, else as cpuinfo told; 0: unknown."""
    if siblings:
        return len({cpu_list(text) for text in siblings if cpu_list(text)})
    return told if 0 < told <= logical else 0


def _blocks(text: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Blocks that begin with "processor", and the lines after them that belong to none."""
    blocks: list[dict[str, str]] = []
    tail: dict[str, str] = {}
    current: dict[str, str] = tail
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        key = key.strip()
        if not colon:
            if not line.strip():
                current = tail
            continue
        if key == "processor":
            current = {}
            blocks.append(current)
        current.setdefault(key, value.strip())
    return blocks, tail


def _arch(flags: frozenset[str], *, arm: bool) -> str:
    if arm:
        return "aarch64" if "asimd" in flags else "armv7l"
    if flags:
        return "x86_64" if "lm" in flags else "i686"
    return ""


def _number(text: str, place: int) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) else place


def _hexadecimal(text: str) -> int | None:
    return int(text, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", text) else None


def _arm_core(block: Mapping[str, str]) -> str:
    maker, part = _hexadecimal(block.get("CPU implementer", "")), _hexadecimal(block.get("CPU part", ""))
    if maker is None or part is None:
        return ""
    return ARM_CORES.get((maker, part)) or f"{MAKERS.get(maker, f'maker {maker:#x}')} part {part:#x}"


def _model(makes: Sequence[str]) -> str:
    names = [name for name in dict.fromkeys(makes) if name]
    if len(names) < 2:
        return re.sub(r"\s+", " ", names[0]) if names else ""
    counts = Counter(makes)
    return " + ".join(f"{counts[name]}× {name}" for name in names)


def _physical_cores(blocks: Sequence[Mapping[str, str]]) -> int:
    return len({(block.get("physical id", "0"), block["core id"]) for block in blocks if "core id" in block})
