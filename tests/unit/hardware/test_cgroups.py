"""Control groups: where the limits are looked for and what they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.hardware import cgroups
from edge_agent.hardware.raw import CgroupLimit

V2_MOUNT = "29 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"


def _paths(found: tuple[cgroups.Group, ...], controller: str) -> list[str]:
    return [group.path for group in found if group.controller == controller]


def test_every_level_above_the_process_is_looked_at() -> None:
    """A parent's limit binds as much as one's own, innermost first."""
    found = cgroups.groups("0::/a.slice/b.service\n", V2_MOUNT)
    expected = ["/sys/fs/cgroup/a.slice/b.service", "/sys/fs/cgroup/a.slice", "/sys/fs/cgroup"]
    assert _paths(found, "cpu") == _paths(found, "memory") == expected


def test_path_of_the_host_is_cut_to_what_the_container_sees() -> None:
    """In a container the mount shows the container's own group as its root."""
    mount = "41 30 0:31 /docker/4f1c /sys/fs/cgroup/memory ro master:14 - cgroup cgroup rw,memory\n"
    found = cgroups.groups("9:memory:/docker/4f1c/inner\n", mount)
    assert _paths(found, "memory") == ["/sys/fs/cgroup/memory/inner", "/sys/fs/cgroup/memory"]


def test_path_outside_the_mount_falls_back_to_the_mount() -> None:
    """A path that the mount does not show cannot be walked; the mount itself is what limits us."""
    mount = "41 30 0:31 /other /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    assert _paths(cgroups.groups("9:memory:/docker/x\n", mount), "memory") == ["/sys/fs/cgroup/memory"]


def test_without_mountinfo_the_usual_places_are_tried() -> None:
    """A copied tree need not hold mountinfo."""
    found = cgroups.groups("3:cpu,cpuacct:/\n0::/\n", "")
    assert "/sys/fs/cgroup/cpu,cpuacct" in _paths(found, "cpu")
    assert "/sys/fs/cgroup" in _paths(found, "memory")


@pytest.mark.parametrize(
    ("text", "period", "cpus"),
    [
        ("150000 100000\n", "", 1.5),
        ("max 100000\n", "", None),
        ("200000\n", "100000\n", 2.0),
        ("-1\n", "100000\n", None),
        ("0 100000", "", None),
        ("150000 0", "", None),
        ("", "", None),
        ("nonsense", "", None),
        ("1 2 3", "", None),
    ],
)
def test_cpu_quota(text: str, period: str, cpus: float | None) -> None:
    """Version 2 has quota and period in one file, version 1 in two; -1, 0 and "max" mean none."""
    assert cgroups.quota_cpus([CgroupLimit(path="/g", text=text, period=period)]) == cpus


@pytest.mark.parametrize(
    ("text", "size"),
    [("1073741824\n", 1 << 30), ("max\n", None), ("9223372036854771712\n", None), ("0", None), ("-5", None)],
)
def test_memory_limit(text: str, size: int | None) -> None:
    """The page-rounded maximum of version 1 and "max" of version 2 mean none."""
    assert cgroups.limit_bytes([CgroupLimit(path="/g", text=text)]) == size


def test_the_smallest_limit_counts() -> None:
    """Nested groups: whichever is tightest."""
    texts = ["max", "3000000000", "2000000000"]
    assert cgroups.limit_bytes([CgroupLimit(path="/g", text=text) for text in texts]) == 2_000_000_000


@pytest.mark.parametrize("path", ["/../../etc", "relative", ""])
def test_paths_that_lead_elsewhere_are_not_followed(path: str) -> None:
    """Outside the namespace the kernel shows "/../..", which names nothing that can be read here."""
    assert cgroups.groups(f"0::{path}\n", V2_MOUNT) == ()


def test_groups_without_a_controller_of_interest_are_passed_over() -> None:
    """Both versions mounted at once: version 2 has no name, the named line of version 1 is systemd's own."""
    mounts = (
        "30 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "31 23 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
        "32 23 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    )
    found = cgroups.groups("2:memory:/m\n1:name=systemd:/s\n0::/u\n", mounts)
    assert _paths(found, "memory") == [
        "/sys/fs/cgroup/memory/m",
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/unified/u",
        "/sys/fs/cgroup/unified",
    ]
    assert _paths(found, "cpu") == ["/sys/fs/cgroup/unified/u", "/sys/fs/cgroup/unified"]


def test_mounts_of_other_kinds_and_broken_lines_are_passed_over() -> None:
    """Only control groups count, and a line cut short is none."""
    lines = (
        "25 1 0:5 / /proc rw - proc proc rw",
        "29 23 0:26 / /sys/fs/cgroup rw - cgroup2",
        "- cgroup2 x rw",
        "",
    )
    found = cgroups.groups("0::/a\n", "\n".join((*lines, V2_MOUNT)))
    assert _paths(found, "cpu") == ["/sys/fs/cgroup/a", "/sys/fs/cgroup"]


@given(st.text(), st.text())
def test_hostile_text_never_raises_and_never_leaves_the_mount(cgroup: str, mountinfo: str) -> None:
    """A path with ".." cannot lead the probe elsewhere."""
    for group in cgroups.groups(cgroup, mountinfo):
        assert ".." not in group.path


@given(st.lists(st.builds(CgroupLimit, path=st.just("/g"), text=st.text(), period=st.text())))
def test_hostile_limits_never_raise(limits: list[CgroupLimit]) -> None:
    """Any text is either a positive limit or none."""
    quota, size = cgroups.quota_cpus(limits), cgroups.limit_bytes(limits)
    assert quota is None or quota > 0
    assert size is None or size > 0
