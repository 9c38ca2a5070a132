"""What systemd itself says about the units, without booting anything."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.systemd.results import Tell, tell

__all__ = ["tell"]
"""Fixtures."""

UNITS = Path(__file__).resolve().parents[2] / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (apt install systemd)"
)


def instantiated(unit: Path, place: Path) -> Path:
    """A copy that can be looked at: an instance of a template, with a command that exists."""
    copy = place / unit.name.replace("@.", "@lobby.")
    copy.write_text(
        unit.read_text()
        .replace("/usr/bin/edge-agent", "/bin/true")
        .replace("file:/usr/share/doc", "file:/usr")
    )
    return copy


def test_nothing_in_the_units_is_unknown_to_systemd(tmp_path: Path) -> None:
    """`systemd-analyze verify` answers 0 for unknown keys too, so what counts is that it is silent."""
    copies = [instantiated(unit, tmp_path) for unit in [*SERVICES, *UNITS.glob("*.timer")]]
    assert len(copies) == 6
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, copies)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_the_exposure_stays_low(unit: Path, tmp_path: Path, tell: Tell) -> None:
    """At most 2.0 of 10 by systemd's own count."""
    done = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            "--threshold=20",
            "--no-pager",
            str(instantiated(unit, tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-200:]
    score = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert score is not None
    tell(f"exposure of {unit.name}, of 10", score[1])


def test_the_services_share_one_sandbox() -> None:
    """What is closed for one is closed for all; a line added to one unit only would show here."""

    def sandbox(unit: Path) -> list[str]:
        lines = unit.read_text().splitlines()
        return [
            line
            for line in lines[lines.index("User=edge-agent") :]
            if "=" in line and not line.startswith("Wanted")
        ]

    assert len({tuple(sandbox(unit)) for unit in SERVICES}) == 1
