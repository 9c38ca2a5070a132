"""tests/systemd/RESULTS.md: one table, a line for each figure that a test measures.

Lines are printed always, and written down when EDGE_AGENT_RECORD is set: `./provisioning/test.sh systemd`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.benchmarks.results import machine, table, write_section

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = "# Under a real systemd\n\nEach line is written by the test that measures it; all of them by "
_HEAD += "`./provisioning/test.sh systemd`.\n"
_WHAT = "what"
Tell: TypeAlias = Callable[[str, str], None]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Print a measured figure past pytest's capture, and write it down when asked to."""

    def say(what: str, figure: str) -> None:
        with capsys.disabled():
            record(what, figure)

    return say


def record(what: str, figure: str) -> None:
    """Print a figure; write it down, in place of an earlier one of the same name, when asked to."""
    print(f"\n  {what}: {figure}")
    if not os.environ.get("EDGE_AGENT_RECORD"):
        return
    if not RESULTS.is_file():
        RESULTS.write_text(_HEAD, encoding="utf-8")
    rows = _rows(RESULTS.read_text(encoding="utf-8"))
    rows[what] = figure
    body = table([_WHAT, "figure"], [[key, value] for key, value in sorted(rows.items())])
    write_section("systemd", "Measured", f"{body}\n\n{machine()}.", path=RESULTS)


def _rows(text: str) -> dict[str, str]:
    """Those written so far."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {pair[0]: pair[1] for pair in cells if len(pair) == 2 and pair[0] not in {_WHAT, "---"}}
