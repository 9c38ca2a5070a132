"""How long to wait before the next try. Pure."""

from __future__ import annotations

CAP_S = 60.0
BASE_S = 1.0
FLOOR_S = 0.1
PATIENT_REFUSALS = 5
"""After this many refusals in a row, one try a minute: nobody repairs a login faster."""


def delay_s(failures: int, *, refused: bool, jitter: float) -> float:
    """Seconds until the next try.

    Unreachable: full jitter, anywhere between nothing and a doubling bound capped at a minute, so that a
    fleet does not return in step. Refused: the same at first, then exactly a minute.

    Args:
        failures: tries that failed in a row, at least 1.
        refused: the broker answered and said no.
        jitter: random number in 0..1.
    """
    if refused and failures >= PATIENT_REFUSALS:
        return CAP_S
    bound = min(CAP_S, BASE_S * 2.0 ** min(failures - 1, 10))
    return max(FLOOR_S, jitter * bound)
