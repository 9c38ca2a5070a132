"""tests/browser/RESULTS.md: each test that measures writes its own section."""

from __future__ import annotations

import os
from pathlib import Path

from tests.benchmarks.results import machine, table, write_section

RESULTS = Path(__file__).with_name("RESULTS.md")
PROMISES = {
    "captions": "95 of 100 captions are on the screen 100 ms after they were published",
    "restart": "captions go on by themselves after the broker's restart",
    "silence": "a broker that hangs, or a cut cable, is told within half a minute",
    "memory": "a caption screen needs no more memory with time",
    "frames": "1,000 devices stay smooth: half of the frames on time, none longer than 100 ms",
    "agent": "a real agent's words are seen, its answers too",
}
"""What each section is held against."""
_HEAD = (
    "# The fleet page, measured\n\nEach section is written by the test that it names, on the machine it names;"
    " all of them by\n`./provisioning/test.sh browser`.\n"
)


def record(name: str, title: str, figures: dict[str, object]) -> None:
    """Print the figures of a test and, when EDGE_AGENT_RECORD is set, write them down."""
    print(f"\n  {title}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    if not os.environ.get("EDGE_AGENT_RECORD"):
        return
    if not RESULTS.is_file():
        RESULTS.write_text(_HEAD, encoding="utf-8")
    rows = [[key, str(value)] for key, value in figures.items()]
    body = f"{table(['figure', 'value'], rows)}\n\nTarget: {PROMISES[name]}.\n\n{name}. Headless Chromium, {machine()}."
    write_section(name, title, body, path=RESULTS)
