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


class Beat(Value, frozen=True):
    """One thread's last sign of progress."""

    progress: int
    at_ns: int


class Heartbeats:
    """Remembers when each counter last rose.

    Args:
        limits_s: thread name -> seconds without progress after which it counts as hung.
    """

    def __init__(self, limits_s: dict[str, float]) -> None:
        self._limits_s = limits_s
        self._beats: dict[str, Beat] = {}

    def observe(self, name: str, progress: int, now_ns: int) -> None:
        """Note a counter; only a change feeds the heart."""
        last = self._beats.get(name)
        if last is None or last.progress != progress:
            self._beats[name] = Beat(progress=progress, at_ns=now_ns)

    def age_s(self, name: str, now_ns: int) -> float:
        """Seconds since the thread last progressed; 0 for one never seen."""
        beat = self._beats.get(name)
        return 0.0 if beat is None else (now_ns - beat.at_ns) / 1e9

    def hung(self, now_ns: int) -> tuple[str, ...]:
        """Names of the threads that made no progress for longer than allowed, sorted."""
        return tuple(
            sorted(
                name
                for name, beat in self._beats.items()
                if now_ns - beat.at_ns > self._limits_s.get(name, float("inf")) * 1e9
            )
        )


def decode_limit_s(rtf_max: float, max_audio_s: float = 30.0) -> float:
    """Seconds after which a decode is stuck: three times what the profile promises for the longest audio.

    The longest legitimate decode is one of full length that is redone once; a busy machine takes the rest.
    """
    return max(20.0, 3.0 * rtf_max * max_audio_s)


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
