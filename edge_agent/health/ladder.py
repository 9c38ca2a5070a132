"""The degrade ladder: when the machine cannot keep up, less is done, step by step, each with its reason.

    full -> partials wider -> partials off -> smaller model -> gaps

Pure: it is fed with load facts and answers the step. One step down after `DOWN_S` of trouble (another model
changes words, so it takes `MODEL_S`; the last step only tells that the queue is full and drops), one step up
after `UP_S` of calm; a step up that is regretted soon doubles the calm that the next one takes. Trouble and
calm have different thresholds, and between them nothing changes.
"""

from __future__ import annotations

from typing import Literal

from edge_agent.types import Value

Step = Literal["full", "partials_wide", "partials_off", "smaller_model", "gaps"]
STEPS: tuple[Step, ...] = ("full", "partials_wide", "partials_off", "smaller_model", "gaps")
WIDE = 3.0
"""How much wider the interval between partials is at the first step."""

DOWN_S = 3.0
MODEL_S = 15.0
UP_S = 30.0
LONGEST_UP_S = 600.0
REGRET_S = 120.0
"""A step up counts as regretted when a step down follows within this time."""

_TOLD: dict[Step, str] = {
    "full": "",
    "partials_wide": "partials come more rarely",
    "partials_off": "no partials",
    "smaller_model": "a smaller model recognises",
    "gaps": "speech is dropped and told as gaps",
}


class Load(Value, frozen=True):
    """How the machine is doing. What cannot be read has the value that troubles nobody."""

    queued_s: float = 0.0
    """Seconds of speech that wait."""
    queue_limit_s: float = 120.0
    """Beyond it speech is dropped."""
    late_s: float = 0.0
    """How long after the end of an utterance the last finals came."""
    promised_s: float = 4.0
    """How late they may be on this machine."""
    busy_share: float = 0.0
    """Share of the last second in which the engine worked, 0..1."""
    mean_share: float = 0.0
    """The same as a mean of some ten seconds: one decode may fill a second of its own."""
    cpu_pressure: float = 0.0
    """PSI: percent of the last 10 s in which something waited for a CPU."""
    memory_pressure: float = 0.0
    """PSI: percent of the last 10 s in which everything waited for memory."""
    available_mb: float = 1e9
    """Memory that can still be had: the machine's or the control group's, whichever is less."""
    temperature_c: float = 0.0
    hot_c: float = 1e9
    """The temperature at which this machine begins to throttle."""
    throttled: int = 0
    """Times the machine has throttled since it started."""
    dropped: int = 0
    """Utterances dropped for want of time so far."""


class Ladder:
    """The state machine.

    Args:
        steps: those that exist here, in order, beginning with "full" (no smaller model: leave it out).
    """

    def __init__(self, steps: tuple[Step, ...] = STEPS) -> None:
        assert steps[0] == "full"
        self.steps = self._steps = steps
        self._place = 0
        self._reason = ""
        self._trouble_ns: int | None = None
        self._calm_ns: int | None = None
        self._up_ns: int | None = None
        self._patience_s = UP_S
        self._last: Load | None = None
        self._last_change_ns = 0

    @property
    def step(self) -> Step:
        """Where it stands."""
        return self._steps[self._place]

    @property
    def reason(self) -> str:
        """For `status`; empty at the top."""
        told = _TOLD[self.step]
        return f"{self._reason}: {told}" if told else ""

    def update(self, load: Load, now_ns: int) -> bool:
        """Take the facts of now; True when the step changed."""
        throttled = self._last is not None and load.throttled > self._last.throttled
        dropped = self._last is not None and load.dropped > self._last.dropped
        why = trouble(load, throttled=throttled, dropped=dropped)
        calm = not why and _is_calm(load)
        self._last = load
        self._trouble_ns = _since(self._trouble_ns, now_ns, holds=bool(why))
        self._calm_ns = _since(self._calm_ns, now_ns, holds=calm)
        if why:
            return self._down(why, now_ns, dropped=dropped)
        return self._up(now_ns)

    def _down(self, why: str, now_ns: int, *, dropped: bool) -> bool:
        assert self._trouble_ns is not None
        held_s = (now_ns - max(self._trouble_ns, self._last_change_ns)) / 1e9
        if self._place == len(self._steps) - 1:
            return False
        below = self._steps[self._place + 1]
        if held_s < (MODEL_S if below == "smaller_model" else DOWN_S) or (below == "gaps" and not dropped):
            return False
        if self._up_ns is not None and now_ns - self._up_ns < REGRET_S * 1e9:
            self._patience_s = min(LONGEST_UP_S, self._patience_s * 2)
        self._place += 1
        self._reason = why
        self._last_change_ns = now_ns
        self._up_ns = None
        return True

    def _up(self, now_ns: int) -> bool:
        if self._calm_ns is None or not self._place:
            return False
        if now_ns - max(self._calm_ns, self._last_change_ns) < self._patience_s * 1e9:
            return False
        self._place -= 1
        self._last_change_ns = self._up_ns = now_ns
        if not self._place:
            self._patience_s = max(UP_S, self._patience_s / 2)
        return True


def trouble(load: Load, *, throttled: bool = False, dropped: bool = False) -> str:
    """What is wrong now, in words for `status`; empty when nothing is."""
    if dropped:
        return "recognition is behind, the queue is full"
    if load.queued_s > min(8.0, load.queue_limit_s / 4):
        return f"recognition is {load.queued_s:.0f} s behind"
    if load.late_s > load.promised_s:
        return f"finals come {load.late_s:.1f} s late"
    if load.available_mb < 64 or load.memory_pressure > 10:
        return f"memory is short, {load.available_mb:.0f} MB left"
    if throttled or load.temperature_c >= load.hot_c:
        return f"the machine throttles itself at {load.temperature_c:.0f} °C"
    if load.cpu_pressure > 60 and load.busy_share > 0.8:
        return "other work takes the CPU"
    return ""


def _is_calm(load: Load) -> bool:
    return (
        load.queued_s < 1.0
        and load.late_s < load.promised_s / 2
        and load.available_mb > 96
        and load.memory_pressure < 2
        and load.temperature_c < load.hot_c - 5
        # Others may want the CPU for hours: what counts is whether enough is left for us.
        and load.mean_share < (0.7 if load.cpu_pressure < 40 else 0.35)
    )


def _since(began_ns: int | None, now_ns: int, *, holds: bool) -> int | None:
    if not holds:
        return None
    return now_ns if began_ns is None else began_ns
