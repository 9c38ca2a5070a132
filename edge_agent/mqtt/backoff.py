"""How long to wait before the next try. Pure."""

from __future__ import annotations

CAP_S = 60.0
"""Of the waits for a broker that cannot be reached."""
REFUSED_CAP_S = 30.0
"""Of the waits for one that says no: whoever mends a login, a certificate or a permission watches for it."""
BASE_S = 1.0
FLOOR_S = 0.1
PATIENT_REFUSALS = 5
"""After this many refusals in a row, two to four tries a minute and never sooner."""


def delay_s(failures: int, *, refused: bool, jitter: float) -> float:
    """Seconds until the next try.

    Unreachable: full jitter, anywhere between nothing and a doubling bound capped at a minute, so that a
    fleet does not return in step. Refused: the same at first, then between half the cap for refusals and all
    of it, so that what was mended is used within half a minute and a fleet still does not knock in step.

    Args:
        failures: tries that failed in a row, at least 1.
        refused: the broker answered and said no.
        jitter: random number in 0..1.
    """
    if refused and failures >= PATIENT_REFUSALS:
        return REFUSED_CAP_S * (0.5 + 0.5 * jitter)
    bound = min(REFUSED_CAP_S if refused else CAP_S, BASE_S * 2.0 ** min(failures - 1, 10))
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
