"""What preparing a model is worth: python -m tests.benchmarks.decoding.loading [--runs N] [--write]

Load time and peak memory of the prepared against the published files, in a fresh process each and in turns;
and the time from starting a process to the first transcript: `edge-agent transcribe` on both, and a script of
six lines with faster-whisper. Writes the section "Loading" of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from edge_agent.models.store import ModelStore
from edge_agent.verbs.common import models_dir
from tests.benchmarks.decoding import common
from tests.benchmarks.results import machine, table, write_section

SAMPLE = Path(__file__).resolve().parents[3] / "edge_agent/samples/find_a_way_out.flac"
_TIME_OUT_S = 300
Result = TypeVar("Result")

_OPEN = 'model = ctranslate2.models.Whisper(sys.argv[1], device="cpu", compute_type="int8", intra_threads=1)'
_IMPORT_ONNX = """import numpy, onnxruntime, pathlib
from edge_agent.engine import base, ort
config = base.EngineConfig(kind="onnxruntime", model_dir=pathlib.Path(sys.argv[1]), model_name="m@0")"""
_OPEN_ONNX = "model = ort.open_engine(config)"
_LOAD = """
import json, sys, time
import ctranslate2, numpy
def memory(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(key))
before, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
model = ctranslate2.models.Whisper(sys.argv[1], device="cpu", compute_type="int8", intra_threads=1)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({"wall_ms": 1e3 * wall, "cpu_ms": 1e3 * cpu, "peak_mb": memory("VmHWM"),
                  "added_mb": memory("VmHWM") - before, "kept_mb": memory("VmRSS")}))
"""
_LOAD_ONNX = _LOAD.replace("import ctranslate2, numpy", _IMPORT_ONNX).replace(_OPEN, _OPEN_ONNX)
_PEER = """
import sys
from faster_whisper import WhisperModel
model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8")
segments, _ = model.transcribe(sys.argv[2], language="en", beam_size=1)
print(" ".join(segment.text.strip() for segment in segments), flush=True)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""
_OURS = """
import sys
from edge_agent.cli import main
code = main(["transcribe", "--model", sys.argv[1], sys.argv[2]])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""


class Load(msgspec.Struct, frozen=True):
    """One load in a process of its own; the libraries were imported before."""

    wall_ms: float
    cpu_ms: float
    peak_mb: float
    """Peak resident memory of the process, libraries included."""
    added_mb: float
    """Of that, what came with the load."""
    kept_mb: float


class Start(msgspec.Struct, frozen=True):
    """From starting a process to its first transcript, and the process's whole cost."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    text: str


def load(directory: Path) -> Load:
    """Load a model in a child process."""
    script = _LOAD_ONNX if (directory / "onnx.json").is_file() else _LOAD
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory)], capture_output=True, check=True, timeout=_TIME_OUT_S
    )
    return msgspec.json.decode(done.stdout, type=Load)


def start(script: str, directory: Path) -> Start:
    """Run a script that prints the transcript of the sample as its first line."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(directory), str(SAMPLE)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        text = child.stdout.readline().strip()
        wall_s = time.perf_counter() - began
        said = child.stderr.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode or not text:
        raise SystemExit(f"{directory}: no transcript; {said.strip()}")
    peak_kb = next(int(line.split()[1]) for line in said.splitlines() if line.startswith("VmHWM"))
    return Start(wall_s=wall_s, cpu_s=used.ru_utime + used.ru_stime, peak_mb=peak_kb / 1000, text=text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="write the figures to RESULTS.md")
    chosen = parser.parse_args()
    store = ModelStore(models_dir())
    forms = {
        "published": store.source_dir(chosen.model),
        "prepared": store.path(chosen.model),
        "ONNX": common.onnx(chosen.model),
    }
    loads = in_turns({name: partial(load, path) for name, path in forms.items()}, chosen.runs)
    starts = in_turns(
        {
            "edge-agent transcribe, ONNX": partial(start, _OURS, forms["ONNX"]),
            "edge-agent transcribe, prepared": partial(start, _OURS, forms["prepared"]),
            "edge-agent transcribe, published": partial(start, _OURS, forms["published"]),
            "faster-whisper, published": partial(start, _PEER, forms["published"]),
        },
        chosen.runs,
    )
    text = body(chosen.model, forms, loads, starts)
    print(text)
    if chosen.write:
        write_section("decoding-loading", "Loading", text)


def in_turns(jobs: dict[str, Callable[[], Result]], runs: int) -> dict[str, list[Result]]:
    """Every job once, then all again: what disturbs the machine disturbs all. The first round only warms."""
    found: dict[str, list[Result]] = defaultdict(list)
    for number in range(runs + 1):
        for name, job in jobs.items():
            result = job()
            if number:
                found[name].append(result)
    return found


def body(
    model: str, forms: dict[str, Path], loads: dict[str, list[Load]], starts: dict[str, list[Start]]
) -> str:
    """The section's text."""
    load_rows = [
        [
            name,
            f"{sum(file.stat().st_size for file in forms[name].glob('*.bin')) / 1e6:.0f}",
            *(_middle([getattr(one, field) for one in runs]) for field in ("wall_ms", "cpu_ms")),
            *(_middle([getattr(one, field) for one in runs]) for field in ("added_mb", "peak_mb", "kept_mb")),
        ]
        for name, runs in loads.items()
    ]
    start_rows = [
        [
            name,
            _middle([one.wall_s for one in runs], 2),
            _middle([one.cpu_s for one in runs], 2),
            _middle([one.peak_mb for one in runs]),
        ]
        for name, runs in starts.items()
    ]
    texts = {one.text for runs in starts.values() for one in runs}
    return (
        table(
            ["load", "weights MB", "wall ms", "CPU ms", "peak MB added", "peak MB in all", "MB afterwards"],
            load_rows,
        )
        + "\n\n"
        + table(["process start to first transcript", "wall s", "CPU s", "peak MB"], start_rows)
        + f"\n\n{model}, int8; medians of {len(next(iter(loads.values())))} processes each, in turns, "
        f"files in the page cache; libraries are imported before the load is timed. "
        f"Transcripts: {json.dumps(sorted(texts))}. "
        f"`python -m tests.benchmarks.decoding.loading --write`, {machine()}."
    )


def _middle(values: Sequence[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f}"


if __name__ == "__main__":
    main()
