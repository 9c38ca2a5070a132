"""Error rates of the whole path against faster-whisper, on the same recordings and the same model files.

    .venv/bin/python tests/benchmarks/demo_wer.py [--languages en zh] [--limit N] [--details FILE]

Runs `edge-agent demo --fast --json` over every recording of a language that has a fit reference: capture,
voice activity detection, engine, outbox and MQTT, then faster-whisper (greedy) over the same files, and
writes the section "Error rates of the whole path" of RESULTS.md. What a final belongs to is told by its
start: the recordings are played in order, with a known silence after each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY)]

from edge_agent.audio.files import read_audio
from edge_agent.bench.peer import FasterWhisper
from edge_agent.bench.score import FIT_REFERENCES, Errors, errors, measure_of, total
from edge_agent.models.store import ModelStore
from edge_agent.types import SAMPLE_RATE_HZ
from edge_agent.verbs import demo
from edge_agent.verbs.common import models_dir
from tests.benchmarks.results import machine, table, write_section

MODEL = "whisper-base"
ALLOWED_POINTS = 0.5
"""The whole path may be worse than the peer by this much, in percentage points."""
_STEP_S = 0.02
_MARGIN_S = 0.35
"""Sound an utterance keeps before and after its speech, at most, and half a frame."""
_FIRST_FINAL_WITHIN = 5
"""Recordings."""


@dataclass
class Recording:
    """One recording, and what was made of it."""

    path: Path
    set: str
    language: str
    text: str
    duration_s: float = 0.0
    ours: list[str] = field(default_factory=list)
    peer: str = ""


@dataclass(frozen=True)
class Final:
    """One final from the broker; `start_s` counts from an unknown moment."""

    start_s: float
    end_s: float
    text: str


def recordings(corpus: Path, language: str, limit: int | None) -> list[Recording]:
    """What the manifest offers in a language with a reference fit for error rates."""
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text("utf-8").splitlines()]
    found = [
        Recording(corpus / row["path"], row["set"], row["language"], row["text"])
        for row in rows
        if row["language"] == language and row["reference"] in FIT_REFERENCES
    ]
    return found[:limit]


def hear(files: Sequence[Recording], language: str) -> list[Final]:
    """Everything the demo's subscriber received, in order of speech."""
    command = [sys.executable, "-m", "edge_agent", "demo", "--fast", "--json", "--language", language]
    command += ["--model", MODEL, *(str(one.path) for one in files)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=REPOSITORY)
    if done.returncode != 0:
        raise SystemExit(f"the demo ended with exit code {done.returncode}")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    gaps = [message for message in messages if message["topic"].endswith("/gap")]
    if gaps:
        raise SystemExit(f"the demo lost sound: {gaps[0]['payload']}")
    finals = []
    for message in messages:
        if message["topic"].endswith("/transcript/final"):
            body = message["payload"]
            start_s = datetime.fromisoformat(body["start"]).timestamp()
            finals.append(Final(start_s, start_s + body["duration_ms"] / 1000, body["text"]))
    return sorted(finals, key=lambda final: final.start_s)


def attribute(finals: Sequence[Final], durations_s: Sequence[float], gap_s: float) -> list[list[str]]:
    """The texts of each recording.

    The moment at which playing began is not in the messages. It is taken where most finals lie within a
    recording, give or take what an utterance keeps before and after its speech; the first final is looked for
    in the first few recordings.
    """
    texts: list[list[str]] = [[] for _ in durations_s]
    if not finals:
        return texts
    lengths = np.array(durations_s)
    ends = np.cumsum(lengths + gap_s) - gap_s
    begins = ends - lengths
    # From the first final on: seconds since 1970 leave a float64 few digits behind the point.
    zero = finals[0].start_s
    spoken = np.array([(final.start_s - zero, final.end_s - zero) for final in finals])
    reach = ends[min(_FIRST_FINAL_WITHIN, len(ends)) - 1] + _MARGIN_S
    origins = np.arange(-reach, _MARGIN_S, _STEP_S)
    scores = np.array([_inside(spoken - origin, begins, ends) for origin in origins])
    best = origins[scores == scores.max()]
    middles = spoken.mean(axis=1) - float(best[len(best) // 2])
    distances = np.maximum(0, np.maximum(begins - middles[:, None], middles[:, None] - ends))
    for final, index in zip(finals, distances.argmin(axis=1), strict=True):
        texts[int(index)].append(final.text)
    return texts


def _inside(spoken: NDArray[np.float64], begins: NDArray[np.float64], ends: NDArray[np.float64]) -> int:
    """How many (start, end) lie within a recording, both widened by the margin."""
    index = np.searchsorted(begins - _MARGIN_S, spoken[:, 0], side="right") - 1
    return int(((index >= 0) & (spoken[:, 1] <= ends[index] + _MARGIN_S)).sum())


def rows_of(files: Sequence[Recording], language: str) -> list[list[str]]:
    """One row a set, then one for all."""
    groups: dict[str, list[Recording]] = {}
    for one in files:
        groups.setdefault(one.set, []).append(one)
    named = [*sorted(groups.items()), (f"**all {language}**", list(files))]
    return [_row(name, language, group) for name, group in named]


def _row(name: str, language: str, group: Sequence[Recording]) -> list[str]:
    ours = total(errors(one.text, " ".join(one.ours), language) for one in group)
    peer = total(errors(one.text, one.peer, language) for one in group)
    points = 100 * (ours.rate - peer.rate)
    figures = [f"{100 * rate:.2f}" for rate in (ours.rate, peer.rate)]
    return [name, measure_of(language), str(len(group)), str(ours.units), *figures, f"{points:+.2f}"]


def main() -> int:
    """Measure, write the section, and fail when the whole path is worse than allowed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--languages", nargs="+", default=["en", "zh"])
    parser.add_argument("--speech", type=Path, default=_corpus())
    parser.add_argument("--limit", type=int, help="so many recordings of each language")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the peer")
    parser.add_argument("--details", type=Path, help="write every text there, as JSON lines")
    args = parser.parse_args()
    peer = FasterWhisper(ModelStore(models_dir()).source_dir(MODEL), threads=args.threads)
    rows: list[list[str]] = []
    worse, everything = [], []
    for language in args.languages:
        files = recordings(args.speech, language, args.limit)
        if not files:
            print(f"no recording in {language} has a fit reference", file=sys.stderr)
            continue
        worse += _measure(files, language, peer, rows)
        everything += files
    body = _body(args, peer.label, rows)
    print(body)
    if args.limit is None:
        write_section("demo-wer", "Error rates of the whole path", body)
    if args.details:
        _write_details(args.details, everything)
    return 1 if worse else 0


def _measure(files: list[Recording], language: str, peer: FasterWhisper, rows: list[list[str]]) -> list[str]:
    """Both sides over one language; answers the language when ours is worse than allowed."""
    started = time.monotonic()
    sounds = [read_audio(one.path) for one in files]
    durations = [len(sound) / SAMPLE_RATE_HZ for sound in sounds]
    texts = attribute(hear(files, language), durations, demo._GAP_S)
    heard = time.monotonic()
    for one, sound, duration_s, ours in zip(files, sounds, durations, texts, strict=True):
        one.duration_s, one.ours = duration_s, ours
        one.peer = peer.transcribe(sound, language)
    print(
        f"{language}: {len(files)} recordings, {sum(durations) / 60:.1f} min of sound; "
        f"demo {heard - started:.0f} s, peer {time.monotonic() - heard:.0f} s",
        file=sys.stderr,
    )
    rows += rows_of(files, language)
    ours = total(errors(one.text, " ".join(one.ours), language) for one in files)
    other = total(errors(one.text, one.peer, language) for one in files)
    return [language] if _points(ours, other) > ALLOWED_POINTS else []


def _points(ours: Errors, peer: Errors) -> float:
    return 100 * (ours.rate - peer.rate)


def _body(args: argparse.Namespace, peer: str, rows: list[list[str]]) -> str:
    what = (
        f"`edge-agent demo --fast --json` (file, voice activity, engine, outbox, MQTT, subscriber) against "
        f"{peer} greedy on the same recordings, {MODEL} int8 on both sides, in one run. Percent of words "
        f"(Chinese: characters); difference in points, negative where ours is better."
    )
    command = f".venv/bin/python tests/benchmarks/demo_wer.py --languages {' '.join(args.languages)}"
    figures = table(["set", "rate", "clips", "units", "ours", "peer", "difference"], rows)
    return f"{what}\n\nCommand: `{command}`; {machine()}.\n\n{figures}"


def _write_details(path: Path, files: Sequence[Recording]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for one in files:
            row = {"file": str(one.path), "set": one.set, "language": one.language, "text": one.text}
            file.write(json.dumps({**row, "ours": one.ours, "peer": one.peer}, ensure_ascii=False) + "\n")


def _corpus() -> Path:
    named = os.environ.get("EDGE_AGENT_SPEECH")
    large = REPOSITORY.parent / "shared/speech"
    if named:
        return Path(named)
    return large if (large / "manifest.jsonl").is_file() else REPOSITORY / "tests/speech"


if __name__ == "__main__":
    sys.exit(main())
