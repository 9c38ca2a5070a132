"""Where a fleet's bundles meet the running agent: at the start, and beside its parts."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from edge_agent.app import Agent
from edge_agent.clock import SystemClock
from edge_agent.config import Config
from edge_agent.errors import EdgeAgentError
from edge_agent.fleet import activation
from edge_agent.fleet.bundle import Kind, Target
from edge_agent.fleet.judge import Link
from edge_agent.fleet.keep import Keep
from edge_agent.fleet.places import KINDS, activation_file
from edge_agent.opening import Wish, choose_profile, resolve_model
from edge_agent.remote import Beside
from edge_agent.served import served
from edge_agent.shelf import Shelf
from edge_agent.spare import Spares
from edge_agent.steward import Steward
from edge_agent.work import Work

_log = logging.getLogger(__name__)


def at_start(config: Config, state_dir: Path, wish: Wish, ended_badly: str) -> Wish:
    """What to open: what of the fleet has proven itself and is sound, else the wish's own.

    Args:
        config: in force.
        state_dir: where the state of the activations is.
        wish: of the configuration.
        ended_badly: why the last process ended, when nobody had asked for it.
    """
    if not config.fleet.root_file:
        return wish
    fleet_dir = state_dir / "fleet"
    keeps = _keeps(fleet_dir)
    for keep in keeps.values():
        keep.write(activation.started(keep.value, ended_badly))
    shelf = Shelf(wish.models_dir, fleet_dir)
    while True:
        current = {kind: keep.value.current for kind, keep in keeps.items()}
        chosen = served(wish, filter(None, current.values()), fleet_dir)
        kind, why = _fault(chosen, current, shelf)
        if kind is None or not keeps[kind].write(activation.demoted(keeps[kind].value, why)):
            return chosen if kind is None else wish
        _log.error("what the fleet chose cannot serve", extra={"kind": kind, "why": why})


def _fault(chosen: Wish, current: Mapping[Kind, Target | None], shelf: Shelf) -> tuple[Kind | None, str]:
    """Which of the fleet's bundles cannot serve, and why; none when the fault, if any, is not theirs."""
    for kind in KINDS[1:]:
        target = current[kind]
        if target is not None and not shelf.seems_to_hold(target):
            return kind, f"{target} is damaged"
    try:
        choice = choose_profile(chosen)[1]
    except EdgeAgentError as error:
        return ("profile", str(error)) if current["profile"] is not None else (None, "")
    try:
        resolve_model(chosen, choice)
    except EdgeAgentError as error:
        return ("model", str(error)) if current["model"] is not None else (None, "")
    return None, ""


def _keeps(fleet_dir: Path) -> dict[Kind, Keep]:
    return {kind: Keep(activation_file(kind, fleet_dir)) for kind in KINDS}


def attend(agent: Agent, config: Config, state_dir: Path, *, spares: Spares, wish: Wish) -> Steward | None:
    """The steward of a running agent, to be started after it; None when the device belongs to no fleet."""
    if not config.fleet.root_file:
        return None
    parts, fleet_dir = _Parts(agent), state_dir / "fleet"
    steward = Steward(
        _keeps(fleet_dir),
        spares=spares,
        parts=parts,
        wish=wish,
        fleet=config.fleet,
        fleet_dir=fleet_dir,
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

    def refit(self) -> None:
        self._agent.control.refit_soon()


def _beside(steward: Steward) -> Beside:
    """For `up/config`: what serves stands there as reported, what is on its way as pending."""
    told = steward.facts()["fleet"]
    assert isinstance(told, dict)
    values: dict[str, object] = {}
    pending: list[str] = []
    rejected: list[tuple[str, str]] = []
    for kind in KINDS:
        report = told if kind == "model" else told.get(kind) or {"state": "none", "current": None}
        serving = report["current"] or {kind: "", "version": 0}
        values |= {f"fleet.{kind}": serving[kind], f"fleet.{kind}_version": serving["version"]}
        if report["state"] not in {"none", "done", "failed"}:
            pending += [f"fleet.{kind}", f"fleet.{kind}_version"]
        if report["state"] in {"failed", "waiting"}:
            rejected.append((f"fleet.{kind}", str(report["reason"])))
    return Beside(values=values, pending=tuple(pending), rejected=tuple(rejected))
