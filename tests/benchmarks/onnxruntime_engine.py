"""onnxruntime against CTranslate2 on the same weights: tokens at float32, drafts; int8's words, time, memory.

    .venv/bin/python -m tests.benchmarks.onnxruntime_engine [--every N] [--model whisper-base]

Writes the section "onnxruntime and CTranslate2" of RESULTS.md. Times are CPU time of one thread; memory is
the peak of a process that loads the engine and recognises one recording of 28 s. Takes about a quarter of an
hour of CPU time for whisper-base and all recordings.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.audio.files import read_audio
from edge_agent.bench.score import FIT_REFERENCES, Errors, errors, measure_of, total
from edge_agent.decoding import features, speculate
from edge_agent.engine.base import EngineConfig, open_engine
from edge_agent.models.convert import convert_to_onnx
from edge_agent.models.store import ModelStore
from edge_agent.types import DecodeOptions, PcmFloat
from edge_agent.verbs.common import models_dir
from tests import corpus
from tests.benchmarks.results import machine, table, write_section

LONGEST_S = 28.0
WRONG_TOKEN = 257


def configs(name: str, root: Path, precision: str) -> dict[str, EngineConfig]:
    """Both engines on the same published weights."""
    here = ModelStore(models_dir())
    store = ModelStore(root, catalog={})
    if not store.has_source(name):
        store.import_dir(name, here.published_dir(name))
    onnx = store.onnx_dir(name, precision)
    if not onnx.is_dir():
        convert_to_onnx(name, store, precision)  # type: ignore[arg-type] - one of two literals below
    theirs = here.path(name, compute_type=precision)
    common: dict[str, Any] = {"model_name": f"{name}@0", "compute_type": precision}
    return {
        "CTranslate2": EngineConfig(kind="ctranslate2", model_dir=theirs, **common),
        "onnxruntime": EngineConfig(kind="onnxruntime", model_dir=onnx, **common),
    }


def language_of(clip: corpus.Clip, known: tuple[str, ...]) -> str:
    """The recording's, or English where the model does not know it."""
    primary = clip.language.partition("-")[0]
    return primary if primary in known else "en"


def same_tokens(clips: list[corpus.Clip], pair: dict[str, EngineConfig]) -> tuple[list[str], int, int]:
    """Recordings whose greedy tokens differ; drafts tried, and those that changed the tokens."""
    one, other = (open_engine(config) for config in pair.values())
    known = one.info.languages
    differ, drafts, changed = [], 0, 0
    for clip in clips:
        mel = features.log_mel(read_audio(clip.path), one.steps.abilities.mels)  # type: ignore[attr-defined] - engines with steps only
        frames = min(features.MAX_FRAMES, max(1000, mel.shape[1] + 200) // 2 * 2)
        fitted = features.fit(mel, frames, padding=features.silence_value(mel))
        prompt = one.decoder.tokenizer.sot_sequence(language_of(clip, known))  # type: ignore[attr-defined] - engines with steps only
        theirs = one.steps.generate(one.steps.encode(fitted), prompt).tokens  # type: ignore[attr-defined] - engines with steps only
        steps = other.steps  # type: ignore[attr-defined] - engines with steps only
        encoded = steps.encode(fitted)
        ours = steps.generate(encoded, prompt).tokens
        if ours != theirs:
            differ.append(clip.id)
        middle = len(ours) // 2
        for draft in (ours, (*ours[:middle], WRONG_TOKEN, *ours[middle + 1 :]), ours[:middle]):
            found = speculate.verify(steps, steps.encode(fitted), prompt, draft, frames=mel.shape[1])
            drafts += 1
            changed += found.tokens != ours
    return differ, drafts, changed


def recognised(
    clips: list[tuple[corpus.Clip, PcmFloat]], config: EngineConfig
) -> tuple[dict[str, Errors], float]:
    """Errors by measure and the CPU seconds of one engine over all recordings."""
    engine = open_engine(config)
    engine.warm_up()
    found: dict[str, list[Errors]] = {}
    spent = 0.0
    for clip, pcm in clips:
        options = DecodeOptions(language=language_of(clip, engine.info.languages))
        began = time.process_time()
        text = engine.transcribe(pcm, options=options).text
        spent += time.process_time() - began
        key = f"{clip.language.partition('-')[0]} {measure_of(clip.language)}"
        found.setdefault(key, []).append(errors(clip.text, text, clip.language))
    return {key: total(parts) for key, parts in found.items()}, spent


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


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="use each Nth recording only")
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child)
        return
    clips = [clip for clip in corpus.clips() if 0 < clip.duration_s <= LONGEST_S][:: args.every]
    if args.model.endswith(".en"):
        clips = [clip for clip in clips if clip.language == "en"]
    fit = [clip for clip in clips if clip.reference in FIT_REFERENCES and clip.text]
    with tempfile.TemporaryDirectory() as root:
        exact = configs(args.model, Path(root), "float32")
        differ, drafts, changed = same_tokens(clips, exact)
        fast = configs(args.model, Path(root), "int8")
        sounds = [(clip, read_audio(clip.path)) for clip in fit]
        results = {name: recognised(sounds, config) for name, config in fast.items()}
        peaks = {name: memory_mb(config) for name, config in fast.items()}
    seconds = sum(clip.duration_s for clip in fit)
    measures = sorted(next(iter(results.values()))[0])
    rows = [
        [
            f"{name}, int8",
            *(f"{100 * found[measure].edits / found[measure].units:.2f}" for measure in measures),
            f"{spent / seconds:.3f}",
            f"{peaks[name]:.0f}",
        ]
        for name, (found, spent) in results.items()
    ]
    head = ["", *(f"{measure} %" for measure in measures), "CPU s per s of sound", "peak MB"]
    chosen = f" --every {args.every}" if args.every > 1 else ""
    exceptions = f" (not: {', '.join(differ[:8])})" if differ else ""
    body = f"""{args.model}, greedy, one thread; {machine()}.
Command: `.venv/bin/python -m tests.benchmarks.onnxruntime_engine --model {args.model}{chosen}`

float32, the same encoder window: {len(clips) - len(differ)} of {len(clips)} recordings give the same tokens
as CTranslate2{exceptions}. Drafts (right, one token wrong, cut in half):
{drafts} verified, {changed} changed greedy's tokens.

{table(head, rows)}"""
    if args.every == 1:  # a sample is for a look, not for the record
        write_section("onnxruntime", "onnxruntime and CTranslate2", body)
    print(body)


if __name__ == "__main__":
    main()
