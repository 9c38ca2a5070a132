"""How long to wait before the next try. Pure."""

from __future__ import annotations

CAP_S = 60.0
"""Of the waits for a broker that cannot be reached."""
REFUSED_LEAST_S, REFUSED_MOST_S = 56.0, 59.0
"""Between tries at one that keeps saying no: about one a minute, in use within a minute of being mended."""
BASE_S = 1.0
FLOOR_S = 0.1
HURRIED_CAP_S = 4.0
"""Of those waits while somebody must know soon whether the broker is there."""
PATIENT_REFUSALS = 5
"""After this many refusals in a row, one try a minute and never sooner."""


def delay_s(failures: int, *, refused: bool, jitter: float, cap_s: float = CAP_S) -> float:
    """Seconds until the next try.

    Unreachable: full jitter, anywhere between nothing and a doubling bound capped at a minute, so that a
    fleet does not return in step. Refused: the same at first, then once a minute; the first tries have put a
    fleet out of step.

    Args:
        failures: tries that failed in a row, at least 1.
        refused: the broker answered and said no.
        jitter: random number in 0..1.
        cap_s: bound of the waits for one that is unreachable.
    """
    if refused and failures >= PATIENT_REFUSALS:
        return REFUSED_LEAST_S + jitter * (REFUSED_MOST_S - REFUSED_LEAST_S)
    bound = min(cap_s, BASE_S * 2.0 ** min(failures - 1, 10))
    return max(FLOOR_S, jitter * bound)


class Retry:
    """When the broker is tried again (seconds of any steady clock). One writer; `hurry` from any thread."""

    def __init__(self) -> None:
        self.failures = 0
        """In a row."""
        self._failed_s = self._next_s = self._hurried_until_s = 0.0
        self._refused = False

    def at_s(self, now_s: float) -> float:
        """The time of the next try."""
        if self._refused or now_s >= self._hurried_until_s:
            return self._next_s
        return min(self._next_s, self._failed_s + HURRIED_CAP_S)

    def failed(self, now_s: float, *, refused: bool, jitter: float) -> float:
        """Another try failed; answers the wait in seconds."""
        self.failures += 1
        self._failed_s, self._refused = now_s, refused
        cap_s = HURRIED_CAP_S if now_s < self._hurried_until_s else CAP_S
        wait_s = delay_s(self.failures, refused=refused, jitter=jitter, cap_s=cap_s)
        self._next_s = now_s + wait_s
        return wait_s

    def hurry(self, until_s: float) -> None:
        """Until then try often. A broker that says no is not asked more often for it."""
        self._hurried_until_s = until_s


class Holds:
    """Topics that the broker refused, each with the time of its next try (seconds, any steady clock)."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._refusals: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._refusals)

    def open(self, what: str, now_s: float) -> bool:
        """May it be tried."""
        return self._until.get(what, now_s) <= now_s

    def refused(self, what: str, now_s: float, *, jitter: float) -> float | None:
        """Hold it back; the wait in seconds, None when it is held already (a whole window was refused)."""
        if not self.open(what, now_s):
            return None
        self._refusals[what] = self._refusals.get(what, 0) + 1
        wait_s = delay_s(self._refusals[what], refused=True, jitter=jitter)
        self._until[what] = now_s + wait_s
        return wait_s

    def accepted(self, what: str) -> bool:
        """It was taken; True when that ended a refusal."""
        self._until.pop(what, None)
        return self._refusals.pop(what, None) is not None
