"""A trial on live speech: swap in a pause of the speakers, watch, swap back when it goes wrong.

Belongs to the steward's thread. The rules of the watch are in `edge_agent.fleet.judge`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from edge_agent.clock import Clock
from edge_agent.errors import EdgeAgentError, FleetError
from edge_agent.fleet import judge
from edge_agent.fleet.bundle import Expect
from edge_agent.fleet.judge import Contact, Link, Live, Promise, Watch
from edge_agent.health import load
from edge_agent.opening import Recogniser
from edge_agent.spare import Opener, Spares
from edge_agent.stagehand import Stopped
from edge_agent.types import Hypothesis, Utterance, Value
from edge_agent.work import Work

_log = logging.getLogger(__name__)

SWAP_PATIENCE_S = 40.0
"""A pause of the speakers comes within an utterance's longest length, or there is none."""
BACK_PATIENCE_S = 6.0
_LOOK_S = 1.0
_HURRY_S = 60.0
"""The link is watched closely for so long after each look: also after a trial that a lost broker ended."""
_KEPT_RTFS = 20
_SPARE_MB = 150.0
"""Left free when two models are kept in memory."""


class Parts(Protocol):
    """What it needs of the running agent."""

    @property
    def work(self) -> Work:
        """Where errands for pauses go."""
        ...

    def counts(self) -> tuple[int, int, int]:
        """Finals, rejected utterances, failed decodes, since the start."""
        ...

    def link(self) -> Link:
        """To the broker."""
        ...

    def hurry(self, seconds: float) -> None:
        """For so long, try often to reach a broker that is away."""
        ...


class Course(Value, frozen=True):
    """What a candidate is held to."""

    trial_s: float
    expect: Expect
    promise: Promise


class Trial:
    """`heard` from the scribe's thread, the rest from the steward's.

    Args:
        spares: what serves.
        parts: of the agent.
        clock: monotonic time.
        stop: set when the trial is to end early.
        ended: true when the process is to end, too.
    """

    def __init__(
        self,
        spares: Spares,
        parts: Parts,
        clock: Clock,
        *,
        stop: threading.Event,
        ended: Callable[[], bool],
    ) -> None:
        self._spares, self._parts, self._clock = spares, parts, clock
        self._stop, self._ended = stop, ended
        self._before: Recogniser | None = None
        """The one that served before the trial, kept warm."""
        self._rtfs: deque[float] = deque(maxlen=_KEPT_RTFS)
        self.progress = 0

    def heard(self, utterance: Utterance, hypothesis: Hypothesis) -> None:
        """A final; on the scribe's thread."""
        if utterance.duration_s > 0:
            self._rtfs.append(hypothesis.cost.total_ms / 1e3 / utterance.duration_s)

    def begin(self, new: Opener, *, takes_mb: float) -> Live:
        """Serve with the new one; answers how the one before did.

        Raises:
            EdgeAgentError: it cannot be opened, or there was no pause; `back` must follow.
            Stopped: the process is to end.
        """
        before = self._live(self._parts.counts(), (0, 0, 0))
        ready = self._beside(new) if load.read().available_mb > takes_mb + _SPARE_MB else None
        try:
            self._before = self._swap(new, ready, SWAP_PATIENCE_S)
        except (EdgeAgentError, Stopped):
            if ready is not None:
                ready.engine.close()
            raise
        self._rtfs.clear()
        return before

    def _beside(self, new: Opener) -> Recogniser | None:
        """Open and warm beside the present one; None where there is no room for both, as on a small card."""
        ready = None
        try:
            ready = new(0)
            ready.engine.warm_up()
        except EdgeAgentError as error:
            _log.info("the new one is opened in the place of the present one", extra={"why": error.cause})
            if ready is not None:
                ready.engine.close()
            return None
        return ready

    def watch(self, before: Live, course: Course) -> judge.Verdict:
        """Until it is decided.

        Raises:
            Stopped: nobody wants it any more.
        """
        began_ns = self._clock.monotonic_ns()
        begun = self._parts.counts()
        contact = Contact(began_ns / 1e9, self._parts.link())
        while True:
            if self._stop.wait(_LOOK_S):
                raise Stopped
            self.progress += 1
            self._parts.hurry(_HURRY_S)
            now_ns, link = self._clock.monotonic_ns(), self._parts.link()
            moment = Watch(
                elapsed_s=(now_ns - began_ns) / 1e9,
                trial_s=course.trial_s,
                broker_lost_s=contact.lost_s(now_ns / 1e9, link),
                broker_says=link.reason,
                trouble=self._spares.reason,
                now=self._live(self._parts.counts(), begun),
                before=before,
            )
            verdict = judge.trial(moment, course.expect, course.promise)
            if verdict.passed or verdict.why:
                return verdict

    def back(self, opens: Opener) -> None:
        """Serve with the previous one again, at once when it is still warm."""
        before, self._before = self._before, None
        try:
            tried = self._swap(opens, before, BACK_PATIENCE_S, urgent=True)
        except EdgeAgentError as error:
            _log.error("the previous model cannot be opened", extra={"why": str(error)})
        else:
            if tried is not None:
                tried.engine.close()

    def close(self) -> None:
        """Free the one before: it is not needed any more."""
        before, self._before = self._before, None
        if before is not None:
            before.engine.close()

    def _live(self, counts: tuple[int, int, int], since: tuple[int, int, int]) -> Live:
        finals, rejected, errors = (now - then for now, then in zip(counts, since, strict=True))
        return Live(rtfs=tuple(self._rtfs), finals=finals, rejected=rejected, errors=errors)

    def _swap(
        self, opens: Opener, ready: Recogniser | None, patience_s: float, *, urgent: bool = False
    ) -> Recogniser | None:
        """In the next pause of the speakers; answers the one before when it is still open.

        Raises:
            EdgeAgentError: it cannot be opened, or there was no pause.
        """
        done = threading.Event()
        before: list[Recogniser | None] = []
        faults: list[EdgeAgentError] = []

        def exchange() -> None:
            if not done.is_set():
                try:
                    before.append(self._spares.swap(opens, ready))
                except EdgeAgentError as error:
                    faults.append(error)
                done.set()

        self._parts.work.errand(exchange, patience_s=patience_s, urgent=urgent)
        deadline_ns = self._clock.monotonic_ns() + int((patience_s + 30.0) * 1e9)
        while not done.wait(_LOOK_S):
            if self._ended():
                done.set()
                raise Stopped
            if self._clock.monotonic_ns() > deadline_ns:
                done.set()
                faults.append(FleetError("recognition made no pause", remedy="it is tried again later"))
        if faults:
            raise faults[0]
        return before[0]
