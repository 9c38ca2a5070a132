"""Graphics processors from what the driver or the board says. No I/O here; any text is tolerated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from edge_agent.types import Cuda, Gpu, Value

MIB = 1 << 20

TEGRA_COMPUTE: Mapping[str, tuple[str, tuple[int, int]]] = {
    "nvidia,tegra210": ("Tegra X1", (5, 3)),
    "nvidia,tegra186": ("Tegra X2", (6, 2)),
    "nvidia,tegra194": ("Xavier", (7, 2)),
    "nvidia,tegra234": ("Orin", (8, 7)),
    "nvidia,tegra264": ("Thor", (11, 0)),
}
"""Chip in the device tree to name and CUDA compute capability (NVIDIA's table of CUDA GPUs)."""

ARCHITECTURE_COMPUTE: Mapping[str, tuple[int, int]] = {
    "Pascal": (6, 1),
    "Volta": (7, 0),
    "Turing": (7, 5),
    "Ampere": (8, 6),
    "Ada Lovelace": (8, 9),
    "Hopper": (9, 0),
    "Blackwell": (12, 0),
}
"""`nvidia-smi -q -x` names the architecture only; these hold for its consumer and workstation cards."""

DATACENTRE_AMPERE = re.compile(r"\bA(30|100|800)\b")
"""The Ampere cards with compute capability 8.0 instead of 8.6."""

JETPACK: Mapping[str, str] = {
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.6.0": "5.1.4",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
}
"""Linux for Tegra release to JetPack release."""

JETPACK_MAJOR = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}


class _NvmlGpu(msgspec.Struct):
    name: str = ""
    compute: tuple[int, int] | None = None
    vram_bytes: int | None = None
    free_bytes: int | None = None
    temperature_c: float | None = None
    shares_memory: bool = False


class _NvmlReport(msgspec.Struct):
    driver: str = ""
    cuda: str = ""
    error: str = ""
    gpus: tuple[_NvmlGpu, ...] = ()


class Found(Value, frozen=True):
    """GPUs, and what was odd about them."""

    gpus: tuple[Gpu, ...] = ()
    notes: tuple[str, ...] = ()
    cuda: str = ""
    """Newest CUDA version that the driver supports; empty: not told."""


def find(report: str, *, compatible: Sequence[str], pci: Sequence[str], driver: str) -> Found:
    """All GPUs of a machine.

    Args:
        report: JSON of the NVML child or XML of `nvidia-smi -q -x`; empty: no driver was asked.
        compatible: strings of the device tree.
        pci: addresses of NVIDIA display devices on the PCI bus.
        driver: text of /proc/driver/nvidia/version.
    """
    told = _from_xml(report) if report.lstrip().startswith("<") else _from_json(report)
    tegra = next((TEGRA_COMPUTE[name] for name in compatible if name in TEGRA_COMPUTE), None)
    if tegra:
        version = next((gpu.driver for gpu in told.gpus if gpu.driver), _driver_version(driver))
        name, compute = tegra
        own = Gpu(name=f"NVIDIA {name}", compute=compute, integrated=True, driver=version)
        return Found(gpus=(own, *(gpu for gpu in told.gpus if gpu.vram_bytes)), cuda=told.cuda)
    if not told.gpus and (pci or driver):
        why = "; ".join(told.notes) or "its driver does not answer"
        where = f"an NVIDIA GPU is on the PCI bus ({pci[0]})" if pci else "an NVIDIA driver is loaded"
        return Found(notes=(f"{where} but cannot be used: {why}",))
    return told


def cuda(report: str, *, runtime: str) -> Cuda:
    """What the CUDA child found, with the driver's CUDA version.

    Args:
        report: JSON; empty where nothing was tried, as below a copied root.
    """
    if not report.strip():
        return Cuda(runtime=runtime, problem="whether CUDA programs run here was not tried")
    try:
        told = msgspec.json.decode(report.encode("utf-8", "replace"), type=Cuda)
    except msgspec.MsgspecError:
        return Cuda(runtime=runtime, problem="the report on the CUDA libraries cannot be read")
    return msgspec.structs.replace(told, runtime=told.runtime or runtime)


def l4t_release(text: str) -> str:
    """ "36.4.3" from "# R36 (release), REVISION: 4.3, …"; empty when the text is something else."""
    match = re.match(r"#\s*R([0-9]{1,3})\s*\(release\),\s*REVISION:\s*([0-9]{1,3}(?:\.[0-9]{1,3})?)", text)
    return f"{match[1]}.{match[2]}" if match else ""


def jetpack(l4t: str) -> str:
    """Name of the JetPack release, for example "JetPack 6.2"; of the major version when it is not listed."""
    full = l4t if l4t.count(".") > 1 else f"{l4t}.0"
    exact = JETPACK.get(full) or JETPACK_MAJOR.get(l4t.partition(".")[0])
    return f"JetPack {exact}" if l4t and exact else ""


def _from_json(report: str) -> Found:
    if not report.strip():
        return Found()
    try:
        told = msgspec.json.decode(report.encode("utf-8", "replace"), type=_NvmlReport)
    except msgspec.MsgspecError:
        return Found(notes=("the report of the NVIDIA driver cannot be read",))
    gpus = tuple(
        Gpu(
            name=gpu.name,
            compute=gpu.compute,
            vram_bytes=gpu.vram_bytes,
            integrated=gpu.shares_memory,
            driver=told.driver,
            free_bytes=gpu.free_bytes,
            temperature_c=gpu.temperature_c,
        )
        for gpu in told.gpus
    )
    return Found(gpus=gpus, notes=(told.error,) if told.error else (), cuda=told.cuda)


def _from_xml(report: str) -> Found:
    driver = _element(report, "driver_version")
    gpus = []
    for part in re.split(r"<gpu\b", report)[1:]:
        name = _element(part, "product_name")
        memory = re.search(r"<fb_memory_usage>[^<]*<total>\s*([0-9]{1,9}) MiB", part, re.ASCII)
        usage = part[memory.start() :].partition("</fb_memory_usage>")[0] if memory else ""
        free = re.search(r"<free>\s*([0-9]{1,9}) MiB", usage, re.ASCII)
        heat = re.search(r"<gpu_temp>\s*([0-9]{1,3}) C", part, re.ASCII)
        compute = ARCHITECTURE_COMPUTE.get(_element(part, "product_architecture"))
        if compute == (8, 6) and DATACENTRE_AMPERE.search(name):
            compute = (8, 0)
        if name:
            vram = int(memory[1]) * MIB if memory else None
            gpus.append(
                Gpu(
                    name=name,
                    compute=compute,
                    vram_bytes=vram,
                    driver=driver,
                    free_bytes=int(free[1]) * MIB if free else None,
                    temperature_c=float(heat[1]) if heat else None,
                )
            )
    if not gpus:
        return Found(notes=("the report of nvidia-smi names no GPU",))
    return Found(gpus=tuple(gpus), cuda=_element(report, "cuda_version"))


def _element(text: str, name: str) -> str:
    match = re.search(rf"<{name}>([^<]{{0,200}})</{name}>", text)
    return match[1].strip() if match else ""


def _driver_version(text: str) -> str:
    match = re.search(r"\b([0-9]{3}\.[0-9]{1,3}(?:\.[0-9]{1,3})?)\b", text, re.ASCII)
    return match[1] if match else ""
