"""Where a fleet's models meet the running agent: at the start, and beside its parts."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from edge_agent.app import Agent
from edge_agent.clock import SystemClock
from edge_agent.config import Config
from edge_agent.errors import EdgeAgentError
from edge_agent.fleet import activation
from edge_agent.fleet.judge import Link
from edge_agent.fleet.keep import Keep
from edge_agent.opening import Wish, choose_profile, resolve_model
from edge_agent.remote import Beside
from edge_agent.spare import Spares
from edge_agent.steward import Steward, named
from edge_agent.work import Work

_log = logging.getLogger(__name__)

_KEYS = ("fleet.model", "fleet.model_version")


def at_start(config: Config, state_dir: Path, wish: Wish, ended_badly: str) -> Wish:
    """What to open: the fleet's model that has proven itself and whose files are sound, else the wish's own.

    Args:
        config: in force.
        state_dir: where the state of the activation is.
        wish: of the configuration.
        ended_badly: why the last process ended, when nobody had asked for it.
    """
    if not config.fleet.root_file:
        return wish
    keep = Keep(_path(state_dir))
    keep.write(activation.started(keep.value, ended_badly))
    while keep.value.current is not None:
        chosen = named(wish, keep.value.current)
        try:
            resolve_model(chosen, choose_profile(chosen)[1])
        except EdgeAgentError as error:
            _log.error("the fleet's model cannot serve", extra={"why": str(error)})
            keep.write(activation.demoted(keep.value, str(error)))
        else:
            return chosen
    return wish


def attend(agent: Agent, config: Config, state_dir: Path, *, spares: Spares, wish: Wish) -> Steward | None:
    """The steward of a running agent, to be started after it; None when the device belongs to no fleet."""
    if not config.fleet.root_file:
        return None
    parts = _Parts(agent)
    steward = Steward(
        Keep(_path(state_dir)),
        spares=spares,
        parts=parts,
        wish=wish,
        fleet=config.fleet,
        seen_dir=state_dir / "fleet" / "seen",
        clock=SystemClock(),
    )
    agent.more_info = steward.facts
    agent.control.on_config = lambda changed: steward.want(changed.fleet)
    agent.control.beside = lambda: _beside(steward)
    agent.control.install.installer = steward.install
    agent.hear(steward.heard)
    return steward


class _Parts:
    """The agent as the steward sees it."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    @property
    def work(self) -> Work:
        return self._agent.scribe.work

    def counts(self) -> tuple[int, int, int]:
        now = self._agent.scribe.statistics()
        return now.finals, sum(now.rejected.values()), now.engine_errors

    def link(self) -> Link:
        now = self._agent.courier.statistics()
        return Link(connected=now.connected, connects=now.connects, quiet_s=now.quiet_s, reason=now.reason)

    def hurry(self, seconds: float) -> None:
        self._agent.courier.retry.hurry(time.monotonic() + seconds)

    def changed(self) -> None:
        self._agent.tell_info()
        self._agent.control.report_soon()


def _beside(steward: Steward) -> Beside:
    """For `up/config`: what serves stands there as reported, what is on its way as pending."""
    told = steward.facts()["fleet"]
    assert isinstance(told, dict)
    serving = told["current"] or {"model": "", "model_version": 0, "version": 0}
    values = {"fleet.model": serving["model"], "fleet.model_version": serving["version"]}
    failed = told["state"] == "failed"
    under_way = told["state"] not in {"none", "done", "failed"}
    rejected = (("fleet.model", str(told["reason"])),) if failed or told["state"] == "waiting" else ()
    return Beside(values=values, pending=_KEYS if under_way else (), rejected=rejected)


def _path(state_dir: Path) -> Path:
    return state_dir / "fleet" / "activation.json"
