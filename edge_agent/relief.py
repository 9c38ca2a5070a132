"""Applies the degrade ladder to the running parts: load facts in, less work out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edge_agent.canary import Canary
from edge_agent.health import load
from edge_agent.health.ladder import STEPS, WIDE, Ladder, Load, Step
from edge_agent.health.load import Machine
from edge_agent.spare import Spares
from edge_agent.work import Work

_log = logging.getLogger(__name__)

_MEAN_S = 10.0


class Relief:
    """Called once a second by the main thread.

    Args:
        work: where partials are paced and dropped utterances counted.
        spares: asked for the smaller model; None where the engine has no spares.
        queue_limit_s: of `work`.
        promised_ms: how late a final may be on this machine.
        read: how the machine is doing.
    """

    def __init__(
        self,
        work: Work,
        spares: Spares | None,
        *,
        queue_limit_s: float,
        promised_ms: float = 4000.0,
        read: Callable[[], Machine] = lambda: load.read(Path("/")),
    ) -> None:
        self._work, self._spares, self._read = work, spares, read
        self._queue_limit_s, self._promised_s = queue_limit_s, promised_ms / 1e3
        can_shrink = spares is not None and spares.smaller
        self._ladder = Ladder(tuple(step for step in STEPS if step != "smaller_model" or can_shrink))
        self._canary = None if spares is None else Canary(work, spares)
        self.machine = Machine()
        """As read last."""
        self._spent_s, self._at_ns = 0.0, 0
        self._mean_share = 0.0

    @property
    def step(self) -> Step:
        """Where the ladder stands."""
        return self._ladder.step

    @property
    def reason(self) -> str:
        """For `status`; empty when nothing is left out."""
        return self._ladder.reason

    def tick(self, now_ns: int) -> None:
        """Read, judge, act; and let the canary sing when nothing else happens."""
        if self._canary is not None:
            self._canary.tick(now_ns)
        self.machine = self._read()
        share = self._busy_share(now_ns)
        facts = Load(
            queued_s=self._work.queued_s,
            queue_limit_s=self._queue_limit_s,
            late_s=self._work.late_ms / 1e3,
            promised_s=self._promised_s,
            busy_share=share,
            mean_share=self._mean_share,
            cpu_pressure=self.machine.cpu_pressure,
            memory_pressure=self.machine.memory_pressure,
            available_mb=self.machine.available_mb,
            temperature_c=self.machine.temperature_c,
            hot_c=self.machine.hot_c,
            throttled=self.machine.throttled,
            dropped=self._work.dropped,
        )
        if self._ladder.update(facts, now_ns):
            self._act(self._ladder.step)

    def _act(self, step: Step) -> None:
        _log.warning("load step", extra={"step": step, "why": self.reason})
        at_least = STEPS.index(step)
        self._work.pace_partials(
            WIDE if at_least >= STEPS.index("partials_wide") else 1.0,
            off=at_least >= STEPS.index("partials_off"),
        )
        if self._spares is not None and "smaller_model" in self._ladder.steps:
            self._spares.ask(2 if at_least >= STEPS.index("smaller_model") else 0)

    def _busy_share(self, now_ns: int) -> float:
        """Of the engine since the last call; 0 where it is not known."""
        if self._spares is None:
            return 0.0
        spent_s, passed_s = self._spares.spent_s - self._spent_s, (now_ns - self._at_ns) / 1e9
        self._spent_s, self._at_ns = self._spares.spent_s, now_ns
        share = min(1.0, spent_s / passed_s) if passed_s > 0 else 0.0
        self._mean_share += (share - self._mean_share) * min(1.0, max(0.0, passed_s) / _MEAN_S)
        return share
