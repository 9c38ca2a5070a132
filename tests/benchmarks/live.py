"""What a person feels, by setting: the replay laboratory on read sentences, each setting in its own process.

    .venv/bin/python -m tests.benchmarks.live [--clips 24] [--write]

Six minutes, on a machine that does nothing else. `--write` puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests import corpus
from tests.benchmarks import results

SETTINGS: dict[str, tuple[str, ...]] = {
    "silence 600 ms": (),
    "silence 300 ms": ("endpoint.silence_ms=300",),
    "silence 600 ms, no partials": ("recognition.partials=false",),
}
_SHOWN = {
    "final_beyond_silence_p50_ms": "final beyond silence p50 ms",
    "final_beyond_silence_p95_ms": "p95 ms",
    "first_partial_p50_ms": "first partial p50 ms",
    "word_lag_p50_ms": "shown for good p50 ms",
    "stable_lag_p50_ms": "word lag (stable) p50 ms",
    "stable_flicker": "flicker of stable",
    "tail_flicker": "of tail",
    "finals_as_alone": "finals as alone",
    "cpu_s_per_speech_s": "CPU s per s of speech",
    "rss_mb": "RSS MB",
}


def measure(files: list[Path], overrides: tuple[str, ...]) -> dict[str, Any]:
    """The summary of one replay."""
    command = [sys.executable, "-m", "edge_agent", "bench", "latency", "--live", "--json", "-q"]
    for override in overrides:
        command += ["--set", override]
    done = subprocess.run([*command, *map(str, files)], check=True, stdout=subprocess.PIPE, timeout=900)
    summary: dict[str, Any] = json.loads(done.stdout)["summary"]
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    args = parser.parse_args()
    sentences = [clip for clip in corpus.clips(set="en_read_kathleen") if 1.5 < clip.duration_s < 5.0]
    files = [clip.path for clip in sentences[: args.clips]]
    rows = []
    for name, overrides in SETTINGS.items():
        summary = measure(files, overrides)
        print(name, summary, flush=True)
        rows.append([name, str(summary["utterances"]), *(_cell(summary[key]) for key in _SHOWN)])
    body = (
        f"{len(files)} read sentences in real time through the whole agent, {results.machine()}; what a "
        f"subscriber sees. CPU is the agent's and the subscriber's.\n\n"
        f"{results.table(['setting', 'finals', *_SHOWN.values()], rows)}\n\n"
        "`python -m tests.benchmarks.live --write`; one setting by itself: "
        "`edge-agent bench latency --live --set endpoint.silence_ms=300 FILES`"
    )
    print(body)
    if args.write:
        results.write_section("live", "What a person feels", body)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


if __name__ == "__main__":
    main()
