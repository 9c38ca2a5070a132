"""`edge-agent engines`: engines for TensorRT-LLM, which run only where they were built."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import DigestMismatch
from edge_agent.verbs.common import Subparsers, add_json, models_dir, print_json, say, verb

if TYPE_CHECKING:
    from edge_agent.engine.base import Engine

_DESCRIPTION = """\
TensorRT-LLM runs a model as an engine that is built for one GPU, one set of versions and one precision.
It needs an environment of its own: provisioning/trtllm.sh. Not yet run on hardware.

  build NAME CHECKPOINT  build the engine of a stored model here, and prove it with a known recording
  rebuild                build again what was built here and fits this machine no more (a new driver, other
                         versions); the timer edge-agent-engines does so in the background
  list                   the engines of all stored models, and what each was built for
  verify                 take every digest again"""
DEFAULT_EXAMPLES = Path("/opt/edge-agent/trtllm/examples/whisper")


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    parser = verb(subparsers, "engines", "build and list TensorRT-LLM engines", _DESCRIPTION)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = verb(actions, "build", "build an engine on this machine", "Build an engine on this machine.")
    build.add_argument("name", help="of the model in the store")
    build.add_argument("checkpoint", type=Path, help="the same model as an OpenAI-format .pt file")
    build.add_argument("--precision", choices=("float16", "int8", "int4"), default="float16")
    build.add_argument("--batch", type=int, default=8, help="requests in flight (default: 8, as the profile)")
    build.add_argument(
        "--examples", type=Path, default=DEFAULT_EXAMPLES, help="TensorRT-LLM's examples/models/core/whisper"
    )
    add_json(build)
    rebuild = verb(
        actions,
        "rebuild",
        "build again what fits no more",
        "Build again every engine that was built on this machine and fits it no more. What fits stays.",
    )
    rebuild.add_argument("--mark", type=Path, help="file to make when something was built")
    add_json(rebuild)
    for name, summary in (("list", "what was built, and for what"), ("verify", "take every digest again")):
        add_json(verb(actions, name, summary, summary))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    done: int = {"build": _build, "rebuild": _rebuild, "list": _list, "verify": _verify}[args.action](args)
    return done


def _build(args: argparse.Namespace) -> int:
    from edge_agent.engine.base import EngineConfig
    from edge_agent.engine.trtllm_build import build
    from edge_agent.models.store import ModelStore

    store = ModelStore(models_dir())
    config = EngineConfig(
        kind="tensorrt-llm",
        model_dir=store.published_dir(args.name),
        model_name=store.published_name(args.name),
        compute_type=args.precision,
        device="cuda",
        workers=args.batch,
    )
    found = build(config, args.checkpoint, args.examples, _recognises)
    if args.json:
        print_json({"name": args.name, "key": found.key.name, "path": str(found.directory)})
    elif not args.quiet:
        say(f"{found.key.name} is built and recognises the known recording")
    return 0


def _rebuild(args: argparse.Namespace) -> int:
    from edge_agent.engine.trtllm_build import rebuild
    from edge_agent.models.store import ModelStore

    store = ModelStore(models_dir())
    built: list[dict[str, str]] = []
    for model in store.list():
        if not model.source:
            continue
        found = rebuild(store.published_dir(model.name), model.published_name, _recognises)
        if found is not None:
            built.append({"name": model.name, "key": found.key.name, "path": str(found.directory)})
    if built and args.mark is not None:
        args.mark.touch()
    if args.json:
        print_json({"built": built})
    elif not args.quiet:
        say(", ".join(f"{one['key']} is built" for one in built) or "nothing has to be built again")
    return 0


def _recognises(engine: Engine) -> str:
    from edge_agent import selftest
    from edge_agent.types import DecodeOptions

    fault, _ = selftest.examine(engine, DecodeOptions(), selftest.clip())
    return fault


def _list(args: argparse.Namespace) -> int:
    rows = [{"model": name, "engine": path.name, "path": str(path)} for name, path in _engines()]
    if args.json:
        print_json({"engines": rows})
        return 0
    for row in rows:
        sys.stdout.write(f"{row['model']:24} {row['engine']}\n")
    if not rows and not args.quiet:
        say("no engines; see: edge-agent engines build --help")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from edge_agent.engine import trtllm_files

    wrong: list[str] = []
    for _, path in _engines():
        manifest = trtllm_files.read(path)
        if manifest is not None:
            wrong += [f"{path.name}: {fault}" for fault in trtllm_files.faults(path, manifest)]
    if args.json:
        print_json({"well": not wrong, "faults": wrong})
    if wrong:
        raise DigestMismatch("; ".join(wrong), remedy="run: edge-agent engines build")
    if not args.json and not args.quiet:
        say("every engine is as it was built")
    return 0


def _engines() -> list[tuple[str, Path]]:
    """(model, directory) of every finished engine."""
    from edge_agent.engine.trtllm_recipe import MANIFEST

    found = sorted(models_dir().glob(f"*/trtllm/*/{MANIFEST}"))
    return [(path.parents[2].name, path.parent) for path in found if not path.parent.name.endswith(".old")]
