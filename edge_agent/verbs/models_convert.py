"""`edge-agent models convert`: a checkpoint into the store, or a stored model in another form."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import UsageError
from edge_agent.verbs.common import print_json, say

if TYPE_CHECKING:
    from edge_agent.models.store import ModelStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the action takes."""
    parser.add_argument("name", help="of the model in the store")
    parser.add_argument(
        "directory",
        type=Path,
        nargs="?",
        help="a Hugging Face checkpoint of Whisper (config.json, *.safetensors, tokenizer); without it the "
        "model of that name is converted",
    )
    parser.add_argument("--to", choices=("ctranslate2", "onnx"), help="default: ctranslate2 with a directory")
    parser.add_argument(
        "--precision",
        choices=("int8", "float16", "float32"),
        default="int8",
        help="of the ONNX form (default: int8)",
    )


def run(args: argparse.Namespace, store: ModelStore) -> int:
    """Convert, and say where the result is."""
    from edge_agent.models.convert import convert_to_onnx, import_checkpoint
    from edge_agent.models.prepare import prepare

    form = args.to or ("ctranslate2" if args.directory else "onnx")
    if args.directory is None and form == "ctranslate2":
        raise UsageError(
            f"{args.name} is in CTranslate2's form already",
            remedy="name a checkpoint's directory, or --to onnx",
        )
    if args.directory is not None:
        import_checkpoint(args.name, args.directory, store)
        path = prepare(args.name, store)
    if form == "onnx":
        path = convert_to_onnx(args.name, store, args.precision)
    published = store.published_name(args.name)
    if args.json:
        print_json({"name": args.name, "published_name": published, "form": form, "path": str(path)})
    elif not args.quiet:
        say(f"{published} is in {path}")
    return 0
