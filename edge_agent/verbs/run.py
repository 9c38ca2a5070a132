"""`edge-agent run`: the service."""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from edge_agent.errors import ConfigError, EdgeAgentError, EngineError, UsageError
from edge_agent.notify import notify, patience
from edge_agent.verbs.common import (
    Subparsers,
    add_config,
    config_path,
    models_dir,
    runtime_dir,
    state_dir,
    verb,
)

if TYPE_CHECKING:
    from edge_agent.app import Agent
    from edge_agent.config import Config
    from edge_agent.remote import Standing
    from edge_agent.spare import Spares
    from edge_agent.starts import Starts
    from edge_agent.supervise import StartPlan

_log = logging.getLogger(__name__)

RESTART_EXIT = 75
"""Asked from afar to be started again (EX_TEMPFAIL): service managers do it on any code but 0 and 78."""
_STOP_S = 4.5
_ABANDON_S = 1.0
_OPEN_S = 120.0
"""The service manager waits so long for a recogniser, from the slowest card."""
_RETRY_S = 10.0
"""Between two tries to open a recogniser that cannot be opened."""

_SWITCH_INTERVAL_S = 0.0005
"""A short turn of the interpreter lock keeps the capture thread on time beside busy ones (measured: late by
10 ms instead of 140 to 440)."""

_DESCRIPTION = """\
Run the appliance until SIGTERM: capture, recognise, publish. State and reasons appear on the broker
(<prefix>/<device id>/up/status), one log line per utterance on stderr. Under systemd it reports readiness and
feeds the watchdog. On SIGTERM what is being spoken is still decoded and delivered, within 5 seconds.

A missing microphone or broker does not stop it: it says so, keeps everything, and heals when they return. A
part that hangs ends the process within seconds, for the service manager to start it again; a busy machine is
not taken for a hanging one. Five ends within a minute are followed by a minute's pause, told on the broker.

What is set from afar (<prefix>/<device id>/down/...) is kept in remote.json of the state directory. Asked
from there to restart, it ends with exit code 75.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the verb."""
    parser = verb(subparsers, "run", "run the service", _DESCRIPTION)
    add_config(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run until told to stop, or until a part fails for good."""
    from edge_agent import config as configuration
    from edge_agent import memory

    memory.few_arenas()
    stop = threading.Event()
    _listen_for_signals(stop)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    path = config_path(arguments.config)
    config = configuration.load(path, arguments.overrides)
    state = state_dir()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(state):
        from edge_agent.standing import from_afar

        reload = partial(configuration.load, path, arguments.overrides)
        standing = from_afar(config, state, models_dir(), reload)
        return _serve(standing.config, standing, state, stop)


def _serve(config: Config, standing: Standing, state: Path, stop: threading.Event) -> int:
    from edge_agent.audio.open import open_source
    from edge_agent.clock import SystemClock
    from edge_agent.starts import Starts
    from edge_agent.supervise import StartPlan

    clock = SystemClock()
    # The last process's report would pass for this one's.
    with contextlib.suppress(OSError):  # on a read-only disk the report of before stays
        (runtime_dir() / "health.json").unlink(missing_ok=True)
    for name in config.audio.sources:
        open_source(name, channels=config.audio.channels, clock=clock).close()
    starts = Starts(runtime_dir(), clock)
    plan = starts.begin()
    if not _managed():
        plan = StartPlan()  # who starts it by hand wants what is configured, now
    if plan.hold_s:
        _hold(config, state, stop, f"held for {plan.hold_s:.0f} s: it {plan.reason}", seconds=plan.hold_s)
        if stop.is_set():
            starts.end()
            return 0
    cause = "it could not start"
    in_engine = False
    try:
        spares = _open(config, state, stop, starts, plan)
        if spares is None:
            cause = ""
            return 0
        code, cause, in_engine = _listen(config, standing, state, stop, spares, starts=starts)
    except ConfigError:
        cause = ""
        raise
    except EdgeAgentError as error:
        cause, in_engine = str(error), isinstance(error, EngineError)
        raise
    finally:
        starts.end(cause, in_engine=in_engine)
    if cause:
        # A thread that hangs in a library would keep an ordinary end waiting for ever.
        logging.shutdown()
        os._exit(code)
    return code


def _open(
    config: Config, state: Path, stop: threading.Event, starts: Starts, plan: StartPlan
) -> Spares | None:
    """A recogniser; under a service manager wait until one can be opened. None: told to stop meanwhile."""
    from edge_agent.clock import SystemClock
    from edge_agent.entrance import at_start
    from edge_agent.meaning import wish_of
    from edge_agent.opening import has_smaller, open_recogniser, settled
    from edge_agent.spare import Spares

    wish = at_start(config, state, wish_of(config, models_dir()), starts.ended_badly)
    wish = settled(wish)
    opened: list[Spares] = []

    def attempt() -> str:
        try:
            with patience(_OPEN_S):
                spares = Spares(
                    lambda level: open_recogniser(wish, level),
                    clock=SystemClock(),
                    level=plan.level,
                    reason=plan.reason,
                    busy=starts.engine_busy,
                    smaller=has_smaller(wish),
                    # A person who watches would rather read the error than get another model.
                    first=None if _managed() else open_recogniser(wish, plan.level),
                )
        except ConfigError:
            raise
        except EdgeAgentError as error:
            if not _managed():
                raise
            return f"recognition cannot be opened: {error}"
        opened.append(spares)
        return ""

    notify(STATUS="opening the model")
    reason = attempt()
    if reason:
        _log.error("waiting for the repair", extra={"why": reason})
        _hold(config, state, stop, reason, seconds=_RETRY_S, attempt=attempt)
    return opened[0] if opened else None


def _managed() -> bool:
    """True under a service manager, which starts it again when it ends."""
    return "NOTIFY_SOCKET" in os.environ


def _hold(
    config: Config,
    state: Path,
    stop: threading.Event,
    reason: str,
    *,
    seconds: float,
    attempt: Callable[[], str] | None = None,
) -> None:
    from edge_agent.clock import SystemClock
    from edge_agent.config import device_id
    from edge_agent.hold import hold
    from edge_agent.meaning import mqtt_settings
    from edge_agent.mqtt.wire import Topics

    notify(READY="1", STATUS=reason)
    hold(
        mqtt_settings(config),
        Topics(config.mqtt.prefix, device_id(config, state)),
        state,
        clock=SystemClock(),
        reason=reason,
        seconds=seconds,
        stop=stop,
        ping=lambda why: notify(WATCHDOG="1", STATUS=why),
        attempt=attempt,
    )


def _listen(
    config: Config,
    standing: Standing,
    state: Path,
    stop: threading.Event,
    spares: Spares,
    *,
    starts: Starts,
) -> tuple[int, str, bool]:
    """Run until told to stop; answers the exit code, the cause of an end nobody asked for, and whether the
    engine is to blame for it."""
    from edge_agent.app import Agent
    from edge_agent.audio.open import open_source
    from edge_agent.clock import SystemClock
    from edge_agent.config import device_id
    from edge_agent.describe import name_threads
    from edge_agent.entrance import attend
    from edge_agent.meaning import wish_of

    clock = SystemClock()
    source, *more = (
        open_source(name, channels=config.audio.channels, clock=clock) for name in config.audio.sources
    )
    recogniser = spares.recogniser
    agent = Agent(
        config,
        device_id=device_id(config, state),
        recogniser=recogniser,
        spares=spares,
        standing=standing,
        source=source,
        more_sources=more,
        state_dir=state,
        report_path=runtime_dir() / "health.json",
        clock=clock,
    )
    steward = attend(agent, config, state, spares=spares, wish=wish_of(config, models_dir()))
    with patience(_OPEN_S):
        agent.start()
    profile, named = recogniser.choice.profile.name, ", ".join(config.audio.sources)
    _log.info("listening", extra={"source": named, "profile": profile, "model": recogniser.model_name})
    notify(READY="1", STATUS=f"listening to {named} with {profile}, {recogniser.model_name}")
    hung: tuple[str, ...] = ()
    agent.vigil.start(partial(notify, WATCHDOG="1"), partial(_end_now, starts))
    if steward is not None:
        steward.start()
    name_threads()
    try:
        code, hung = _watch(agent, stop)
    finally:
        if not hung:
            agent.vigil.stop()
        notify(STOPPING="1", STATUS="finishing what was said")
        if steward is not None and not hung:
            steward.stop()
        # What hangs would only use up the time that the restart needs.
        agent.stop(_ABANDON_S if hung else _STOP_S)
        if not hung:
            spares.close()
        _log.info("stopped")
    if hung:
        return code, _stuck(hung), "scribe" in hung
    return code, "" if code in {0, RESTART_EXIT} else "a part failed", False


def _watch(agent: Agent, stop: threading.Event) -> tuple[int, tuple[str, ...]]:
    """Tick until told to stop; answers the exit code and the names of hung threads.

    Raises:
        EdgeAgentError: what a part could not recover from.
    """
    told: tuple[str, ...] = ()
    while not agent.wait(stop, 1.0):
        hung = agent.tick()
        if hung:
            _log.error("no progress, ending to be started again", extra={"threads": list(hung)})
            agent.courier.set_status("degraded", (f"{_stuck(hung)}; starting again",))
            return 1, hung
        reasons = agent.state()[1]
        if reasons != told:
            told = reasons
            notify(STATUS="; ".join(reasons) or "listening")
        if agent.failure is not None:
            if isinstance(agent.failure, EdgeAgentError):
                raise agent.failure
            _log.error("a part failed", extra={"cause": repr(agent.failure)})
            return 1, ()
        if agent.control.restart:
            return RESTART_EXIT, ()
        if agent.ended:
            agent.wait_delivered(5.0)
            _log.info("the source has ended")
            return 0, ()
    return 0, ()


def _stuck(hung: tuple[str, ...]) -> str:
    return f"{' and '.join(hung)} made no progress"


def _end_now(starts: Starts, hung: tuple[str, ...]) -> None:
    """End without the main thread, which hangs too or waits for what does: nothing here waits for a lock."""
    notify(STATUS=f"{_stuck(hung)}; ending")
    starts.end(_stuck(hung), in_engine="scribe" in hung)
    os._exit(1)


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
        self._descriptor = self._open()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise UsageError(
                f"another edge-agent already runs on {self._path.parent}",
                remedy="stop it (systemctl stop edge-agent), or set EDGE_AGENT_STATE to another directory",
            ) from error

    def _open(self) -> int:
        """The lock's file; on a disk that takes none (read-only, full), what is there of it can be locked."""
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ENOSPC):
                raise
        there = self._path if self._path.exists() else self._path.parent
        return os.open(there, os.O_RDONLY | os.O_CLOEXEC)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
