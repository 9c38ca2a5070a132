"""`edge-agent outbox`: look into the durable queue, send from it again, empty it."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import UsageError
from edge_agent.verbs.common import (
    Subparsers,
    add_config,
    add_json,
    config_path,
    print_json,
    print_lines,
    say,
    state_dir,
    verb,
)

if TYPE_CHECKING:
    from edge_agent.outbox.rows import OutboxStats
    from edge_agent.outbox.store import Outbox
    from edge_agent.verbs.outbox_view import Limits

_DESCRIPTION = """\
Transcripts wait in the outbox until the broker has acknowledged them, and stay for replay after that (72
hours by default). All of this works while the agent runs; what is queued again it sends within a second.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the verb."""
    parser = verb(subparsers, "outbox", "look into the durable queue, replay, purge", _DESCRIPTION)
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = actions.add_parser("status", help="how much waits, since when, how much is kept")
    replay = actions.add_parser("replay", help="send delivered messages again")
    purge = actions.add_parser("purge", help="forget delivered messages now")
    span = replay.add_mutually_exclusive_group(required=True)
    span.add_argument(
        "--since", metavar="T", help="made at or after this time: 2026-11-20T13:00:00Z, or 90m, 12h, 3d ago"
    )
    span.add_argument("--from-seq", type=int, metavar="N", help="numbered N or above")
    purge.add_argument(
        "--undelivered",
        action="store_true",
        help="also forget what the broker never got: those transcripts are lost",
    )
    add_config(status)
    for action in (status, replay, purge):
        action.add_argument(
            "--path", type=Path, metavar="FILE", help="outbox (default: of this machine's agent)"
        )
        add_json(action)


def run(arguments: argparse.Namespace) -> int:
    """Do the one action."""
    from edge_agent.clock import SystemClock
    from edge_agent.outbox.store import look

    path = arguments.path or state_dir() / "outbox.sqlite3"
    if not path.exists():
        return _nothing(path, as_json=arguments.json)
    if arguments.action == "status":
        return _status(look(path, clock=SystemClock()), path, arguments)
    since_ms = _time(arguments.since) if arguments.action == "replay" and arguments.since else None
    outbox = _open(path)
    try:
        if arguments.action == "replay":
            count = outbox.replay(since_utc_ms=since_ms, from_seq=arguments.from_seq)
            done = f"{count} messages are queued again"
        else:
            count = outbox.purge(delivered_only=not arguments.undelivered)
            done = f"{count} messages are forgotten"
    finally:
        outbox.close()
    if arguments.json:
        print_json({"path": str(path), "action": arguments.action, "messages": count})
    else:
        say(done)
    return 0


def _open(path: Path) -> Outbox:
    from edge_agent.clock import SystemClock
    from edge_agent.outbox.store import Outbox

    return Outbox(path, clock=SystemClock(), guest=True)


def _nothing(path: Path, *, as_json: bool) -> int:
    if as_json:
        print_json({"path": str(path), "exists": False})
    else:
        say(f"no outbox yet: {path} is made when the agent first runs")
    return 0


def _status(stats: OutboxStats, path: Path, arguments: argparse.Namespace) -> int:
    import msgspec

    from edge_agent.outbox.kept import gaps
    from edge_agent.screen import terminal as terminals
    from edge_agent.verbs import outbox_view

    if arguments.json:
        print_json({"path": str(path), "exists": True, **msgspec.structs.asdict(stats)})
        return 0
    terminal = terminals.look()
    if terminal.is_tty:
        shown = outbox_view.pretty(stats, str(path), gaps(path), _limits(arguments), terminal)
        print_lines(shown, terminal)
    else:
        sys.stdout.write("\n".join(outbox_view.plain(stats, str(path))) + "\n")
    return 0


def _limits(arguments: argparse.Namespace) -> Limits | None:
    """What the configuration allows; a broken one does not keep anyone from looking into the outbox."""
    from edge_agent import config as configuration
    from edge_agent.errors import ConfigError
    from edge_agent.verbs.outbox_view import Limits

    try:
        section = configuration.load(config_path(arguments.config), arguments.overrides).outbox
    except ConfigError:
        return None
    return Limits(quota_mb=section.quota_mb, keep_delivered_h=section.keep_delivered_h)


def _time(text: str) -> int:
    """Milliseconds since the epoch of an ISO time or of "90m" ago.

    Raises:
        UsageError: neither of them.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        if text[-1:] in units and text[:-1].isdigit():
            return round((datetime.now(UTC).timestamp() - int(text[:-1]) * units[text[-1]]) * 1000)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.astimezone()
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f'--since "{text}" is no time', remedy="use 2026-11-20T13:00:00Z, or 90m, 12h, 3d"
        ) from error
