"""`edge-agent bench accuracy --against faster-whisper` on the corpus, by language, written to RESULTS.md.

    .venv/bin/python -m tests.benchmarks.against_peer [--languages en de es fr zh] [--longest 15] [--write]

Both sides decode the same recordings with the same published model, int8, greedy, on two threads, in turns;
loading models and reading files is not counted. Six minutes for English, alone on the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from edge_agent.bench.score import FIT_REFERENCES
from tests import corpus
from tests.benchmarks.results import machine, table, write_section

LANGUAGES = ("en", "de", "es", "fr", "zh")
HEAD = [
    "language",
    "clips",
    "ours ms",
    "peer ms",
    "times less",
    "quartiles",
    "CPU",
    "up to 4 s",
    "ours %",
    "peer %",
    "points",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--languages", nargs="+", default=LANGUAGES, metavar="CODE")
    parser.add_argument("--longest", type=float, default=15.0, metavar="S")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    chosen = parser.parse_args()
    rows, facts = [], {}
    for language in chosen.languages:
        facts = measured(language, chosen.longest)
        rows.append(row(language, facts))
        print(rows[-1], flush=True)
    text = (
        f"Recordings up to {chosen.longest:g} s, {facts['model']} on {facts['engine']}, against "
        f"{facts['peer_name']} greedy, {facts['threads']} threads each, one run in turns. Times are wall "
        "clock from sound to text, medians; times less is the median of the ratios of single recordings, "
        "CPU the same of processor time. Errors are words, of Chinese characters.\n\n"
        + table(HEAD, rows)
        + f"\n\n`python -m tests.benchmarks.against_peer --write`, {machine()}."
    )
    print(text)
    if chosen.write:
        write_section("against-peer", "Against faster-whisper", text)


def measured(language: str, longest_s: float) -> dict[str, Any]:
    """The summary that the command gives."""
    clips = [
        str(clip.path)
        for clip in corpus.clips()
        if clip.language == language and clip.duration_s <= longest_s and clip.reference in FIT_REFERENCES
    ]
    command = ["bench", "accuracy", "--against", "faster-whisper", "--threads", "2", "--json"]
    command += ["--language", language, *clips]
    done = subprocess.run([sys.executable, "-m", "edge_agent", *command], capture_output=True, check=True)
    summary: dict[str, Any] = json.loads(done.stdout)["summary"]
    return summary


def row(language: str, facts: dict[str, Any]) -> Sequence[str]:
    ratio, errors = facts["ratio"], facts["sets"][-1]
    short = facts.get("ratio_up_to_4_s") or {}
    return [
        language,
        str(facts["clips"]),
        f"{1e3 * facts['ours']['median_s']:.0f}",
        f"{1e3 * facts['peer']['median_s']:.0f}",
        f"{ratio['median']:.2f}",
        f"{ratio['lower_quartile']:.1f} to {ratio['upper_quartile']:.1f}",
        f"{ratio['cpu_median']:.2f}",
        f"{short['median']:.2f}" if short.get("clips") else "-",
        f"{errors['ours_percent']:.2f}",
        f"{errors['peer_percent']:.2f}",
        f"{errors['difference_points']:+.2f}",
    ]


if __name__ == "__main__":
    main()
