"""The command `install_model`: one wish at a time, remembered across restarts, answered when it is decided.

Main thread, but for `Decided`. The way itself is the fleet's: the same signatures, rehearsal and trial.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from edge_agent.fleet.bundle import Target
from edge_agent.mqtt.commands import InstallModel
from edge_agent.mqtt.wire import AnswerState
from edge_agent.remote import Installing, RemoteStore, Reply

_log = logging.getLogger(__name__)

Decided = Callable[[str], None]
"""Told why it does not serve; empty when it does. Any thread."""


class Installer(Protocol):
    """Brings a signed model to serve."""

    def __call__(self, target: Target, decided: Decided, *, resumed: bool) -> str:
        """Begin; answers why not, and then `decided` is not called.

        Args:
            target: name and number.
            decided: called once.
            resumed: begun before the last restart.
        """
        ...


class Answer(Protocol):
    """Sends an answer."""

    def __call__(
        self,
        reply: Reply,
        state: AnswerState,
        reason: str = "",
        result: Mapping[str, object] | None = None,
    ) -> None: ...


def _no_fleet(target: Target, decided: Decided, *, resumed: bool) -> str:  # noqa: ARG001 - it takes none
    return "this device trusts no fleet; enrol it, or set fleet.root_file"


class Install:
    """Takes the command up.

    Args:
        store: remembers who waits.
        answer: to whoever asked.
        later: has something done by the main thread. Any thread.
    """

    def __init__(
        self, store: RemoteStore, *, answer: Answer, later: Callable[[Callable[[], None]], None]
    ) -> None:
        self._store, self._answer, self._later = store, answer, later
        self.installer: Installer = _no_fleet

    def ask(self, wanted: InstallModel, reply: Reply) -> None:
        """Answer `running`, or why not; the last answer follows."""
        asked = Installing(reply=reply, model=wanted.model, version=wanted.version)
        if self._store.value.installing is not None:
            now = self._store.value.installing
            self._answer(reply, "refused", f"{now.model} {now.version} is being installed")
            return
        why = self._begin(asked, resumed=False)
        if why:
            self._answer(reply, "refused", why)
            return
        self._store.change(installing=asked)
        self._answer(reply, "running")

    def resume(self) -> None:
        """At the start: go on, or tell how it ended."""
        asked = self._store.value.installing
        if asked is not None:
            why = self._begin(asked, resumed=True)
            if why:
                self._tell(asked, why)

    def _begin(self, asked: Installing, *, resumed: bool) -> str:
        target = Target(name=asked.model, version=asked.version)
        return self.installer(
            target, lambda why: self._later(lambda: self._tell(asked, why)), resumed=resumed
        )

    def _tell(self, asked: Installing, why: str) -> None:
        _log.info("install_model", extra={"model": asked.model, "version": asked.version, "why": why})
        self._store.change(installing=None)
        if why:
            self._answer(asked.reply, "refused", why)
        else:
            self._answer(asked.reply, "done", result={"model": asked.model, "version": asked.version})
