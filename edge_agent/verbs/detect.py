"""`edge-agent detect`: the machine, the profile that serves it, and why each other one does not."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.engine.base import MODULES
from edge_agent.errors import NoProfileFits
from edge_agent.hardware import facts, probe
from edge_agent.profile.choose import AUTO, Choice, choose, rank, rejections
from edge_agent.profile.graphics import describe_gpu
from edge_agent.profile.judge import FLAG_MEANING
from edge_agent.profile.load import load_all
from edge_agent.profile.schema import Profile
from edge_agent.types import Cuda, Device
from edge_agent.verbs.common import Subparsers, add_json, print_json, verb

_WIDTH = 100
_LABEL = 10


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    parser = verb(
        subparsers,
        "detect",
        "show this machine and the profile chosen for it",
        "Show what this machine is, which profile serves it and why, and why each other profile does not.",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="judge the machine whose /proc, /sys and /etc were copied to DIR (default: this machine)",
    )
    parser.add_argument("--profile", default=AUTO, metavar="NAME", help="judge as if this profile were named")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the facts. A machine that no profile fits is still printed before the error."""
    device = facts.device(probe.read(args.root))
    profiles = [loaded.profile for loaded in load_all().values()]
    engines = frozenset(MODULES)
    try:
        choice = choose(device, profiles, override=args.profile, engines=engines)
    except NoProfileFits as error:
        rejected = rejections(rank(device, profiles, engines))
        if args.json:
            print_json(as_json(device, None, rejected) | {"error": str(error)})
        else:
            _print(_machine(device), _others(rejected, "Profiles"))
        raise
    if args.json:
        print_json(as_json(device, choice, choice.rejected))
    else:
        _print(_machine(device), _chosen(choice), _others(choice.rejected))
    return 0


def as_json(device: Device, choice: Choice | None, rejected: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """The facts as one JSON object."""
    machine: dict[str, Any] = msgspec.to_builtins(device)
    machine["cpu_flags"] = sorted(device.cpu_flags)
    return {
        "device": machine,
        "profile": choice.profile.name if choice else None,
        "status": choice.profile.status if choice else None,
        "workers": choice.workers if choice else None,
        "reasons": list(choice.reasons) if choice else [],
        "rejected": [{"profile": name, "why": why} for name, why in rejected],
    }


def _machine(device: Device) -> list[str]:
    rows = [("Machine", device.board)] if device.board else []
    rows.append(("CPU", f"{device.cpu_model}, {device.arch}"))
    kinds = device.core_kinds if len(device.core_kinds) > 1 else ()
    cores = f"{device.usable_cpus:g} of {device.cores} CPUs usable"
    if device.physical_cores and device.physical_cores != device.cores:
        cores += f", {device.physical_cores} cores"
    if kinds:
        cores += f" ({', '.join(f'{kind.count}× {kind.name}' for kind in kinds)})"
    rows.append(("", cores))
    decisive = [flag for flag in FLAG_MEANING if flag in device.cpu_flags]
    if decisive:
        rows.append(("", f"with {', '.join(decisive)}"))
    ram, usable = device.ram_bytes / (1 << 30), device.usable_ram_bytes / (1 << 30)
    limited = "" if device.usable_ram_bytes == device.ram_bytes else f", {usable:.1f} GB usable"
    rows.append(("Memory", f"{ram:.1f} GB{limited}"))
    rows += [
        ("GPU", f"{describe_gpu(gpu)}{f', driver {gpu.driver}' if gpu.driver else ''}") for gpu in device.gpus
    ]
    if device.cuda is not None:
        rows.append(("CUDA", _cuda(device.cuda)))
    if device.l4t:
        rows.append(("System", f"{device.jetpack or 'NVIDIA Linux for Tegra'} (L4T {device.l4t})"))
    if device.power_mode:
        rows.append(("Power", f"nvpmodel mode {device.power_mode}"))
    rows += [("Note", note) for note in device.notes]
    return _rows(rows)


def _cuda(cuda: Cuda) -> str:
    """What programs can use, or why nothing can be told."""
    if cuda.problem:
        return cuda.problem
    told = [f"driver for CUDA {cuda.runtime}"] if cuda.runtime else []
    told.append(", ".join(cuda.libraries) or "no CUDA library loads")
    told.append(f"CTranslate2: {', '.join(cuda.ctranslate2_types) or cuda.ctranslate2_why}")
    if cuda.tensorrt_llm:
        told.append(f"TensorRT-LLM {cuda.tensorrt_llm}")
    return "; ".join(told)


def _chosen(choice: Choice) -> list[str]:
    profile: Profile = choice.profile
    rows = [("Profile", f"{profile.name} ({profile.status})"), ("", profile.description)]
    rows += [
        ("because" if number == 0 else "", f"- {reason}") for number, reason in enumerate(choice.reasons)
    ]
    return _rows(rows)


def _others(rejected: tuple[tuple[str, str], ...], label: str = "Not") -> list[str]:
    return _rows([(label if n == 0 else "", f"{name}: {why}") for n, (name, why) in enumerate(rejected)])


def _rows(rows: list[tuple[str, str]]) -> list[str]:
    lines = []
    for label, text in rows:
        indent = " " * (_LABEL + 2 * text.startswith("- "))
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=f"{label:<{_LABEL}}",
            subsequent_indent=indent,
            break_long_words=False,
        )
    return lines


def _print(*blocks: list[str]) -> None:
    print("\n\n".join("\n".join(block) for block in blocks if block), flush=True)
