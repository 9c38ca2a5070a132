"""How wide the engine is opened."""

from __future__ import annotations

import pytest

from edge_agent.profile.sizing import workers
from edge_agent.types import CoreKind
from tests.unit.profile.making import device, profile

AUTO = profile("auto", '[engine]\nworkers = "auto"\nmax_workers = 8\n[limits]\nram_max_mb = 500\n')
GIB = 1 << 30


@pytest.mark.parametrize(
    ("usable", "expected"), [(0.3, 1), (1.0, 1), (1.5, 1), (2.0, 2), (3.9, 3), (4.0, 4), (64.0, 8)]
)
def test_one_worker_per_usable_cpu(usable: float, expected: int) -> None:
    """Parts of a CPU are left to capture; there is always one worker and never more than the bound."""
    assert workers(AUTO, device(usable_cpus=usable, cores=64)) == expected


def test_hyperthreads_do_not_count() -> None:
    """Two threads of a core share its arithmetic units."""
    assert workers(AUTO, device(cores=4, physical_cores=2)) == 2


def test_slow_cores_do_not_count() -> None:
    """A decode on a slow core would be the slowest of all."""
    kinds = (CoreKind(name="big", count=2), CoreKind(name="little", count=6, fast=False))
    assert workers(AUTO, device(cores=8, usable_cpus=8.0, core_kinds=kinds)) == 2


def test_fast_cores_with_hyperthreads() -> None:
    """A laptop of two fast cores with two threads each and eight slow ones: two."""
    kinds = (CoreKind(name="fast", count=4), CoreKind(name="slow", count=8, fast=False))
    laptop = device(cores=12, physical_cores=10, usable_cpus=12.0, core_kinds=kinds)
    assert workers(AUTO, laptop) == 2


def test_unknown_memory_gives_one_worker() -> None:
    """What cannot be told is not counted on."""
    assert workers(AUTO, device(usable_ram_bytes=0)) == 1


def test_a_quota_below_the_fast_cores_binds() -> None:
    """The tightest of quota and cores."""
    kinds = (CoreKind(name="big", count=4), CoreKind(name="little", count=4, fast=False))
    assert workers(AUTO, device(cores=8, usable_cpus=3.0, core_kinds=kinds)) == 3


@pytest.mark.parametrize(("ram", "expected"), [(400 << 20, 1), (550 << 20, 1), (720 << 20, 3), (8 * GIB, 4)])
def test_memory_bounds_the_workers(ram: int, expected: int) -> None:
    """Each further worker needs its own working memory."""
    assert workers(AUTO, device(usable_ram_bytes=ram)) == expected


def test_a_stated_number_is_kept() -> None:
    """The author of the profile knows."""
    assert workers(profile("p", "[engine]\nworkers = 3\n"), device(usable_cpus=1.0)) == 3


def test_threads_per_worker_share_the_cores() -> None:
    """Two threads each: half the workers."""
    assert workers(profile("p", "[engine]\nthreads_per_worker = 2\n"), device()) == 2
