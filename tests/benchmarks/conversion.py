"""What converting a model of large-v2's shape takes: seconds, memory, disk.

    .venv/bin/python -m tests.benchmarks.conversion [--layers N] [--dtype F16|BF16] [--write]

A checkpoint with random weights and a vocabulary of its own stands for Breeze-ASR-25. Each step runs in a
process of its own: the checkpoint into CTranslate2's float16 form, that into its int8 form, and into ONNX
graphs. Memory is what the process holds for itself (RssAnon); pages of mapped files come on top and go when
others need room. Takes about five minutes and 14 GB of disk below --room.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.models.convert import convert_to_onnx, import_checkpoint
from edge_agent.models.prepare import prepare
from edge_agent.models.store import ModelStore
from edge_agent.types import Value
from tests.benchmarks.results import machine, table, write_section
from tests.checkpoints import LARGE_V2, checkpoint

NAME = "breeze-asr-25"
SWAPPED = 500
STEPS: dict[str, Callable[[ModelStore, Path], Path]] = {
    "CTranslate2 float16": lambda store, source: import_checkpoint(NAME, source, store),
    "CTranslate2 int8": lambda store, _: prepare(NAME, store),
    "ONNX int8": lambda store, _: convert_to_onnx(NAME, store, "int8"),
    "ONNX float16": lambda store, _: convert_to_onnx(NAME, store, "float16"),
}
"""In this order: each needs the first."""


class Cost(Value, frozen=True):
    """Of one step."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    """Of memory that is the process's own."""
    size_bytes: int
    """Of what was made."""


def measure(step: str, store: Path, source: Path, *, timeout_s: float = 900.0) -> Cost:
    """Run one step in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.conversion", "--child", step, str(store), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise RuntimeError(f"{step}: {done.stderr.strip()[-500:]}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def child(step: str, store: Path, source: Path) -> None:
    """Do it, and print what it cost."""
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            peak[0] = max(peak[0], _own_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        made = STEPS[step](ModelStore(store, catalog={}), source)
    finally:
        stop.set()
        watcher.join()
    cost = {
        "wall_s": time.perf_counter() - began,
        "cpu_s": time.process_time(),
        "peak_bytes": peak[0],
        "size_bytes": size_of(made),
    }
    print(json.dumps(cost))


def _own_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


def size_of(directory: Path) -> int:
    """Of all files in it."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=LARGE_V2["layers"])
    parser.add_argument("--dtype", choices=("F16", "BF16"), default="F16")
    parser.add_argument("--room", type=Path, help="where the files may lie meanwhile")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], Path(args.child[1]), Path(args.child[2]))
        return
    with tempfile.TemporaryDirectory(dir=args.room) as root:
        shape = {**LARGE_V2, "layers": args.layers}
        source = checkpoint(Path(root) / "hf", dtype=args.dtype, swapped=SWAPPED, **shape)
        original = size_of(source)
        rows = []
        for step in STEPS:
            cost = measure(step, Path(root) / "store", source)
            cells = [cost.wall_s, cost.cpu_s, cost.peak_bytes / 1e6, cost.size_bytes / 1e6]
            rows.append([step, *(f"{cell:.0f}" for cell in cells)])
            print(rows[-1], flush=True)
    body = f"""A checkpoint of {original / 1e6:.0f} MB ({args.dtype}, random weights, large-v2's shape, a
vocabulary of its own); each step in a process of its own. Memory is the process's own; mapped files are not
in it. {machine()}.
Command: `.venv/bin/python -m tests.benchmarks.conversion --write`

{table(["step", "wall s", "CPU s", "peak memory, MB", "result, MB"], rows)}"""
    if args.write:
        write_section("conversion", "Converting a model of large-v2's shape", body)
    print(body)


if __name__ == "__main__":
    main()
