"""tests/fault/RESULTS.md: each test of the bench writes its own section, with seed and machine."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.results import machine, table, write_section

RESULTS = Path(__file__).with_name("RESULTS.md")
PROMISES = {
    "drain": "P1: 28,800 finals drained in 60 s at most, live finals at most twice as late meanwhile",
    "kills": "P2 and P5: none missing, at most 1 % twice and those equal, no hole in the numbers",
    "interrupted": "P5 and P6: each utterance has exactly one end, final or gap",
    "power-cut": "P3: at least 400 states, nothing lost, nothing corrupt",
    "replay": "P4: all of the last 72 hours again, with the same ids and bytes",
    "sound": "P6, P13, P14: at most 100 ms untold; a loss told within 1 s, back within 3 s of the return",
    "disk": "P7 and P8: hears on, keeps its numbers, degraded within 5 s, on disk again within 5 s",
    "soak": "P9: at 10 times real time for an hour, at most 1 MB/h after the half hour, threads and"
    " descriptors flat",
    "privacy": "P10: the sound in no file and no packet, nobody called but the broker",
    "refused": "P15: no busy loop, the reason told, delivering again within 60 s",
    "network": "P1 and P16: nothing missing, repeats equal",
    "namespace": "P1 and P16: nothing missing, repeats equal",
    "half-open": "P16: a dead link noticed within 1.5 keepalives (and a second)",
    "clock": "P17: durations right to a frame, order by seq",
    "fuzz": "P20: 10 million inputs or five minutes, no uncaught error",
    "presence": "P21: offline within 2 s of a kill, online again after each reconnect",
    "cable": "P21: offline within 45 s of a pulled cable",
}
"""What each section is held against, by the first word of its name."""


def promised(name: str) -> str:
    """The target of a section."""
    found = [words for start, words in PROMISES.items() if name == start or name.startswith(f"{start}-")]
    return found[0] if found else ""


def record(name: str, title: str, figures: dict[str, object], *, seed: int | None = None) -> None:
    """Print the figures of a test and write them down."""
    print(f"\n  {title}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    if not RESULTS.is_file():
        RESULTS.write_text(
            "# Measured faults\n\nEach section is written by the test that it names, on the machine it names;"
            " all of them by\n`./provisioning/test.sh faults`.\n",
            encoding="utf-8",
        )
    target = f"\n\nTarget of {promised(name)}." if promised(name) else ""
    rows = [[key, str(value)] for key, value in figures.items()]
    seeded = "" if seed is None else f", seed {seed}"
    write_section(
        name,
        title,
        f"{table(['figure', 'value'], rows)}{target}\n\n{name}{seeded}. {machine()}.",
        path=RESULTS,
    )
