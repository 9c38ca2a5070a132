"""Graphics processors from the driver's report, the device tree and the PCI bus."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.hardware import gpu
from tests import machines


def _find(
    report: str = "", compatible: tuple[str, ...] = (), pci: tuple[str, ...] = (), driver: str = ""
) -> gpu.Found:
    return gpu.find(report, compatible=compatible, pci=pci, driver=driver)


def test_no_sign_of_nvidia_is_no_news() -> None:
    """A machine without a GPU gets neither GPUs nor notes."""
    assert _find() == gpu.Found()


def test_two_cards() -> None:
    """Every card is listed, with the one driver."""
    report = """{"driver": "550.1", "gpus": [
                 {"name": "NVIDIA L4", "compute": [8, 9], "vram_bytes": 24152899584},
                 {"name": "NVIDIA A30", "compute": [8, 0], "vram_bytes": null}]}"""
    found = _find(report)
    assert [(g.name, g.compute, g.driver) for g in found.gpus] == [
        ("NVIDIA L4", (8, 9), "550.1"),
        ("NVIDIA A30", (8, 0), "550.1"),
    ]


def test_datacentre_ampere_has_another_compute_capability() -> None:
    """An A100 and an RTX 3090 are both "Ampere" in the report of nvidia-smi, with 8.0 and 8.6."""
    xml = (
        "<gpu id='0'><product_name>NVIDIA {}</product_name>"
        "<product_architecture>Ampere</product_architecture></gpu>"
    )
    assert _find(xml.format("A100-PCIE-40GB")).gpus[0].compute == (8, 0)
    assert _find(xml.format("GeForce RTX 3090")).gpus[0].compute == (8, 6)


def test_card_beside_the_gpu_of_the_board() -> None:
    """Industrial boards carry a card besides the GPU on the processor; both count, each once."""
    report = """{"gpus": [{"name": "Orin (nvgpu)", "compute": [8, 7], "shares_memory": true},
                          {"name": "NVIDIA RTX 6000", "compute": [8, 9], "vram_bytes": 51527024640}]}"""
    found = _find(report, compatible=("nvidia,tegra234",))
    assert [(g.name, g.integrated) for g in found.gpus] == [("NVIDIA Orin", True), ("NVIDIA RTX 6000", False)]


def test_unknown_architecture_leaves_the_compute_capability_open() -> None:
    """A card newer than the table is still recognised."""
    found = _find("<gpu id='0'><product_name>NVIDIA X</product_name></gpu>")
    assert found.gpus[0].name == "NVIDIA X"
    assert found.gpus[0].compute is None


def test_driver_error_without_a_card_is_told() -> None:
    """A driver that is loaded but unusable is a fault worth a note."""
    found = _find('{"error": "the NVIDIA driver did not answer in 10 s"}', driver="NVRM version: 1")
    assert found.gpus == ()
    assert found.notes == (
        "an NVIDIA driver is loaded but cannot be used: the NVIDIA driver did not answer in 10 s",
    )


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", "36.4.3"),
        ("# R36 (release), REVISION: 3, GCID", "36.3"),
        ("# R (release), REVISION: 4.3", ""),
        ("garbage", ""),
        ("", ""),
    ],
)
def test_l4t_release(text: str, release: str) -> None:
    """The first line of /etc/nv_tegra_release, in NVIDIA's form or not."""
    assert gpu.l4t_release(text) == release


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("36.4.3", "JetPack 6.2"),
        ("36.3", "JetPack 6.0"),
        ("36.3.0", "JetPack 6.0"),
        ("36.99.1", "JetPack 6"),
        ("32.7.1", "JetPack 4"),
        ("99.1.0", ""),
        ("", ""),
    ],
)
def test_jetpack_name(release: str, name: str) -> None:
    """A listed release has its exact name, a newer one that of its major version."""
    assert gpu.jetpack(release) == name


@given(st.text() | st.text().map(lambda text: "<gpu " + text) | st.text().map(lambda text: "{" + text))
def test_hostile_reports_never_raise(text: str) -> None:
    """Whatever the report holds, the answer is a value."""
    assert isinstance(_find(text, pci=("0000:01:00.0",)), gpu.Found)


@given(st.integers(0, 12_000))
def test_truncated_report_never_raises(end: int) -> None:
    """A report cut short gives what is left."""
    text = (machines.HERE / "pc-rtx-3060/edge-agent-probe/nvidia-smi.xml").read_text(encoding="utf-8")
    assert len(_find(text[:end]).gpus) <= 1


@given(st.text())
def test_hostile_release_never_raises(text: str) -> None:
    """Any text gives a release of digits and dots, or none."""
    assert gpu.l4t_release(text).replace(".", "").isdigit() or gpu.l4t_release(text) == ""
