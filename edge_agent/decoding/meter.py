"""Adds up where the time of one utterance goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from edge_agent.types import DecodeCost

Part: TypeAlias = Literal["features", "encode", "decode", "align"]


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
