"""How long to wait before the next try. Pure."""

from __future__ import annotations

CAP_S = 60.0
"""Of the waits for a broker that cannot be reached."""
REFUSED_LEAST_S, REFUSED_MOST_S = 56.0, 59.0
"""Between tries at one that keeps saying no: about one a minute, in use within a minute of being mended."""
BASE_S = 1.0
FLOOR_S = 0.1
PATIENT_REFUSALS = 5
"""After this many refusals in a row, one try a minute and never sooner."""


def delay_s(failures: int, *, refused: bool, jitter: float) -> float:
    """Seconds until the next try.

    Unreachable: full jitter, anywhere between nothing and a doubling bound capped at a minute, so that a
    fleet does not return in step. Refused: the same at first, then once a minute; the first tries have put a
    fleet out of step.

    Args:
        failures: tries that failed in a row, at least 1.
        refused: the broker answered and said no.
        jitter: random number in 0..1.
    """
    if refused and failures >= PATIENT_REFUSALS:
        return REFUSED_LEAST_S + jitter * (REFUSED_MOST_S - REFUSED_LEAST_S)
    bound = min(CAP_S, BASE_S * 2.0 ** min(failures - 1, 10))
    return max(FLOOR_S, jitter * bound)


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
