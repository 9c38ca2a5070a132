"""How the machine is doing is read from files, and files that are missing or mad trouble nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.health import load


def put(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_machine_that_tells_nothing_is_well(tmp_path: Path) -> None:
    """No pressure files, no thermometer, no control groups."""
    assert load.read(tmp_path) == load.Machine()


def test_pressure_and_memory(tmp_path: Path) -> None:
    """`some` for the CPU, `full` for memory, over ten seconds."""
    put(
        tmp_path,
        proc__pressure__cpu="some avg10=63.09 avg60=82.81 total=1\nfull avg10=0.00 avg60=0.00 total=0\n",
        proc__pressure__memory="some avg10=9.00 avg60=0.00 total=1\nfull avg10=4.50 avg60=0.00 total=0\n",
        proc__meminfo="MemTotal: 4000000 kB\nMemAvailable:    2048000 kB\n",
    )
    read = load.read(tmp_path)
    assert (read.cpu_pressure, read.memory_pressure, read.available_mb) == (63.09, 4.5, 2000.0)


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_may_leave_less_than_the_machine_has(tmp_path: Path, version: int) -> None:
    """Limit less use, the reclaimable cache given back; "max" is no limit."""
    put(tmp_path, proc__meminfo="MemAvailable: 2048000 kB\n")
    if version == 2:
        put(tmp_path, proc__self__cgroup="0::/system.slice/edge-agent.service\n")
        group = tmp_path / "sys/fs/cgroup/system.slice/edge-agent.service"
        names = ("memory.max", "memory.current")
    else:
        put(tmp_path, proc__self__cgroup="4:memory:/box\n2:cpu:/other\n")
        group = tmp_path / "sys/fs/cgroup/memory/box"
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    group.mkdir(parents=True)
    (group / names[0]).write_text(f"{400 << 20}\n")
    (group / names[1]).write_text(f"{350 << 20}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {20 << 20}\n")
    assert load.read(tmp_path).available_mb == 70
    (group / names[0]).write_text("max\n" if version == 2 else "9223372036854771712\n")
    assert load.read(tmp_path).available_mb == 2000


def test_the_hottest_zone_and_its_own_limit(tmp_path: Path) -> None:
    """A Raspberry Pi slows down at 80 °C and says so in its trip points; sleeping sensors say nonsense."""
    zones = "sys__class__thermal__thermal_zone"
    put(
        tmp_path,
        **{
            f"{zones}0__temp": "61000\n",
            f"{zones}1__temp": "79500\n",
            f"{zones}1__trip_point_0_type": "passive\n",
            f"{zones}1__trip_point_0_temp": "80000\n",
            f"{zones}1__trip_point_1_type": "critical\n",
            f"{zones}1__trip_point_1_temp": "110000\n",
            f"{zones}2__temp": "-256000\n",
        },
    )
    read = load.read(tmp_path)
    assert (read.temperature_c, read.hot_c) == (79.5, 80.0)


def test_throttle_counts_of_pcs_and_of_a_jetson(tmp_path: Path) -> None:
    """Core and package counts of x86, over-current events of a Jetson; other monitors are not asked."""
    put(
        tmp_path,
        sys__devices__system__cpu__cpu0__thermal_throttle__core_throttle_count="3\n",
        sys__devices__system__cpu__cpu0__thermal_throttle__package_throttle_count="4\n",
        sys__class__hwmon__hwmon1__name="soctherm_oc\n",
        sys__class__hwmon__hwmon1__oc3_event_cnt="5\n",
        sys__class__hwmon__hwmon2__name="ina3221\n",
        sys__class__hwmon__hwmon2__oc1_event_cnt="100\n",
    )
    assert load.read(tmp_path).throttled == 12


def test_nonsense_is_nothing(tmp_path: Path) -> None:
    """A kernel that writes something else is not believed, and stops nobody."""
    put(
        tmp_path,
        proc__pressure__cpu="\x00\xffwhat",
        proc__meminfo="MemAvailable: lots\n",
        proc__self__cgroup="0::/../../etc\nrubbish\n",
        sys__class__thermal__thermal_zone0__temp="hot\n",
    )
    assert load.read(tmp_path) == load.Machine()


def test_this_machine_can_be_read() -> None:
    """Whatever it is, there is some memory."""
    assert 0 < load.read().available_mb < 1e9
