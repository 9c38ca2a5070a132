"""Who is alive, and what is done about who is not: rules over progress counters and past deaths, pure.

A hung thread or a part that failed for good ends the process: a running decode cannot be cancelled, and a
fresh process is the only state known to be whole. The service manager starts it again. What the next start
does depends on how the last ones ended:

    deaths in the engine    0: as configured   1: smaller   2 and more: the fallback profile
    deaths of any kind      5 within 60 s: hold, tell the broker why, and try again after a minute
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from edge_agent.types import Value

RESTARTS = 5
"""Deaths within `RESTART_WINDOW_S` after which the next start holds."""
RESTART_WINDOW_S = 60.0
ENGINE_WINDOW_S = 600.0
"""A death in the engine is held against it for so long."""
HOLD_S = 60.0

Level = Literal[0, 1, 2]
"""0: as configured, 1: the same with one worker, 2: the fallback profile."""


LONGEST_S = 90.0
"""Nothing may stand still for longer, however slow the machine."""
_IDLE_SHARE = 0.05
"""A group that works less than this share of a time is not at work."""
_BLIND = 3.0
"""Where the kernel does not tell who waited for a CPU, all limits are so many times longer."""


class Strain(Value, frozen=True):
    """What became of a group of threads between two looks, as the kernel tells it."""

    worked_s: float = 0.0
    """On a CPU, all of them together."""
    excused_s: float = 0.0
    """Wanted to work and could not: waited for a CPU or for the disk; of the one that was kept longest."""
    known: bool = True
    """False: this kernel tells nothing."""


class Limit(Value, frozen=True):
    """How long a thread may stand still, in seconds of which it had the use."""

    idle_s: float
    """Neither progressing nor working: it waits for something that does not come."""
    busy_s: float
    """Working without progress."""


class _Heart:
    """One group since its last progress."""

    def __init__(self, progress: int) -> None:
        self.progress = progress
        self.passed_s = self.idle_s = self.excused_s = 0.0

    def exceeds(self, limit: Limit, factor: float) -> bool:
        excused_s = min(self.excused_s, self.passed_s)
        return (
            self.idle_s - excused_s > limit.idle_s * factor
            or self.passed_s - excused_s > limit.busy_s * factor
            or self.passed_s > LONGEST_S
        )


class Heartbeats:
    """Tells slow from hung: progress feeds a heart, and only time of which a thread had the use wears it out.

    A thread on a busy machine waits for a CPU or for the disk, and the kernel says so; one that hangs does
    neither. So a hang is noticed within seconds without taking a slow machine for a broken one.
    """

    def __init__(self) -> None:
        self._hearts: dict[str, _Heart] = {}

    def look(self, name: str, progress: int, *, passed_s: float, strain: Strain, limit: Limit) -> bool:
        """Note a counter; True when the group is hung.

        Args:
            name: of the group.
            progress: any change feeds the heart.
            passed_s: since the last look at it.
            strain: what became of it meanwhile.
            limit: of what it does now.
        """
        heart = self._hearts.get(name)
        if heart is None or heart.progress != progress:
            self._hearts[name] = _Heart(progress)
            return False
        heart.passed_s += passed_s
        heart.excused_s += strain.excused_s
        if strain.worked_s < _IDLE_SHARE * passed_s:
            heart.idle_s += passed_s
        return heart.exceeds(limit, 1.0 if strain.known else _BLIND)

    def forget(self, name: str) -> None:
        """The group ended."""
        self._hearts.pop(name, None)


def decode_limit_s(rtf_max: float, *, stepwise: bool, max_audio_s: float = 30.0) -> float:
    """Seconds of work after which a decode is stuck.

    Args:
        rtf_max: what the profile promises: seconds of work for a second of sound.
        stepwise: the engine shows progress at each step (features, encode, generate, align), none of which
            takes half of what the longest decode may take; else that one is redone once, and is allowed
            half as much again.
        max_audio_s: of the longest utterance.
    """
    whole_s = rtf_max * max_audio_s
    return max(6.0, 0.5 * whole_s) if stepwise else max(20.0, 3.0 * whole_s)


class Budget:
    """At most so many tries in a sliding window.

    Args:
        tries: allowed within the window.
        window_s: its length.
    """

    def __init__(self, tries: int = RESTARTS, window_s: float = RESTART_WINDOW_S) -> None:
        self._tries, self._window_ns = tries, int(window_s * 1e9)
        self._spent: deque[int] = deque()

    def spend(self, now_ns: int) -> bool:
        """Take one; False when the window has none left (nothing is taken then)."""
        while self._spent and now_ns - self._spent[0] >= self._window_ns:
            self._spent.popleft()
        if len(self._spent) >= self._tries:
            return False
        self._spent.append(now_ns)
        return True


class Death(Value, frozen=True):
    """One end of the process that nobody asked for."""

    at_ns: int
    """Monotonic, of the machine: comparable between processes of one boot."""
    cause: str
    in_engine: bool = False
    """The engine was working when it happened, or it was the engine that failed."""


class StartPlan(Value, frozen=True):
    """What a start does."""

    level: Level = 0
    hold_s: float = 0.0
    """Do nothing but report for so long first."""
    reason: str = ""
    """Why it is not an ordinary start; empty when it is one."""


def plan_start(deaths: tuple[Death, ...], now_ns: int) -> StartPlan:
    """The plan for a start at `now_ns`.

    Args:
        deaths: of this boot, oldest first.
        now_ns: monotonic.
    """
    recent = [death for death in deaths if now_ns - death.at_ns < RESTART_WINDOW_S * 1e9]
    blamed = [d for d in deaths if d.in_engine and now_ns - d.at_ns < ENGINE_WINDOW_S * 1e9]
    levels: tuple[Level, ...] = (0, 1, 2)
    level = levels[min(len(blamed), 2)]
    if len(recent) >= RESTARTS:
        last = recent[-1].cause
        why = f"ended {len(recent)} times within {RESTART_WINDOW_S:.0f} s, last: {last}"
        return StartPlan(level=level, hold_s=HOLD_S, reason=why)
    if not level:
        return StartPlan()
    times = "once" if len(blamed) == 1 else f"{len(blamed)} times"
    return StartPlan(level=level, reason=f"recognition ended the process {times}, last: {blamed[-1].cause}")
