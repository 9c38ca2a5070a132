"""tests/benchmarks/RESULTS.md: each script owns one section and rewrites only that."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.files import write_atomically

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = "# Measured results\n\nEach section is written by the command it names, on the machine it names.\n"


def write_section(name: str, title: str, body: str, path: Path = RESULTS) -> None:
    """Replace the section `name`, or add it at the end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n## {title}\n\n{body.strip()}\n{end}"
    old = path.read_text(encoding="utf-8") if path.is_file() else _HEAD
    before, found, rest = old.partition(begin)
    if found:
        _, closed, after = rest.partition(end)
        if not closed:
            raise SystemExit(f"{path}: {begin} has no {end}; mend the file first")
        text = before + section + after
    else:
        text = old.rstrip("\n") + "\n\n" + section + "\n"
    write_atomically(path, text.encode())


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def machine() -> str:
    """What the figures were taken on, and when."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith(("model name", "Model"))
        ),
        platform.machine(),
    )
    day = datetime.now(tz=UTC).date().isoformat()
    return f"{model}, {len(os.sched_getaffinity(0))} CPUs, {day}"
