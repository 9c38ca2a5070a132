"""Choosing: who wins, what is refused, and what is said about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import NoProfileFits
from edge_agent.profile.choose import Choice, choose
from edge_agent.types import Device, Gpu
from tests.unit.profile.making import device, profile

ENGINES = frozenset({"ctranslate2"})
GIB = 1 << 30
PLAIN = profile("plain", "[match]\npriority = 10\n")
FAST = profile("fast", '[match]\npriority = 20\narch = ["x86_64"]\ncpu_flags_all = ["avx512_vnni"]\n')
ROOMY = profile("roomy", "[match]\npriority = 30\nmin_usable_ram_mb = 16000\nmin_usable_cpus = 8\n")
CARD = profile(
    "card",
    "[match]\npriority = 50\n"
    '[match.gpu]\nvendor = "nvidia"\nmin_compute = "8.0"\nmin_vram_mb = 8000\nintegrated = false\n',
)
ORIN = profile(
    "orin",
    '[match]\npriority = 60\nboard_any = ["tegra234"]\n'
    '[match.gpu]\nvendor = "nvidia"\nmin_compute = "8.7"\nmin_vram_mb = 6000\nintegrated = true\n',
)
FOREIGN = profile("foreign", '[match]\npriority = 90\n[engine]\nkind = "tensorrt-llm"\n')
RTX = Gpu(name="RTX 4070", compute=(8, 9), vram_bytes=12 * GIB)


def _choose(machine: Device, *profiles: object, override: str = "auto") -> Choice:
    return choose(machine, profiles or (PLAIN, FAST, ROOMY), override=override, engines=ENGINES)


def test_highest_priority_that_fits_wins() -> None:
    """The reasons name the instruction set in words; the others say why not."""
    choice = _choose(device(cpu_flags=frozenset({"avx512_vnni"})))
    assert choice.profile.name == "fast"
    assert choice.reasons[0] == "the CPU has avx512_vnni (int8 dot products on 512-bit registers)"
    assert dict(choice.rejected) == {
        "plain": "it would run here too, but fast makes more of this machine",
        "roomy": "it needs 8 CPUs, 4 may be used here; it needs 16000 MB of memory, 8192 MB may be used here",
    }


def test_unknown_name_gets_the_nearest() -> None:
    """A mistyped profile is not silently replaced by another."""
    with pytest.raises(NoProfileFits, match='there is no profile "fsat"; did you mean fast'):
        _choose(device(), override="fsat")


def test_named_profile_that_cannot_run_is_refused() -> None:
    """An instruction the CPU lacks would end the process."""
    with pytest.raises(
        NoProfileFits, match=r"fast cannot run here: the CPU lacks avx512_vnni .*use \"auto\" or plain"
    ):
        _choose(device(), override="fast")


def test_named_profile_of_another_architecture_is_refused() -> None:
    """Nothing of it can run."""
    with pytest.raises(NoProfileFits, match="it is for x86_64, and this machine is aarch64"):
        _choose(device(arch="aarch64"), override="fast")


def test_named_profile_that_is_short_of_memory_is_a_warning() -> None:
    """The user may know better; the misfit is told."""
    choice = _choose(device(), override="roomy")
    assert choice.profile.name == "roomy"
    assert "warning: it needs 16000 MB of memory, 8192 MB may be used here" in choice.reasons
    assert dict(choice.rejected)["plain"] == "it would run here too, but roomy was named"


def test_abstract_profile_is_never_chosen() -> None:
    """What is only there to be extended is neither found nor accepted by name."""
    frame = profile("frame", "").__class__(**{**_fields("frame"), "abstract": True})
    assert _choose(device(), PLAIN, frame).profile.name == "plain"
    with pytest.raises(NoProfileFits, match="frame is only there to be extended; use one of plain"):
        _choose(device(), PLAIN, frame, override="frame")


def _fields(name: str) -> dict[str, object]:
    made = profile(name)
    return {field: getattr(made, field) for field in made.__struct_fields__}


def test_missing_engine_rejects_a_profile_with_that_reason() -> None:
    """A profile for an engine that is not installed must not be promised."""
    choice = _choose(device(), PLAIN, FOREIGN)
    assert choice.profile.name == "plain"
    assert dict(choice.rejected)["foreign"] == 'its engine "tensorrt-llm" is not part of this installation'
    with pytest.raises(NoProfileFits, match="not part of this installation"):
        _choose(device(), PLAIN, FOREIGN, override="foreign")


def test_no_profile_for_gpus_is_said() -> None:
    """A GPU that is there and idle needs an explanation."""
    choice = _choose(device(gpus=(RTX,)), PLAIN)
    assert (
        "RTX 4070 (compute 8.9, 12 GB) found; no GPU profile is installed yet, so the best CPU profile serves"
        in choice.reasons
    )


def test_gpu_profile_takes_a_card_that_is_good_enough() -> None:
    """GPU profiles are data: nothing but the file is needed."""
    choice = _choose(device(gpus=(RTX,)), PLAIN, CARD, ORIN)
    assert choice.profile.name == "card"
    assert "the GPU is RTX 4070 (compute 8.9, 12 GB)" in choice.reasons
    assert dict(choice.rejected)["orin"] == "RTX 4070: it needs a GPU on the processor"


@pytest.mark.parametrize(
    ("gpus", "why"),
    [
        ((), "it needs an NVIDIA GPU, and none is usable here"),
        (
            (Gpu(name="Old", compute=(6, 1), vram_bytes=12 * GIB),),
            "compute capability 8.0 is needed, it has 6.1",
        ),
        (
            (Gpu(name="Small", compute=(8, 6), vram_bytes=4 * GIB),),
            "8000 MB of its memory are needed, it has 4096 MB",
        ),
        ((Gpu(name="Odd", compute=None, vram_bytes=12 * GIB),), "its compute capability is not known"),
        ((Gpu(name="Mute", compute=(8, 6)),), "it has an unknown amount"),
    ],
)
def test_gpu_that_will_not_do(gpus: tuple[Gpu, ...], why: str) -> None:
    """The next profile serves, and the reason is kept."""
    choice = _choose(device(gpus=gpus), PLAIN, CARD)
    assert choice.profile.name == "plain"
    assert why in dict(choice.rejected)["card"]


def test_gpu_profiles_that_cannot_use_the_gpu_are_pointed_to() -> None:
    """The idle GPU is explained even when GPU profiles exist."""
    choice = _choose(device(gpus=(Gpu(name="Old", compute=(6, 1)),)), PLAIN, CARD)
    assert any("Old (compute 6.1) found; no GPU profile can use it" in reason for reason in choice.reasons)


def test_unknown_memory_does_not_reject() -> None:
    """A machine that hides its memory is served, and that is said."""
    choice = _choose(device(usable_ram_bytes=0, ram_bytes=0, usable_cpus=8.0, cores=8), ROOMY)
    assert "how much memory there is cannot be told, so that was not judged" in choice.reasons


def test_shared_memory_counts_for_a_gpu_on_the_processor() -> None:
    """A Jetson's GPU has the machine's memory, whatever the driver says."""
    orin = Gpu(name="NVIDIA Orin", compute=(8, 7), integrated=True)
    jetson = device(arch="aarch64", board_compatible=("nvidia,tegra234",), gpus=(orin,))
    assert _choose(jetson, PLAIN, ORIN).profile.name == "orin"
    small = device(board_compatible=("nvidia,tegra234",), gpus=(orin,), usable_ram_bytes=4 * GIB)
    assert _choose(small, PLAIN, ORIN).profile.name == "plain"


def test_board_is_found_in_name_or_compatible_strings() -> None:
    """Case does not matter, and a part is enough."""
    kiosk = profile("kiosk", '[match]\npriority = 99\nboard_any = ["raspberry pi 5"]\n')
    assert _choose(device(board="Raspberry Pi 5 Model B"), PLAIN, kiosk).profile.name == "kiosk"
    assert dict(_choose(device(), PLAIN, kiosk).rejected)["kiosk"] == "it is for the boards raspberry pi 5"


def test_upper_bounds() -> None:
    """A profile for small machines leaves large ones to others."""
    small = profile("small", "[match]\npriority = 99\nmax_usable_cpus = 2\nmax_usable_ram_mb = 4000\n")
    why = dict(_choose(device(), PLAIN, small).rejected)["small"]
    assert "at most 2 CPUs, here are 4" in why
    assert "at most 4000 MB, here are 8192 MB" in why


def test_bounds_include_their_own_value() -> None:
    """A machine that has exactly what is asked fits, of every kind of bound."""
    exact = profile(
        "exact",
        "[match]\npriority = 99\nmin_usable_cpus = 4\nmax_usable_cpus = 4\n"
        "min_usable_ram_mb = 8192\nmax_usable_ram_mb = 8192\n"
        '[match.gpu]\nvendor = "nvidia"\nmin_compute = "8.9"\nmax_compute = "8.9"\nmin_vram_mb = 12288\n',
    )
    assert _choose(device(gpus=(RTX,)), PLAIN, exact).profile.name == "exact"


def test_gpu_that_is_too_new() -> None:
    """An engine built for older GPUs leaves newer ones alone."""
    old = profile("old", '[match]\npriority = 99\n[match.gpu]\nvendor = "nvidia"\nmax_compute = "8.6"\n')
    why = dict(_choose(device(gpus=(RTX,)), PLAIN, old).rejected)["old"]
    assert why == "RTX 4070: compute capability up to 8.6 is supported, it has 8.9"


def test_board_is_named_only_with_a_gpu_of_its_own() -> None:
    """A card is a card in any board; an unnamed board is not mentioned."""
    card = _choose(device(board="Some PC", gpus=(RTX,)), PLAIN)
    shared = _choose(device(gpus=(Gpu(name="Orin", integrated=True),)), PLAIN)
    assert any(reason.startswith("RTX 4070 (compute 8.9, 12 GB) found") for reason in card.reasons)
    assert any(reason.startswith("Orin (shares the machine's memory) found") for reason in shared.reasons)


def test_unnamed_board_is_known_by_its_compatible_string() -> None:
    """The reason names what was found."""
    kiosk = profile("kiosk", '[match]\npriority = 99\nboard_any = ["kiosk-2"]\n')
    assert "the board is kiosk-2" in _choose(device(board_compatible=("acme,kiosk-2",)), kiosk).reasons
    assert "the board is Kiosk-2 B" in _choose(device(board="Kiosk-2 B"), kiosk).reasons


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"avx2"}, False),
        ({"amx_int8"}, True),
        ({"avx_vnni"}, True),
        ({"avx_vnni", "avx512_vnni"}, False),
    ],
)
def test_cpu_features_no_profile_asks_for(flags: set[str], told: bool) -> None:
    """Who reads a new CPU's data sheet learns why its feature decides nothing; others are spared."""
    reasons = _choose(device(cpu_flags=frozenset(flags)), PLAIN).reasons
    assert any("the CPU also has" in reason for reason in reasons) is told


def test_cpu_feature_that_a_profile_asks_for_is_not_called_unclaimed() -> None:
    """Once a profile uses it, the remark goes."""
    amx = profile("amx", '[match]\npriority = 5\ncpu_flags_all = ["amx_int8"]\n')
    reasons = _choose(device(cpu_flags=frozenset({"amx_int8"})), PLAIN, amx).reasons
    assert not any("the CPU also has" in reason for reason in reasons)


def test_nothing_fits() -> None:
    """The message is about this machine and says what to do."""
    with pytest.raises(
        NoProfileFits, match=r"even roomy does not, it needs 8 CPUs.*--profile roomy"
    ) as failure:
        _choose(device(), ROOMY)
    assert failure.value.exit_code == 78


@given(
    st.permutations([PLAIN, FAST, ROOMY, CARD, ORIN, FOREIGN]),
    st.sets(st.sampled_from(["avx512_vnni", "avx2"])),
    st.sampled_from([0.5, 1.0, 4.0, 64.0]),
    st.sampled_from([128 << 20, 2 * GIB, 64 * GIB]),
    st.sampled_from([(), (RTX,), (Gpu(name="?"),)]),
)
def test_choice_depends_on_the_machine_alone(
    profiles: list[object], flags: set[str], cpus: float, ram: int, gpus: tuple[Gpu, ...]
) -> None:
    """Whatever the order of the files: one profile is chosen, every other one has a reason."""
    machine = device(cpu_flags=frozenset(flags), usable_cpus=cpus, cores=64, usable_ram_bytes=ram, gpus=gpus)
    first = _choose(machine, *profiles)
    assert first == _choose(machine, *reversed(profiles))
    assert {first.profile.name, *dict(first.rejected)} == {
        p.name for p in (PLAIN, FAST, ROOMY, CARD, ORIN, FOREIGN)
    }
    assert all(why for _, why in first.rejected)
    assert 1 <= first.workers <= max(1, cpus)
