"""`edge-agent profiles`: the list, or one merged profile with the file each key comes from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import UsageError
from edge_agent.fleet.bundle import Target, valid_name
from edge_agent.fleet.places import profile_file
from edge_agent.profile.load import load_all
from edge_agent.profile.names import nearest
from edge_agent.profile.schema import Loaded, Profile
from edge_agent.verbs.common import Subparsers, add_json, print_json, state_dir, verb

_COLUMN = 40
"""Where the names of the files begin, when the value is short enough."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    parser = verb(
        subparsers,
        "profiles",
        "list the profiles, or show one",
        "List the profiles, or show one: `edge-agent profiles show NAME` prints it merged with what it\n"
        "extends, and the file that each key comes from.",
    )
    parser.add_argument("action", nargs="?", choices=("list", "show"), default="list")
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="the profile to show")
    parser.add_argument("--markdown", action="store_true", help="list as a Markdown table")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the list or one profile."""
    loaded = load_all(more=_of_the_fleet(args.name))
    if args.action == "show":
        return _show(args.name, loaded, as_json=args.json)
    profiles = ordered(entry.profile for entry in loaded.values())
    if args.json:
        print_json([msgspec.to_builtins(profile) for profile in profiles])
    elif args.markdown:
        print(markdown(profiles), end="")
    else:
        _list(profiles)
    return 0


def _of_the_fleet(name: str) -> dict[str, Path]:
    """The file of a profile that came signed, by the name that transcripts give it ("kiosk.v2")."""
    stem, _, number = name.rpartition(".v")
    if not (valid_name(stem) and number.isdecimal()):
        return {}
    target = Target(name=stem, version=int(number), kind="profile")
    path = profile_file(target, state_dir() / "fleet")
    return {name: path} if path.is_file() else {}


def ordered(profiles: Iterable[Profile]) -> list[Profile]:
    """In the order in which they are tried, those that are only extended last."""
    return sorted(profiles, key=lambda p: (p.abstract, -p.match.priority, p.name))


def markdown(profiles: list[Profile]) -> str:
    """The table of profiles in `profiles/README.md`, which a test keeps equal to this."""
    lines = ["| profile | for | engine | model | priority | status |", "|---|---|---|---|---|---|"]
    for profile in profiles:
        place = "" if profile.engine.device == "cpu" else f" on {profile.engine.device}"
        engine = f"{profile.engine.kind}/{profile.engine.compute_type}{place}"
        if not profile.abstract:
            own = (profile.engine.model, profile.model_for("auto"))
            models = dict.fromkeys((*profile.engine.better_models, *own))
            lines.append(
                f"| `{profile.name}` | {profile.description} | {engine} | {', '.join(models)} "
                f"| {profile.match.priority} | {profile.status} |"
            )
    return "\n".join(lines) + "\n"


def _list(profiles: list[Profile]) -> None:
    width = max(len(profile.name) for profile in profiles)
    for profile in profiles:
        print(f"{profile.name:<{width}}  {profile.description}")
        if not profile.abstract:
            engine = f"{profile.engine.kind}/{profile.engine.compute_type}"
            print(f"{'':<{width}}  {engine}, {profile.engine.model}; {profile.status}")


def _show(name: str, loaded: Mapping[str, Loaded], *, as_json: bool) -> int:
    if name not in loaded:
        cause = f'there is no profile "{name}"' if name else "profiles show needs the name of a profile"
        raise UsageError(cause, remedy=nearest(name, loaded))
    entry = loaded[name]
    if as_json:
        print_json({"profile": msgspec.to_builtins(entry.profile), "origins": entry.origins})
        return 0
    for line in as_toml(entry):
        print(line)
    return 0


def as_toml(entry: Loaded) -> list[str]:
    """The merged profile as lines of TOML, each key with the file it comes from."""
    tables: dict[str, Any] = msgspec.to_builtins(entry.profile)
    lines = ["# " + " < ".join([entry.profile.name, *entry.profile.extends])]
    table = ""
    for key, value in sorted(_flat(tables), key=lambda row: "." in row[0]):
        origin = entry.origins.get(key)
        if origin is None or key == "extends":
            continue
        here, _, name = key.rpartition(".")
        if here != table:
            lines += ["", f"[{here}]"]
            table = here
        lines.append(f"{f'{name} = {json.dumps(value, ensure_ascii=False)}':<{_COLUMN}}  # {origin}")
    return lines


def _flat(tables: Mapping[str, Any], at: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in tables.items():
        rows += _flat(value, f"{at}{key}.") if isinstance(value, dict) else [(f"{at}{key}", value)]
    return rows
