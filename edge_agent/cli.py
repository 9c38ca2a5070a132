"""The command `edge-agent`: finds the verb, runs it, and turns our errors into one line and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from edge_agent import __version__, log
from edge_agent.errors import EdgeAgentError

_VERBS = (
    "demo",
    "run",
    "detect",
    "profiles",
    "devices",
    "transcribe",
    "listen",
    "page",
    "models",
    "engines",
    "health",
    "doctor",
    "outbox",
    "bench",
)

_EXIT_CODES = """\
exit codes:
  0   well
  1   failed
  2   wrong usage
  3   degraded (health and doctor only)
  69  a service it needs is unreachable (broker, microphone, model source)
  78  bad configuration; a service manager should not restart

files:
  /etc/edge-agent/agent.toml   configuration (EDGE_AGENT_CONFIG and --config override)
  /var/lib/edge-agent/         models, outbox (EDGE_AGENT_STATE overrides; XDG directories for ordinary users)
"""


def _parser(named: str | None) -> argparse.ArgumentParser:
    """All verbs, or only the one that is named: the others' modules need not be imported then."""
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Speech recognition on the device: microphone in, transcripts out over MQTT. "
        "Sound never leaves the machine.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in (named,) if named in _VERBS else _VERBS:
        import_module(f"edge_agent.verbs.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        The exit code, see `--help`.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser(given[0] if given else None).parse_args(given)
    log.set_up(verbose=arguments.verbose, quiet=arguments.quiet, json_lines=_json_log(arguments.verb))
    try:
        return int(arguments.run(arguments))
    except EdgeAgentError as error:
        sys.stderr.write(f"edge-agent: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output has gone (for example `| head`); that is no failure of ours.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _json_log(verb: str) -> bool | None:
    """The service logs JSON for the journal; commands a person types log plain lines."""
    return None if verb == "run" else False
