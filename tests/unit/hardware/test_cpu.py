"""Reading /proc/cpuinfo: what x86 and ARM kernels write, and what broken text does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.hardware import cpu
from edge_agent.hardware.raw import CpuRange
from edge_agent.types import CoreKind
from tests import machines


def _text(name: str) -> str:
    return (machines.HERE / name / "proc/cpuinfo").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-3,8\n", {0, 1, 2, 3, 8}),
        ("5", {5}),
        ("", set()),
        ("a-b,2", {2}),
        ("3-1", set()),
        ("0-", set()),
        ("99999999999", set()),
    ],
)
def test_kernel_list_of_cpus(text: str, cpus: set[int]) -> None:
    """Ranges and single numbers count; malformed parts are left out."""
    assert cpu.cpu_list(text) == cpus


def test_flags_are_those_every_core_has() -> None:
    """A flag that one core lacks would end the process when a thread lands there."""
    text = (
        "processor: 0\nCPU part: 0xd05\nFeatures: fp asimd asimddp\n\n"
        "processor: 1\nCPU part: 0xd0b\nFeatures: fp asimd\n"
    )
    assert cpu.parse(text).flags == {"fp", "asimd"}


def test_unknown_arm_core_is_described_by_its_numbers() -> None:
    """A core newer than the table still has a name that can be looked up."""
    told = cpu.parse("processor: 0\nCPU implementer: 0x41\nCPU part: 0xfff\nFeatures: asimd\n")
    assert told.model == "ARM part 0xfff"
    assert told.arch == "aarch64"


def test_switched_off_cores_leave_gaps() -> None:
    """Capacities belong to the processor's number, not to its place in the text."""
    text = "".join(
        f"processor: {number}\nCPU implementer: 0x41\nCPU part: {part}\nFeatures: asimd\n\n"
        for number, part in ((0, "0xd05"), (4, "0xd0b"), (5, "0xd0b"))
    )
    capacity = [CpuRange(name="530" if n < 4 else "1024", cpus=str(n)) for n in (0, 4, 5)]
    assert cpu.core_kinds(cpu.parse(text), capacity, ()) == (
        CoreKind(name="Cortex-A76", count=2, fast=True),
        CoreKind(name="Cortex-A55", count=1, fast=False),
    )


def test_slow_cores_are_known_by_name_without_capacities() -> None:
    """Older kernels tell no capacity; a Cortex-A55 beside a Cortex-A76 is slow all the same."""
    kinds = cpu.core_kinds(cpu.parse(_text("rock-5b-rk3588")), (), ())
    assert [(kind.name, kind.count, kind.fast) for kind in kinds] == [
        ("Cortex-A76", 4, True),
        ("Cortex-A55", 4, False),
    ]


def test_one_type_alone_is_no_mixture() -> None:
    """A machine whose slow cores are switched off in the firmware has one type and is an ordinary one."""
    told = cpu.parse("processor: 0\nmodel name: Core\nflags: lm\n")
    kinds = cpu.core_kinds(told, (), [CpuRange(name="cpu_core", cpus="0")])
    assert kinds == (CoreKind(name="Core", count=1, fast=True),)


def test_a_processor_of_slow_cores_alone_has_no_slow_cores() -> None:
    """Slow is relative: where all cores are alike all are used."""
    text = "processor: 0\nCPU implementer: 0x41\nCPU part: 0xd03\nFeatures: asimd\n"
    assert cpu.core_kinds(cpu.parse(text), (), ()) == (CoreKind(name="Cortex-A53", count=1, fast=True),)


def test_hyperthreads_share_a_core() -> None:
    """Sibling lists decide before what cpuinfo says; nonsense in cpuinfo is not believed."""
    assert cpu.physical_cores(["0,2", "1,3", "0,2", "1,3"], told=4, logical=4) == 2
    assert cpu.physical_cores([], told=2, logical=4) == 2
    assert cpu.physical_cores([], told=9, logical=4) == 0
    assert cpu.physical_cores(["nonsense"], told=2, logical=4) == 0


def test_two_sockets_have_cores_of_the_same_number() -> None:
    """Core 0 of socket 0 and core 0 of socket 1 are two cores."""
    text = "".join(
        f"processor: {n}\nphysical id: {n // 2}\ncore id: {n % 2}\nflags: lm avx2\n\n" for n in range(4)
    )
    assert cpu.parse(text).cores == 4


@given(st.sampled_from(machines.names()), st.data())
def test_truncated_text_never_raises(name: str, data: st.DataObject) -> None:
    """Cut anywhere, the text still gives some answer with plain types."""
    path = machines.HERE / name / "proc/cpuinfo"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    told = cpu.parse(text[: data.draw(st.integers(0, len(text)))])
    assert told.blocks == len(told.makes) == len(told.numbers)


LINES = st.lists(
    st.tuples(
        st.sampled_from(
            ["processor", "flags", "Features", "CPU part", "CPU implementer", "core id", "Model"]
        ),
        st.text(max_size=12),
    ).map(": ".join)
)


@given(LINES.map("\n".join) | st.text())
def test_hostile_text_never_raises(text: str) -> None:
    """Any text gives a value whose kinds of cores do not exceed the processors listed."""
    told = cpu.parse(text)
    kinds = cpu.core_kinds(told, [CpuRange(name=text[:4], cpus=text)], ())
    assert sum(kind.count for kind in kinds) <= told.blocks
