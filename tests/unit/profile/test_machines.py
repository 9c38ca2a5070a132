"""Every machine of the zoo is detected as what it is and gets the profile it should."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.errors import NoProfileFits
from edge_agent.hardware import facts, probe
from edge_agent.profile.choose import choose, rank, rejections
from edge_agent.profile.load import PACKAGE, load_all
from edge_agent.types import Device, Gpu
from tests import machines

ENGINES = frozenset({"ctranslate2", "onnxruntime", "tensorrt-llm"})
PROFILES = [loaded.profile for loaded in load_all([PACKAGE.parent / "profiles"]).values()]
MIB = 1 << 20


def _check_facts(device: Device, wanted: dict[str, Any]) -> None:
    told = {
        "ram_mb": device.ram_bytes // MIB,
        "usable_ram_mb": device.usable_ram_bytes // MIB,
        "core_kinds": [[kind.name, kind.count, kind.fast] for kind in device.core_kinds],
    }
    for key, value in wanted.items():
        if key in told:
            assert told[key] == value, key
        elif key == "flags":
            assert set(value) <= device.cpu_flags
        elif key == "no_flags":
            assert not set(value) & device.cpu_flags
        elif key == "notes":
            for note in value:
                assert any(note in told_note for told_note in device.notes), device.notes
        elif key != "gpus":
            assert getattr(device, key) == value, key


def _gpu(wanted: dict[str, Any]) -> Gpu:
    return Gpu(
        name=wanted["name"],
        compute=tuple(wanted["compute"]),
        vram_bytes=wanted["vram_mb"] * MIB if "vram_mb" in wanted else None,
        integrated=wanted["integrated"],
        driver=wanted.get("driver", ""),
        free_bytes=wanted["free_mb"] * MIB if "free_mb" in wanted else None,
        temperature_c=wanted.get("temperature_c"),
    )


@pytest.mark.parametrize("name", machines.names())
def test_machine_is_recognised(name: str) -> None:
    """The facts read from its tree are those that expected.toml states; what it does not state is clean."""
    wanted = machines.expected(name)["device"]
    device = facts.device(probe.read(machines.HERE / name))
    _check_facts(device, wanted)
    assert device.gpus == tuple(map(_gpu, wanted.get("gpus", [])))
    assert device.notes == () or "notes" in wanted
    assert device.l4t == wanted.get("l4t", "")


@pytest.mark.parametrize("name", machines.names())
def test_machine_gets_its_profile(name: str) -> None:
    """The profile, the width, the reasons and the rejections are those that expected.toml states."""
    wanted = machines.expected(name)
    device = facts.device(probe.read(machines.HERE / name))
    if wanted["profile"]:
        choice = choose(device, PROFILES, engines=ENGINES)
        assert choice.profile.name == wanted["profile"]
        assert choice.workers == wanted["workers"]
        for reason in wanted["reasons"]:
            assert any(reason in told for told in choice.reasons), choice.reasons
        rejected = dict(choice.rejected)
        assert wanted["profile"] not in rejected
    else:
        with pytest.raises(NoProfileFits, match=wanted["error"]) as failure:
            choose(device, PROFILES, engines=ENGINES)
        assert failure.value.exit_code == 78
        rejected = dict(rejections(rank(device, PROFILES, ENGINES)))
    assert all(rejected.values())
    for other, why in wanted.get("rejected", {}).items():
        assert why in rejected[other]


def test_every_profile_is_chosen_somewhere() -> None:
    """A profile that no machine of the zoo gets would be untested."""
    chosen = {machines.expected(name)["profile"] for name in machines.names()}
    assert {profile.name for profile in PROFILES if not profile.abstract} <= chosen


def test_every_machine_says_why_and_where_it_comes_from() -> None:
    """A fixture without its reason and source cannot be judged when it fails."""
    for name in machines.names():
        wanted = machines.expected(name)
        assert wanted["why"], name
        assert wanted["source"], name
