"""tests/fault/RESULTS.md: each test of the bench writes its own section, with seed and machine."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.results import machine, table, write_section

RESULTS = Path(__file__).with_name("RESULTS.md")


def record(name: str, title: str, figures: dict[str, object], *, seed: int | None = None) -> None:
    """Print the figures of a test and write them down."""
    print(f"\n  {title}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    if not RESULTS.is_file():
        RESULTS.write_text(
            "# Measured faults\n\nEach section is written by the test that it names, on the machine it names;"
            " all of them by\n`./provisioning/test.sh faults`.\n",
            encoding="utf-8",
        )
    rows = [[key, str(value)] for key, value in figures.items()]
    seeded = "" if seed is None else f", seed {seed}"
    write_section(
        name, title, f"{table(['figure', 'value'], rows)}\n\n{name}{seeded}. {machine()}.", path=RESULTS
    )
