"""What the last silences of a speaker teach: when to look first, how long to wait. Pure; one per channel."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from edge_agent.types import Ending

_KEPT = 20
_ENOUGH = 6  # silences before anything is concluded from them
_PROBE_STEP_MS = 100
_WASTED_AT_MOST = 0.5
_USUAL = 0.95  # of a speaker's pauses, this share is to stay inside the utterance
_MARGIN = 1.3
_LEAST = 0.75  # of the usual silence: few pauses are no promise of none
_FACTOR: dict[Ending, float] = {"finished": 0.85, "open": 1.6, "unknown": 1.0}


class Pauses:
    """The last silences long enough to be looked at: how long each was, infinite when it ended an utterance.

    A probe that the speaker talks over is a decode for nothing. Since the lengths are known, so is what any
    later probe would have cost; the earliest one that is wasted at most every other time is taken, and an
    earlier one again as soon as it would pay.
    """

    def __init__(self) -> None:
        self._lengths_ms: deque[float] = deque(maxlen=_KEPT)

    def went_on(self, length_ms: float) -> None:
        """Speech resumed after this long."""
        self._lengths_ms.append(length_ms)

    def held(self) -> None:
        """The silence ended the utterance."""
        self._lengths_ms.append(math.inf)

    def rejoined(self, length_ms: float) -> None:
        """The silence that ended the last utterance was a pause after all: the speaker went on so soon."""
        if self._lengths_ms:
            self._lengths_ms[-1] = length_ms

    def probe_ms(self, first_ms: int, silence_ms: int) -> int:
        """Silence after which a probe pays: `first_ms`, or later by steps; `silence_ms` when none does."""
        lengths = self._lengths_ms
        if not 0 < first_ms < silence_ms or len(lengths) < _ENOUGH:
            return first_ms
        for probe_ms in range(first_ms, silence_ms, _PROBE_STEP_MS):
            reached = [length for length in lengths if length >= probe_ms]
            if sum(map(math.isfinite, reached)) <= _WASTED_AT_MOST * len(reached):
                return probe_ms
        return silence_ms

    def silence_ms(self, usual_ms: int, bounds_ms: tuple[int, int], ending: Ending) -> int:
        """How long a silence must be to end an utterance of this speaker.

        Args:
            usual_ms: before anything is known.
            bounds_ms: never less, never more.
            ending: how the words so far look.
        """
        low_ms, high_ms = bounds_ms
        lengths: Sequence[float] = self._lengths_ms
        pauses = sorted(filter(math.isfinite, lengths))
        wanted_ms: float = usual_ms
        if len(pauses) >= _ENOUGH // 2 and len(lengths) >= _ENOUGH:
            wanted_ms = max(
                usual_ms * _LEAST, pauses[min(len(pauses) - 1, int(_USUAL * len(pauses)))] * _MARGIN
            )
        wanted_ms = min(high_ms, max(low_ms, wanted_ms)) * _FACTOR[ending]
        return round(min(high_ms, max(low_ms, wanted_ms)))
