"""The `vigil` thread: looks whether all threads get on, and alone feeds the service manager's watchdog.

It takes no lock that others hold for long and never touches the disk, so that neither a slow disk nor a main
thread at work keeps it from saying that all is well. When a thread hangs it says so, gives the main thread a
moment to leave in order, and then ends the process itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from edge_agent import strain
from edge_agent.clock import Clock
from edge_agent.supervise import Heartbeats, Limit, Strain
from edge_agent.types import Value

LOOK_S = 0.5
_LATE = 3.0
"""A look that comes so many times late was held up itself: what passed beyond is held against nobody."""
GRACE_S = 2.0
"""For the main thread to leave in order."""
MAIN = "main"
_MAIN_LIMIT = Limit(idle_s=6.0, busy_s=10.0)
_PYTHON_MAIN = "MainThread"


class Watched(Value, frozen=True):
    """One group of threads."""

    name: str
    """Of its Python threads."""
    alive: Callable[[], bool]
    progress: Callable[[], int]
    limit: Callable[[], Limit]
    has_libraries: bool = False
    """The threads that libraries made work for it."""


class Vigil:
    """See the module.

    Args:
        watched: the groups, besides the main thread.
        clock: monotonic.
        read: sums of each thread so far.
        threads: the Python threads that run.
    """

    def __init__(
        self,
        watched: tuple[Watched, ...],
        *,
        clock: Clock,
        read: Callable[[], dict[int, strain.Thread]] = strain.read,
        threads: Callable[[], Iterable[threading.Thread]] = threading.enumerate,
    ) -> None:
        main = Watched(name=MAIN, alive=lambda: True, progress=lambda: self._beats, limit=lambda: _MAIN_LIMIT)
        self._watched = (*watched, main)
        self._clock, self._read, self._threads = clock, read, threads
        self._hearts = Heartbeats()
        self._before: dict[int, strain.Thread] = {}
        self._looked_ns = 0
        self._beats = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.hung: tuple[str, ...] = ()
        """Names of the groups that hang; the process should end."""

    def start(self, ping: Callable[[], object], end: Callable[[tuple[str, ...]], object]) -> None:
        """Start the thread.

        Args:
            ping: called at each look at which all is well.
            end: ends the process; called when the main thread has not done so in time.
        """
        self._thread = threading.Thread(target=self._run, args=(ping, end), name="vigil", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more looks and no more pings."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def beat(self) -> None:
        """The main thread gets on."""
        self._beats += 1

    def look(self) -> tuple[str, ...]:
        """Names of the groups that hang now, sorted."""
        now_ns = self._clock.monotonic_ns()
        passed_s = min((now_ns - self._looked_ns) / 1e9, _LATE * LOOK_S) if self._looked_ns else 0.0
        self._looked_ns = now_ns
        now, names = self._read(), strain.owners(self._threads())
        hung = []
        for one in self._watched:
            if not one.alive():
                self._hearts.forget(one.name)
                continue
            strained = self._strain(one, now, names, passed_s)
            if self._hearts.look(
                one.name, one.progress(), passed_s=passed_s, strain=strained, limit=one.limit()
            ):
                hung.append(one.name)
        self._before = now
        return tuple(sorted(hung))

    def _strain(
        self, one: Watched, now: dict[int, strain.Thread], names: dict[int, str], passed_s: float
    ) -> Strain:
        """Of one group since the last look."""
        if not now:
            return Strain(known=False)
        name = _PYTHON_MAIN if one.name == MAIN else one.name
        worked_ns, excused_s = 0, 0.0
        for number, thread in now.items():
            owner = names.get(number, "")
            if owner != name and (owner or not one.has_libraries):
                continue
            before = self._before.get(number, thread)
            worked_ns += thread.worked_ns - before.worked_ns
            # The kernel adds up a wait when it is over; until then only the state tells of it.
            waits = thread.state == "D" or (thread.state == "R" and thread.worked_ns == before.worked_ns)
            waited_s = passed_s if waits else (thread.waited_ns - before.waited_ns) / 1e9
            excused_s = max(excused_s, waited_s)
        return Strain(worked_s=worked_ns / 1e9, excused_s=excused_s)

    def _run(self, ping: Callable[[], object], end: Callable[[tuple[str, ...]], object]) -> None:
        while not self._over.wait(LOOK_S):
            hung = self.look()
            if not hung:
                ping()
                continue
            self.hung = hung
            if MAIN in hung or not self._over.wait(GRACE_S):
                end(hung)
            return
