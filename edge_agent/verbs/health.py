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
    print_lines,
    runtime_dir,
    state_dir,
    verb,
)

if TYPE_CHECKING:
    from edge_agent.audio.source import AudioSource
    from edge_agent.config import Config
    from edge_agent.health.checks import AgentReport, CheckResult

_LISTEN_S = 1.0

_DESCRIPTION = """\
Check this device: the running agent, microphone, level, capture, latency, model, broker, outbox, disk, clock
and heat. One line each, with the remedy where something is wrong; on a terminal the verdict comes first.
Ends with 0 when all is well, 3 when degraded, 1 when something has failed. `edge-agent doctor` looks deeper.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the verb."""
    parser = verb(subparsers, "health", "check this device", _DESCRIPTION)
    add_config(parser)
    add_json(parser)
    parser.add_argument(
        "--prometheus",
        type=Path,
        metavar="FILE",
        help="also write the facts for node_exporter's textfile collector (name it *.prom)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run all checks."""
    from edge_agent import config as configuration

    config = configuration.load(config_path(arguments.config), arguments.overrides)
    report = last_report()
    results = quick(config, report)
    if arguments.prometheus is not None:
        _write_metrics(arguments.prometheus, report, results)
    return show(results, as_json=arguments.json)


def quick(config: Config, report: AgentReport | None) -> list[CheckResult]:
    """The checks that take a second."""
    from edge_agent.health import checks

    return [
        checks.agent(report, time.time_ns() // 1_000_000),
        _microphone(config, report),
        *_hearing(report),
        _model(config),
        _broker(config),
        _outbox(),
        _disk(),
        _clock(),
        _heat(),
    ]


def show(results: list[CheckResult], *, as_json: bool) -> int:
    """Print verdicts; answers the exit code."""
    from edge_agent.health import checks
    from edge_agent.screen import terminal as terminals
    from edge_agent.verbs import health_view

    code = checks.exit_code(results)
    if as_json:
        print_json({"exit_code": code, "checks": [as_dict(result) for result in results]})
        return code
    terminal = terminals.look()
    if terminal.is_tty:
        print_lines(health_view.pretty(results, terminal), terminal)
    else:
        sys.stdout.write("\n".join(health_view.plain(results)) + "\n")
    return code


def as_dict(result: CheckResult) -> dict[str, str]:
    """A verdict as it is printed with --json."""
    return {
        "name": result.name,
        "status": result.status,
        "detail": result.detail,
        "remedy": result.remedy,
    }


def last_report() -> AgentReport | None:
    """What the running agent wrote last; None when none runs."""
    import msgspec

    from edge_agent.health.checks import AgentReport

    try:
        return msgspec.json.decode((runtime_dir() / "health.json").read_bytes(), type=AgentReport)
    except (OSError, msgspec.DecodeError):
        return None


def _microphone(config: Config, report: AgentReport | None) -> CheckResult:
    """The agent holds the device while it runs, so its own word is taken then."""
    from edge_agent.health import checks

    if report is not None:
        trouble = [reason for reason in report.reasons if reason.startswith("microphone")]
        return checks.microphone("; ".join(trouble), "see `edge-agent devices`", report.silent_s)
    heard = [
        _listened(name, config.audio.channels) for name in config.audio.sources if name.startswith("alsa:")
    ]
    return next(
        (one for one in heard if one.status != "ok"), heard[0] if heard else checks.microphone("", "", None)
    )


def _listened(name: str, channels: int) -> CheckResult:
    """A second at one microphone."""
    from edge_agent.audio.open import open_source
    from edge_agent.audio.source import EndOfAudio
    from edge_agent.clock import SystemClock
    from edge_agent.health import checks

    source = open_source(name, channels=channels, clock=SystemClock())
    try:
        source.open()
        heard_s, silent = _listen(source)
        if not heard_s:
            return checks.microphone(
                "open, but no sound arrives", "replug it, or choose another device", None
            )
        return checks.microphone("", "", heard_s if silent else None, enough_s=_LISTEN_S / 2)
    except EndOfAudio:
        pass
    except EdgeAgentError as error:
        return checks.microphone(error.cause, error.remedy, None)
    finally:
        source.close()
    return checks.microphone("", "", None)


def _listen(source: AudioSource) -> tuple[float, bool]:
    """Seconds of sound heard within `_LISTEN_S`, and whether every sample of it was zero."""
    from edge_agent.audio.source import Block

    frames, silent, until = 0, True, time.monotonic() + _LISTEN_S
    while time.monotonic() < until:
        item = source.read(_LISTEN_S)
        if isinstance(item, Block):
            frames += len(item.pcm)
            silent = silent and not item.pcm.any()
    return frames / source.rate_hz, silent


def _hearing(report: AgentReport | None) -> list[CheckResult]:
    """What only a running agent can tell."""
    from edge_agent.health import deep

    if report is None:
        return []
    found = [deep.latency(report.latency_p95_ms, report.promised_p95_ms, report.finals)]
    if report.peak_dbfs is not None and report.rms_dbfs is not None:
        found.append(deep.level(report.peak_dbfs, report.rms_dbfs))
        found.append(deep.capture(report.overruns, report.losses, report.uptime_s / 3600))
    return found


def _clock() -> CheckResult:
    """No clock can be before the agent's own files."""
    from edge_agent.clock import SystemClock
    from edge_agent.health import deep

    made_s = Path(__file__).stat().st_mtime
    return deep.clock(synced=SystemClock().synced(), behind_s=max(0.0, made_s - time.time()), ahead_s=None)


def _heat() -> CheckResult:
    from edge_agent.health import deep, load

    machine = load.read()
    return deep.heat(machine.temperature_c, machine.hot_c, machine.throttled)


def _write_metrics(path: Path, report: AgentReport | None, results: list[CheckResult]) -> None:
    from edge_agent.errors import UsageError
    from edge_agent.files import write_atomically
    from edge_agent.health import load, metrics

    text = metrics.text(report, results, load.read())
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}",
            remedy="name a file in a directory that you may write",
        ) from error


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
    from edge_agent.outbox.store import look

    path = state_dir() / "outbox.sqlite3"
    if not path.exists():
        return checks.outbox(0, 0.0, "absent")
    try:
        stats = look(path, clock=SystemClock())  # the agent's own, so nothing in it is touched
    except EdgeAgentError as error:
        return checks.outbox(0, 0.0, f"not readable: {error.cause}")
    return checks.outbox(stats.queued, stats.oldest_queued_age_s, "ok")


def _disk() -> CheckResult:
    from edge_agent.health import checks

    place: Path = state_dir()
    while not place.exists():
        place = place.parent
    return checks.disk(shutil.disk_usage(place).free, str(place))
