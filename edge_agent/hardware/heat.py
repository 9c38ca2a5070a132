"""Heat and power modes, looked at before a model is chosen and loaded. No I/O here; any text is tolerated."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edge_agent.hardware.raw import ThermalZone
from edge_agent.types import Gpu

HOT_C = 95.0
"""Where a zone names no trip point: Intel and ARM parts slow down between 95 and 105 degrees."""
HOT_GPU_C = 87.0
"""GeForce cards slow down from 83 to 90 degrees (GPU target and slowdown temperatures of nvidia-smi -q)."""


def notes(zones: Sequence[ThermalZone], gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """A sentence for everything that is so hot that it is, or is about to be, slowed down."""
    found = []
    for zone in zones:
        degrees, trip = _degrees(zone.temperature), _degrees(zone.trip)
        if degrees is not None and degrees >= min(trip or HOT_C, 125.0):
            name = "".join(c if c.isprintable() else " " for c in zone.name).strip()[:40] or "a sensor"
            found.append(
                f"{name} is at {degrees:.0f} °C: the machine slows itself down, recognition will be late"
            )
    found += [
        f"{gpu.name} is at {gpu.temperature_c:.0f} °C: it slows itself down, recognition will be late"
        for gpu in gpus
        if gpu.temperature_c is not None and gpu.temperature_c >= HOT_GPU_C
    ]
    return tuple(found)


def power_mode(status: str) -> str:
    """ "2" from "pmode:0002 fmode:fanNull"; empty for anything else."""
    match = re.search(r"\bpmode:([0-9]{1,4})\b", status, re.ASCII)
    return str(int(match[1])) if match else ""


def _degrees(millidegrees: str) -> float | None:
    """Of a thermal zone's file; zones that are off give 0, negative or absurd numbers."""
    match = re.fullmatch(r"\s*([0-9]{4,6})\s*", millidegrees, re.ASCII)
    return int(match[1]) / 1000 if match else None
