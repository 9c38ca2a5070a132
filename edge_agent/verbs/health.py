"""`edge-agent health`: is this box well, and if not, what is to be done?"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import EdgeAgentError
from edge_agent.verbs.common import (
    Subparsers,
    add_config,
    add_json,
    config_path,
    models_dir,
    print_json,
    runtime_dir,
    state_dir,
    verb,
)

if TYPE_CHECKING:
    from edge_agent.config import Config
    from edge_agent.health.checks import AgentReport, CheckResult

_MARKS = {"ok": "well", "warn": "WARN", "fail": "FAIL"}
_LISTEN_S = 1.0

_DESCRIPTION = """\
Check this device: the running agent, microphone, model, broker, outbox and disk. One line each, with the
remedy where something is wrong. Ends with 0 when all is well, 3 when degraded, 1 when something has failed.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the verb."""
    parser = verb(subparsers, "health", "check this device", _DESCRIPTION)
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run all checks."""
    from edge_agent import config as configuration
    from edge_agent.health import checks

    config = configuration.load(config_path(arguments.config), arguments.overrides)
    report = _report()
    results = [
        checks.agent(report, time.time_ns() // 1_000_000),
        _microphone(config, report),
        _model(config),
        _broker(config),
        _outbox(),
        _disk(),
    ]
    code = checks.exit_code(results)
    if arguments.json:
        print_json({"exit_code": code, "checks": [_as_dict(result) for result in results]})
        return code
    for result in results:
        sys.stdout.write(f"{_MARKS[result.status]}  {result.name:<11} {result.detail}\n")
        if result.remedy:
            sys.stdout.write(f"      {'':<11} -> {result.remedy}\n")
    return code


def _as_dict(result: CheckResult) -> dict[str, str]:
    return {
        "name": result.name,
        "status": result.status,
        "detail": result.detail,
        "remedy": result.remedy,
    }


def _report() -> AgentReport | None:
    import msgspec

    from edge_agent.health.checks import AgentReport

    try:
        return msgspec.json.decode((runtime_dir() / "health.json").read_bytes(), type=AgentReport)
    except (OSError, msgspec.DecodeError):
        return None


def _microphone(config: Config, report: AgentReport | None) -> CheckResult:
    """The agent holds the device while it runs, so its own word is taken then."""
    from edge_agent.audio.open import open_source
    from edge_agent.audio.source import EndOfAudio
    from edge_agent.clock import SystemClock
    from edge_agent.health import checks

    if report is not None:
        trouble = [reason for reason in report.reasons if reason.startswith("microphone")]
        return checks.microphone("; ".join(trouble), "see `edge-agent devices`", report.silent_s)
    if not config.audio.source.startswith("alsa:"):
        return checks.microphone("", "", None)
    source = open_source(config.audio.source, channels=config.audio.channels, clock=SystemClock())
    try:
        source.open()
        if source.read(_LISTEN_S) is None:
            return checks.microphone(
                "open, but no sound arrives", "replug it, or choose another device", None
            )
    except EndOfAudio:
        pass
    except EdgeAgentError as error:
        return checks.microphone(error.cause, error.remedy, None)
    finally:
        source.close()
    return checks.microphone("", "", None)


def _model(config: Config) -> CheckResult:
    from edge_agent.health import checks
    from edge_agent.meaning import wish_of
    from edge_agent.opening import choose_profile, resolve_model

    wish = wish_of(config, models_dir())
    try:
        _, choice = choose_profile(wish)
        _, name = resolve_model(wish, choice)
    except EdgeAgentError as error:
        return checks.model("", error.cause, error.remedy)
    return checks.model(name, "", "")


def _broker(config: Config) -> CheckResult:
    from edge_agent.config import device_id
    from edge_agent.health import checks
    from edge_agent.meaning import mqtt_settings
    from edge_agent.mqtt.client import Connection

    url = config.mqtt.url
    try:
        # A client id of its own: with the agent's, the broker would throw the agent out.
        connection = Connection(mqtt_settings(config), client_id=f"{device_id(config, state_dir())}-health")
        connection.connect()
        connection.disconnect()
    except EdgeAgentError as error:
        return checks.broker(url, error.cause, error.remedy)
    return checks.broker(url, "", "")


def _outbox() -> CheckResult:
    from edge_agent.clock import SystemClock
    from edge_agent.health import checks
    from edge_agent.outbox.store import Outbox

    path = state_dir() / "outbox.sqlite3"
    if not path.exists():
        return checks.outbox(0, 0.0, "absent")
    store = Outbox(path, clock=SystemClock())
    stats = store.stats()
    store.close()
    state = "ok" if stats.state == "durable" else stats.fault
    return checks.outbox(stats.queued, stats.oldest_queued_age_s, state)


def _disk() -> CheckResult:
    from edge_agent.health import checks

    place: Path = state_dir()
    while not place.exists():
        place = place.parent
    return checks.disk(shutil.disk_usage(place).free, str(place))
