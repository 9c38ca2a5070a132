"""Where a process's control groups keep its limits, and what the limits say. No I/O here.

A limit anywhere between the process's own group and the mount point holds, so every level is looked at
and the smallest counts. In a container the path in /proc/self/cgroup may be the host's; the mount's root
in /proc/self/mountinfo tells how much of it is visible (man 7 cgroups, man 5 proc).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from edge_agent.hardware.raw import CgroupLimit
from edge_agent.types import Value

NO_LIMIT_BYTES = 1 << 60
"""Version 1 writes "no limit" as a page-rounded 2^63; any number this large means none."""


class Group(Value, frozen=True):
    """One group directory to look into for one controller."""

    controller: str
    version: int
    path: str


class _Mount(Value, frozen=True):
    version: int
    root: str
    point: str
    options: tuple[str, ...]


def groups(cgroup: str, mountinfo: str) -> tuple[Group, ...]:
    """Directories that may limit "cpu" or "memory", innermost first.

    Args:
        cgroup: text of /proc/self/cgroup.
        mountinfo: text of /proc/self/mountinfo; empty: the usual mount points are assumed.
    """
    mounts = _mounts(mountinfo) or _usual_mounts()
    found: list[Group] = []
    for line in cgroup.splitlines():
        hierarchy, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if not path.startswith("/") or ".." in path:
            continue
        unified = hierarchy == "0" and not names
        for controller in ("cpu", "memory"):
            if not unified and controller not in names.split(","):
                continue
            for mount in mounts:
                if mount.version == (2 if unified else 1) and (unified or controller in mount.options):
                    found += _levels(controller, mount, path)
    return tuple(dict.fromkeys(found))


def quota_cpus(limits: Sequence[CgroupLimit]) -> float | None:
    """CPUs' worth of time the quotas allow; None when there is no quota."""
    allowed = [cpus for limit in limits if (cpus := _quota(limit)) is not None]
    return min(allowed, default=None)


def limit_bytes(limits: Sequence[CgroupLimit]) -> int | None:
    """The smallest memory limit; None when there is none."""
    sizes = [size for limit in limits if (size := whole_number(limit.text)) is not None]
    return min((size for size in sizes if 0 < size < NO_LIMIT_BYTES), default=None)


def whole_number(text: str) -> int | None:
    """The number a one-value file holds; None for anything else, "max" included."""
    match = re.fullmatch(r"\s*([0-9]{1,20})\s*", text, re.ASCII)
    return int(match[1]) if match else None


def _quota(limit: CgroupLimit) -> float | None:
    words = limit.text.split()
    quota, period = (words[0], limit.period) if limit.period and words else ("", "")
    if len(words) == 2 and not limit.period:
        quota, period = words
    quota_us, period_us = whole_number(quota), whole_number(period)
    if not quota_us or not period_us:
        return None
    return quota_us / period_us


def _mounts(mountinfo: str) -> tuple[_Mount, ...]:
    found = []
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        here, there = left.split(" "), right.split(" ")
        if not separator or len(here) < 5 or len(there) < 3 or there[0] not in {"cgroup", "cgroup2"}:
            continue
        version = 2 if there[0] == "cgroup2" else 1
        found.append(_Mount(version=version, root=here[3], point=here[4], options=tuple(there[2].split(","))))
    return tuple(found)


def _usual_mounts() -> tuple[_Mount, ...]:
    base = "/sys/fs/cgroup"
    return (
        _Mount(version=2, root="/", point=base, options=()),
        _Mount(version=2, root="/", point=f"{base}/unified", options=()),
        _Mount(version=1, root="/", point=f"{base}/memory", options=("memory",)),
        _Mount(version=1, root="/", point=f"{base}/cpu,cpuacct", options=("cpu",)),
        _Mount(version=1, root="/", point=f"{base}/cpu", options=("cpu",)),
    )


def _levels(controller: str, mount: _Mount, path: str) -> list[Group]:
    place, root = PurePosixPath(path), PurePosixPath(mount.root)
    inside = place.relative_to(root) if place.is_relative_to(root) else PurePosixPath()
    levels = [inside, *inside.parents]
    return [
        Group(controller=controller, version=mount.version, path=str(PurePosixPath(mount.point, level)))
        for level in levels
    ]
