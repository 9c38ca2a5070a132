"""`edge-agent run`: the service."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from edge_agent.errors import EdgeAgentError, UsageError
from edge_agent.notify import notify, watchdog_interval_s
from edge_agent.verbs.common import (
    Subparsers,
    add_config,
    config_path,
    models_dir,
    runtime_dir,
    state_dir,
    verb,
)

_log = logging.getLogger(__name__)

_SWITCH_INTERVAL_S = 0.0005
"""A short turn of the interpreter lock keeps the capture thread on time beside busy ones (measured: late by
10 ms instead of 140 to 440)."""

_DESCRIPTION = """\
Run the appliance until SIGTERM: capture, recognise, publish. State and reasons appear on the broker
(<prefix>/<device id>/up/status), one log line per utterance on stderr. Under systemd it reports readiness and
feeds the watchdog. On SIGTERM what is being spoken is still decoded and delivered, within 5 seconds.

A missing microphone or broker does not stop it: it says so, keeps everything, and heals when they return.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the verb."""
    parser = verb(subparsers, "run", "run the service", _DESCRIPTION)
    add_config(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run until told to stop, or until a part fails for good."""
    from edge_agent import config as configuration

    stop = threading.Event()
    _listen_for_signals(stop)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    config = configuration.load(config_path(arguments.config), arguments.overrides)
    state = state_dir()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(state):
        return _serve(config, state, stop)


def _serve(config: object, state: Path, stop: threading.Event) -> int:
    from edge_agent.app import Agent, wish_of
    from edge_agent.audio.open import open_source
    from edge_agent.clock import SystemClock
    from edge_agent.config import Config, device_id
    from edge_agent.opening import open_recogniser

    assert isinstance(config, Config)
    clock = SystemClock()
    source = open_source(config.audio.source, channels=config.audio.channels, clock=clock)
    notify(STATUS="opening the model")
    recogniser = open_recogniser(wish_of(config, models_dir()))
    agent = Agent(
        config,
        device_id=device_id(config, state),
        recogniser=recogniser,
        source=source,
        state_dir=state,
        report_path=runtime_dir() / "health.json",
        clock=clock,
    )
    agent.start()
    profile = recogniser.choice.profile.name
    _log.info("listening", extra={"source": source.name, "profile": profile, "model": recogniser.model_name})
    notify(READY="1", STATUS=f"listening to {source.name} with {profile}, {recogniser.model_name}")
    try:
        return _watch(agent, stop)
    finally:
        notify(STOPPING="1", STATUS="finishing what was said")
        agent.stop()
        recogniser.engine.close()
        _log.info("stopped")


def _watch(agent: object, stop: threading.Event) -> int:
    """Tick until told to stop; 1 when a part failed for good."""
    from edge_agent.app import Agent

    assert isinstance(agent, Agent)
    ping_s = watchdog_interval_s()
    while not stop.wait(min(1.0, ping_s or 1.0)):
        hung = agent.tick()
        if hung:
            _log.error("no progress", extra={"threads": list(hung)})
        else:
            notify(WATCHDOG="1")
        if agent.failure is not None:
            if isinstance(agent.failure, EdgeAgentError):
                raise agent.failure
            _log.error("a part failed", extra={"cause": repr(agent.failure)})
            return 1
        if agent.ended:
            agent.wait_delivered(5.0)
            _log.info("the source has ended")
            return 0
    return 0


def _listen_for_signals(stop: threading.Event) -> None:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


class _only_one:  # noqa: N801 - used as a statement: `with _only_one(state)`
    """Holds the state directory's lock: two agents would share one outbox and one identity."""

    def __init__(self, state: Path) -> None:
        self._path = state / "agent.lock"
        self._descriptor = -1

    def __enter__(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise UsageError(
                f"another edge-agent already runs on {self._path.parent}",
                remedy="stop it (systemctl stop edge-agent), or set EDGE_AGENT_STATE to another directory",
            ) from error

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
