"""Reads how the machine is doing, below a given root: pressure, memory, heat, throttling. Only I/O here.

Files that are not there are normal (old kernels have no pressure, virtual machines no thermometer) and give
the value that troubles nobody.
"""

from __future__ import annotations

import re
from pathlib import Path

from edge_agent.types import Value

_HOT_C = 90.0
"""Assumed where no trip point is told; PCs throttle at 95 to 105 °C, boards with one tell it."""
_NO_LIMIT = 1 << 60


class Machine(Value, frozen=True):
    """What the kernel tells of now."""

    cpu_pressure: float = 0.0
    memory_pressure: float = 0.0
    available_mb: float = 1e9
    temperature_c: float = 0.0
    """Of the hottest zone; 0 where there is no thermometer."""
    hot_c: float = _HOT_C
    """The lowest trip point of that zone that throttles."""
    throttled: int = 0


def read(root: Path = Path("/")) -> Machine:
    """All of it; takes about a millisecond."""
    temperature_c, hot_c = _heat(root)
    return Machine(
        cpu_pressure=_pressure(root / "proc/pressure/cpu", "some"),
        memory_pressure=_pressure(root / "proc/pressure/memory", "full"),
        available_mb=min(_available_mb(root), _group_left_mb(root)),
        temperature_c=temperature_c,
        hot_c=hot_c,
        throttled=_throttled(root),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text, re.ASCII) else None


def _pressure(path: Path, kind: str) -> float:
    match = re.search(rf"^{kind} avg10=([0-9]{{1,3}}(?:\.[0-9]+)?)", _text(path), re.MULTILINE | re.ASCII)
    return float(match[1]) if match else 0.0


def _available_mb(root: Path) -> float:
    match = re.search(
        r"^MemAvailable:\s+([0-9]{1,15}) kB", _text(root / "proc/meminfo"), re.MULTILINE | re.ASCII
    )
    return int(match[1]) / 1024 if match else 1e9


def _group_left_mb(root: Path) -> float:
    """Left below the limit of this process's control group, version 2 or 1."""
    left = [1e9]
    for line in _text(root / "proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if ".." in path:
            continue
        if hierarchy == "0" and not names:
            group = root / "sys/fs/cgroup" / path.lstrip("/")
            limit, used = _number(group / "memory.max"), _number(group / "memory.current")
        elif "memory" in names.split(","):
            group = root / "sys/fs/cgroup/memory" / path.lstrip("/")
            limit, used = _number(group / "memory.limit_in_bytes"), _number(group / "memory.usage_in_bytes")
        else:
            continue
        if limit is not None and used is not None and limit < _NO_LIMIT:
            reclaimable = _reclaimable(group / "memory.stat")
            left.append((limit - used + reclaimable) / (1 << 20))
    return max(0.0, min(left))


def _reclaimable(path: Path) -> int:
    """Bytes of the page cache that count as used but can be had at once."""
    match = re.search(r"^(?:total_)?inactive_file ([0-9]{1,18})$", _text(path), re.MULTILINE | re.ASCII)
    return int(match[1]) if match else 0


def _heat(root: Path) -> tuple[float, float]:
    hottest, hot_c = 0.0, _HOT_C
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value = _number(zone / "temp")
        if value is None or not 0 < value / 1000 < 150:  # sleeping sensors answer 0 or nonsense
            continue
        if value / 1000 > hottest:
            hottest, hot_c = value / 1000, _trip_c(zone)
    return hottest, hot_c


def _trip_c(zone: Path) -> float:
    """The lowest passive or hot trip point of a zone: from there on the kernel slows things down."""
    trips = []
    for kind in zone.glob("trip_point_*_type"):
        if _text(kind).strip() in {"passive", "hot"}:
            value = _number(kind.with_name(kind.name.replace("_type", "_temp")))
            if value is not None and 30_000 < value < 150_000:
                trips.append(value / 1000)
    return min(trips, default=_HOT_C)


def _throttled(root: Path) -> int:
    """Events of the CPU (x86) and of a Jetson's power monitor."""
    cpus = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    events = [_number(path) for path in cpus]
    for monitor in (root / "sys/class/hwmon").glob("hwmon*"):
        if _text(monitor / "name").strip() == "soctherm_oc":
            events += [_number(path) for path in monitor.glob("oc*_event_cnt")]
    return sum(event for event in events if event)
