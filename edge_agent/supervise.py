"""Who is alive: rules over progress counters, pure, so that a hung part is told from an idle one."""

from __future__ import annotations

from edge_agent.types import Value


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

    def hung(self, now_ns: int) -> tuple[str, ...]:
        """Names of the threads that made no progress for longer than allowed, sorted."""
        return tuple(
            sorted(
                name
                for name, beat in self._beats.items()
                if now_ns - beat.at_ns > self._limits_s.get(name, float("inf")) * 1e9
            )
        )
