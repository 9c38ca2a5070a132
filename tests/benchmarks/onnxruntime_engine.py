"""onnxruntime against CTranslate2 on the same weights: tokens at float32, drafts; words, time and memory.

    .venv/bin/python -m tests.benchmarks.onnxruntime_engine [tokens] [speed] [--write]
        [--every N] [--model NAME]

"tokens" writes every recording (of longer ones the first 30 s) greedily with both engines at float32 and
holds what differs against float64 (`agreement`); it needs no quiet machine and takes a quarter of an hour of
CPU time for whisper-base and all recordings. "speed" decodes every recording that has a fit reference with
both engines in turns, one thread each, int8 and (every fourth) float32, and takes about five minutes of it.
Without either word both are done. Memory is the peak of a process that loads the engine and recognises 28 s.
Sections of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edge_agent.audio.files import read_audio
from edge_agent.bench.score import FIT_REFERENCES, Errors, errors, measure_of, total
from edge_agent.decoding import speculate
from edge_agent.engine.base import EngineConfig, open_engine
from edge_agent.models.convert import convert_to_onnx
from edge_agent.models.store import ModelStore
from edge_agent.types import DecodeOptions, Value
from edge_agent.verbs.common import models_dir
from tests import corpus
from tests.benchmarks import agreement
from tests.benchmarks.results import machine, table, write_section
from tests.whisper_float64 import Whisper64

LONGEST_S = 28.0
WRONG_TOKEN = 257
FLOAT32_EVERY = 4
DRAFTS_EVERY = 5
TRUTH_EVERY = 20
"""Every so many recordings all leads are held against float64, which takes seconds each."""
COMMAND = ".venv/bin/python -m tests.benchmarks.onnxruntime_engine"


class Run(Value, frozen=True):
    """One recording, decoded by one engine."""

    seconds: float
    wall_s: float
    cpu_s: float
    measure: str
    errors: Errors


def configs(name: str, root: Path, precision: str) -> dict[str, EngineConfig]:
    """Both engines on the same published weights."""
    here = ModelStore(models_dir())
    store = ModelStore(root, catalog={})
    if not store.has_source(name):
        store.import_dir(name, here.published_dir(name))
    onnx = store.onnx_dir(name, precision)
    if not onnx.is_dir():
        convert_to_onnx(name, store, precision)
    theirs = here.path(name, compute_type=precision)
    common: dict[str, Any] = {"model_name": f"{name}@0", "compute_type": precision}
    return {
        "CTranslate2": EngineConfig(kind="ctranslate2", model_dir=theirs, **common),
        "onnxruntime": EngineConfig(kind="onnxruntime", model_dir=onnx, **common),
    }


def language_of(clip: corpus.Clip, known: Sequence[str]) -> str:
    """The recording's, or English where the model does not know it."""
    primary = clip.language.partition("-")[0]
    return primary if primary in known else "en"


def drafts_that_change(clip: corpus.Clip, language: str, engine: Any) -> tuple[int, int]:
    """Drafts tried (right, one token wrong, cut in half), and those that changed greedy's tokens."""
    fitted = agreement.window(clip.path, engine.steps.abilities.mels)
    prompt = engine.decoder.tokenizer.sot_sequence(language)
    plain = engine.steps.generate(engine.steps.encode(fitted), prompt).tokens
    middle = len(plain) // 2
    drafts = (plain, (*plain[:middle], WRONG_TOKEN, *plain[middle + 1 :]), plain[:middle])
    # Encoded anew for each: an encoder output remembers what was read of it.
    found = [
        speculate.verify(engine.steps, engine.steps.encode(fitted), prompt, draft, frames=fitted.shape[1])
        for draft in drafts
    ]
    return len(drafts), sum(one.tokens != plain for one in found)


def tokens(clips: list[corpus.Clip], model: str, root: Path) -> str:
    """Text of the section on tokens."""
    pair = configs(model, root, "float32")
    one, other = (open_engine(config) for config in pair.values())
    truth = Whisper64(pair["CTranslate2"].model_dir)
    heard, drafts, changed = [], 0, 0
    for place, clip in enumerate(clips):
        language = language_of(clip, one.info.languages)
        exact = place % TRUTH_EVERY == 0
        heard.append(agreement.compare(clip, language, one, other, truth, exact=exact))
        if place % DRAFTS_EVERY == 0:
            tried, differ = drafts_that_change(clip, language, other)
            drafts, changed = drafts + tried, changed + differ
        if place % 50 == 49:
            print(f"{place + 1} of {len(clips)}", file=sys.stderr, flush=True)
    parted = [one.parting for one in heard if one.parting is not None]
    noise = max(one.noise for one in heard)
    known = [one.errors for one in heard if one.errors is not None]
    rows = [
        [
            part.clip,
            str(part.place),
            *(f"{lead:.6f}" for lead in (*part.leads, part.true_lead)),
            part.right,
            "a tie" if part.is_tie(noise) else "A FAULT",
        ]
        for part in parted
    ]
    head = ["recording", "token", "CTranslate2's lead", "onnxruntime's", "float64's", "right", "is"]
    same = f"**{len(clips) - len(parted)} of {len(clips)} recordings give the same tokens**"
    decisions = sum(one.decisions for one in heard)
    closest = min(one.closest for one in heard)
    off = [f"{max(one[engine] for one in known):.6f}" for engine in (0, 1)]
    return f"""{model}, float32, greedy, the same encoder window: {same} on both engines,
{decisions} decisions. The lead of the best token over the next differs between the engines by at most
{noise:.6f} nats, which is the noise; the closest decision had a lead of {closest:.6f}. Against float64
({len(known)} recordings) no lead of CTranslate2 is off by more than {off[0]}, none of onnxruntime
by more than {off[1]}. Tokens may differ where float64's lead is below the noise; elsewhere it is a fault:
{len(agreement.faults(heard))} found. Drafts on onnxruntime (right, one token wrong, cut in half): {drafts}
verified, {changed} changed greedy's tokens.

{table(head, rows) if rows else ""}"""


def in_turns(clips: list[corpus.Clip], pair: dict[str, EngineConfig]) -> dict[str, list[Run]]:
    """Every recording by one engine and at once by the other; who is first changes."""
    engines = {name: open_engine(config) for name, config in pair.items()}
    for engine in engines.values():
        engine.warm_up()
    found: dict[str, list[Run]] = {name: [] for name in engines}
    for place, clip in enumerate(clips):
        pcm = read_audio(clip.path)
        for name in list(engines)[:: 1 if place % 2 else -1]:
            engine = engines[name]
            options = DecodeOptions(language=language_of(clip, engine.info.languages))
            began, spent = time.perf_counter(), time.process_time()
            text = engine.transcribe(pcm, options=options).text
            found[name].append(
                Run(
                    seconds=clip.duration_s,
                    wall_s=time.perf_counter() - began,
                    cpu_s=time.process_time() - spent,
                    measure=f"{clip.language.partition('-')[0]} {measure_of(clip.language)}",
                    errors=errors(clip.text, text, clip.language),
                )
            )
    return found


def speed(clips: list[corpus.Clip], model: str, root: Path) -> str:
    """Text of the section on words, time and memory."""
    fit = [
        clip
        for clip in clips
        if clip.reference in FIT_REFERENCES and clip.text and clip.duration_s <= LONGEST_S
    ]
    rows, notes = [], []
    measures = sorted({f"{clip.language.partition('-')[0]} {measure_of(clip.language)}" for clip in fit})
    for precision, used in (("int8", fit), ("float32", fit[::FLOAT32_EVERY])):
        pair = configs(model, root, precision)
        runs = in_turns(used, pair)
        peaks = {name: memory_mb(config) for name, config in pair.items()}
        rows += [_row(f"{name}, {precision}", runs[name], measures, peaks[name]) for name in runs]
        notes.append(_verdict(precision, runs))
    head = ["", "clips", *(f"{one} %" for one in measures), "median ms", "CPU ms", "CPU s per s", "peak MB"]
    return f"""{model}, greedy, one thread each, in turns on the same recordings; {machine()}.

{table(head, rows)}

{" ".join(notes)}

The profile picks the winner: those for AVX512-VNNI and AMX name onnxruntime at int8, all others CTranslate2
(edge_agent/decisions/0031)."""


def _row(name: str, runs: list[Run], measures: list[str], peak: float) -> list[str]:
    by = {one: total([run.errors for run in runs if run.measure == one]) for one in measures}
    rates = [f"{100 * one.edits / one.units:.2f}" if one.units else "" for one in by.values()]
    return [
        name,
        str(len(runs)),
        *rates,
        f"{1e3 * median(run.wall_s for run in runs):.0f}",
        f"{1e3 * median(run.cpu_s for run in runs):.0f}",
        f"{sum(run.cpu_s for run in runs) / sum(run.seconds for run in runs):.3f}",
        f"{peak:.0f}",
    ]


def _verdict(precision: str, runs: dict[str, list[Run]]) -> str:
    """Who wins, by how much, from the ratios of single recordings."""
    told = []
    for what, low, high in (("up to 4 s", 0.0, 4.0), ("4 to 10 s", 4.0, 10.0), ("longer", 10.0, LONGEST_S)):
        ratios = [
            theirs.cpu_s / ours.cpu_s
            for theirs, ours in zip(runs["CTranslate2"], runs["onnxruntime"], strict=True)
            if low < ours.seconds <= high
        ]
        if ratios:
            won = sum(ratio > 1 for ratio in ratios)
            told.append(f"{what} {median(ratios):.2f} (it wins {won} of {len(ratios)})")
    return f"CPU time of CTranslate2 over onnxruntime's at {precision}, medians: {', '.join(told)}."


def memory_mb(config: EngineConfig) -> float:
    """Peak of a process that loads the engine and uses it once."""
    text = json.dumps([config.kind, str(config.model_dir), config.compute_type])
    command = [sys.executable, "-m", "tests.benchmarks.onnxruntime_engine", "--child", text]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return float(json.loads(done.stdout.splitlines()[-1]))


def child(text: str) -> None:
    """Load, recognise, and print the peak in MB."""
    kind, directory, precision = json.loads(text)
    engine = open_engine(
        EngineConfig(kind=kind, model_dir=Path(directory), model_name="m@0", compute_type=precision)
    )
    noise = np.random.default_rng(0).normal(0, 0.02, 16_000 * 28).astype(np.float32)
    engine.transcribe(noise, options=DecodeOptions(language="en"))
    # Not getrusage: its peak is handed down from the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    print(next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")))


PARTS = {
    "tokens": (tokens, "onnxruntime and CTranslate2: the same tokens"),
    "speed": (speed, "onnxruntime and CTranslate2: words, time, memory"),
}


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="tokens, speed; default: both")
    parser.add_argument("--every", type=int, default=1, help="use each Nth recording only")
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--write", action="store_true", help="write the sections of RESULTS.md")
    parser.add_argument("--note", default="", help='said in them, for example "Beside other work."')
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child)
        return
    clips = corpus.clips()[:: args.every]
    if args.model.endswith(".en"):
        clips = [clip for clip in clips if clip.language.startswith("en")]
    chosen = f" --every {args.every}" if args.every > 1 else ""
    for part in args.parts or PARTS:
        make, title = PARTS[part]
        with tempfile.TemporaryDirectory() as root:
            text = make(clips, args.model, Path(root))
        command = f"Command: `{COMMAND} {part} --model {args.model}{chosen} --write`; {machine()}."
        body = "\n\n".join(filter(None, [text.rstrip(), args.note, command]))
        if args.write:
            write_section(f"onnxruntime-{part}-{args.model}", f"{title} ({args.model})", body)
        print(body)


if __name__ == "__main__":
    main()
