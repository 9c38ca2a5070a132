"""What the verbs share: option groups, output, and the default places of files."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from edge_agent.screen.spans import Line
    from edge_agent.screen.terminal import Terminal

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Subparsers = Any


def verb(subparsers: Subparsers, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    """A verb's parser with the options all verbs have: -v and -q."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="say more on stderr (twice: debug)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="say only errors on stderr")
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help="print facts as JSON instead of text")


def add_config(parser: argparse.ArgumentParser) -> None:
    """The options --config and --set."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file (default: EDGE_AGENT_CONFIG, then the system's)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override one configuration key, for example --set recognition.language=de (may be repeated)",
    )


def print_json(value: object) -> None:
    """One JSON document on stdout, keys as given, text unescaped."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")
    sys.stdout.flush()


def print_json_line(value: Mapping[str, object]) -> None:
    """One JSON document on one line of stdout, flushed at once for pipes."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_lines(lines: Iterable[Line], terminal: Terminal) -> None:
    """Styled lines on stdout."""
    from edge_agent.screen.spans import written

    sys.stdout.write("".join(f"{written(one, terminal)}\n" for one in lines))
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for a person, on stderr, so that stdout stays for facts."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def state_dir() -> Path:
    """EDGE_AGENT_STATE, systemd's StateDirectory, /var/lib/edge-agent for root, else XDG data."""
    for name in ("EDGE_AGENT_STATE", "STATE_DIRECTORY"):
        if os.environ.get(name):
            return Path(os.environ[name].split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/edge-agent")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return Path(base) / "edge-agent"


def runtime_dir() -> Path:
    """systemd's RuntimeDirectory, /run/edge-agent for root, else XDG's, else below the state."""
    if os.environ.get("EDGE_AGENT_STATE"):
        return state_dir() / "run"
    if os.environ.get("RUNTIME_DIRECTORY"):
        return Path(os.environ["RUNTIME_DIRECTORY"].split(":")[0])
    if os.geteuid() == 0:
        return Path("/run/edge-agent")
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "edge-agent" if base else state_dir() / "run"


def config_path(given: Path | None) -> Path | None:
    """The configuration file to read: given, EDGE_AGENT_CONFIG, /etc, XDG; None when there is none."""
    if given is not None:
        return given
    if os.environ.get("EDGE_AGENT_CONFIG"):
        return Path(os.environ["EDGE_AGENT_CONFIG"])
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    for place in (Path("/etc/edge-agent/agent.toml"), Path(base) / "edge-agent/agent.toml"):
        if place.is_file():
            return place
    return None


def models_dir() -> Path:
    """Where models live: EDGE_AGENT_MODELS, else `models/` in the state directory."""
    named = os.environ.get("EDGE_AGENT_MODELS")
    return Path(named) if named else state_dir() / "models"
