"""From texts to facts: limits, damage and hostile input."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.hardware import facts
from edge_agent.hardware.raw import CgroupLimit, CpuRange, RawFacts

CPUINFO = (
    "processor: 0\nmodel name: A CPU\nflags: lm avx2\n\nprocessor: 1\nmodel name: A CPU\nflags: lm avx2\n"
)
MEMINFO = "MemTotal:        2097152 kB\nMemAvailable:    1048576 kB\n"


def test_nothing_readable_still_gives_a_device_with_notes() -> None:
    """An empty machine is one modest CPU of unknown kind, and everything missing is told."""
    device = facts.device(RawFacts())
    assert (device.arch, device.cores, device.usable_cpus, device.ram_bytes) == ("unknown", 1, 1.0, 0)
    assert len(device.notes) == 4


def test_affinity_and_quota_both_bind() -> None:
    """The tighter of the two counts, however many CPUs the machine has."""
    raw = RawFacts(
        arch="x86_64",
        cpuinfo=CPUINFO,
        meminfo=MEMINFO,
        cpu_online="0-1",
        cpu_allowed="1",
        cpu_quotas=(CgroupLimit(path="/", text="150000 100000"),),
    )
    assert facts.device(raw).usable_cpus == 1.0
    assert facts.device(RawFacts(cpuinfo=CPUINFO, cpu_online="0-1", cpu_allowed="0-1")).usable_cpus == 2.0


def test_affinity_names_only_cpus_that_are_online() -> None:
    """Containers often show 0-127 as allowed on a machine of two."""
    raw = RawFacts(cpuinfo=CPUINFO, meminfo=MEMINFO, cpu_online="0-1", cpu_allowed="0-127")
    assert facts.device(raw).usable_cpus == 2.0


def test_memory_limit_above_the_machine_does_not_add_memory() -> None:
    """A limit of 4 GB on a 2 GB machine leaves 2 GB."""
    raw = RawFacts(
        cpuinfo=CPUINFO, meminfo=MEMINFO, memory_limits=(CgroupLimit(path="/", text="4294967296"),)
    )
    assert facts.device(raw).usable_ram_bytes == 2 << 30


def test_little_free_memory_is_told() -> None:
    """A machine that is full now is chosen for by its size, and the reader is warned."""
    raw = RawFacts(arch="x86_64", cpuinfo=CPUINFO, meminfo=MEMINFO.replace("1048576", "102400"))
    assert facts.device(raw).notes == ("only 100 MB of memory are free now",)


def test_32_bit_system_on_a_64_bit_kernel() -> None:
    """Raspberry Pi OS 32-bit runs a 64-bit kernel; what counts is what a program can load."""
    raw = RawFacts(arch="aarch64", userland_bits=32, cpuinfo=CPUINFO, meminfo=MEMINFO)
    device = facts.device(raw)
    assert device.arch == "armv8l"
    assert "32-bit system on a 64-bit kernel" in device.notes[0]


def test_unreadable_files_are_told() -> None:
    """A permission problem is named with its file."""
    raw = RawFacts(
        arch="x86_64", cpuinfo=CPUINFO, meminfo=MEMINFO, unread=("/etc/nv_tegra_release (denied)",)
    )
    assert facts.device(raw).notes == ("cannot read /etc/nv_tegra_release (denied)",)


def test_control_characters_never_reach_names() -> None:
    """Names are shown on terminals and published; escape sequences in a device tree must not act there."""
    raw = RawFacts(
        cpuinfo="processor: 0\nmodel name: evil\x1b[2Jcpu\nflags: lm\n",
        board_model="board\x1b]0;x\x07\0",
        board_compatible="a\x07b\0c\0",
        product="v\n",
    )
    device = facts.device(raw)
    for text in (device.cpu_model, device.board, *device.board_compatible):
        assert text.isprintable()


def test_placeholder_names_of_pc_makers_are_left_out() -> None:
    """Many PCs are called "To Be Filled By O.E.M."; that names nothing."""
    assert facts.device(RawFacts(product="To Be Filled By O.E.M.\nTo Be Filled By O.E.M.")).board == ""


NUMBERS = st.sampled_from(["0", "0-1", "0-99999", "max", "1073741824", "-1", "", "1e9", "٣"])
ANY = st.text() | NUMBERS
LIMITS = st.lists(st.builds(CgroupLimit, path=st.just("/"), text=ANY, period=ANY), max_size=3).map(tuple)
RANGES = st.lists(st.builds(CpuRange, name=ANY, cpus=ANY), max_size=3).map(tuple)
TEXTS = st.lists(ANY, max_size=3).map(tuple)
FACTS = st.builds(
    RawFacts,
    arch=ANY,
    userland_bits=st.sampled_from([32, 64]),
    cpuinfo=ANY,
    meminfo=ANY,
    cpu_online=ANY,
    cpu_allowed=ANY,
    cpu_capacity=RANGES,
    cpu_siblings=TEXTS,
    cpu_types=RANGES,
    cpu_quotas=LIMITS,
    memory_limits=LIMITS,
    board_model=ANY,
    board_compatible=ANY,
    product=ANY,
    tegra_release=ANY,
    nvidia_pci=TEXTS,
    nvidia_driver=ANY,
    gpu_report=ANY,
)


@given(FACTS)
def test_hostile_facts_never_raise(raw: RawFacts) -> None:
    """Any texts give a device that makes sense: at least one CPU, no more usable than there are."""
    device = facts.device(raw)
    assert device.cores >= 1
    assert 0 < device.usable_cpus <= device.cores
    assert device.usable_ram_bytes >= 0
    assert device.board.isprintable()
