"""Adds up where the time of one utterance goes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from edge_agent.types import DecodeCost

Part: TypeAlias = Literal["features", "encode", "decode", "align"]


class _Finished:
    """Parts of decodes finished in this process."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)  # a step of it cannot be torn by another thread
        self.count = 0

    def one_more(self) -> None:
        self.count = next(self._numbers)


_FINISHED = _Finished()


def parts_finished() -> int:
    """Parts of decodes finished in this process so far: a sign of life while a long one lasts."""
    return _FINISHED.count


class Meter:
    """Wall time by part, in milliseconds, and counts."""

    def __init__(self) -> None:
        self.spent_ms: dict[Part, float] = {"features": 0.0, "encode": 0.0, "decode": 0.0, "align": 0.0}
        self.passes = self.drafted = self.accepted = self.retries = 0
        self.context_s = 0.0

    @contextmanager
    def during(self, part: Part) -> Iterator[None]:
        """Time spent inside counts as `part`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.spent_ms[part] += 1e3 * (time.perf_counter() - started)
            _FINISHED.one_more()

    def cost(self) -> DecodeCost:
        """The sums so far."""
        return DecodeCost(
            features_ms=self.spent_ms["features"],
            encode_ms=self.spent_ms["encode"],
            decode_ms=self.spent_ms["decode"],
            align_ms=self.spent_ms["align"],
            context_s=self.context_s,
            retries=self.retries,
            drafted_tokens=self.drafted,
            accepted_tokens=self.accepted,
            passes=self.passes,
        )
