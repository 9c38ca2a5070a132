"""Where a value is on an axis, and which values are written at it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edge_agent.types import Value

_MANY_TIMES, _TOO_MANY_TIMES = 25.0, 1e6
"""Between these ratios of the largest to the smallest value, an axis is logarithmic."""
_LEAST = 1e-9


class Scale(Value, frozen=True):
    """An axis of so many pixels."""

    low: float
    high: float
    pixels: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Pixels from the axis's beginning; values beyond its ends are at its ends."""
        value = min(self.high, max(self.low, value))
        if self.logarithmic:
            return self.pixels * math.log(value / self.low) / math.log(self.high / self.low)
        return self.pixels * (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values, seven or so."""
        return _log_ticks(self.low, self.high) if self.logarithmic else _ticks(self.low, self.high)


def scale(values: Sequence[float], pixels: float) -> Scale:
    """An axis that holds all the values: from zero, or logarithmic where they differ many times.

    Args:
        values: at least one, all finite.
        pixels: its length.
    """
    low, high = min(values), max(values)
    if low > _LEAST and _MANY_TIMES < high / low < _TOO_MANY_TIMES:
        return Scale(low=_round_down(low), high=-_round_down(-high), pixels=pixels, logarithmic=True)
    low, high = min(0.0, low), max(0.0, high)
    if high - low < _LEAST:
        high = low + 1.0
    step = _step(low, high)
    return Scale(low=math.floor(low / step) * step, high=math.ceil(high / step) * step, pixels=pixels)


def bars_scale(values: Sequence[float], pixels: float) -> Scale:
    """An axis for bars, which begin at zero or their lengths would lie."""
    high = max(values, default=0.0)
    return Scale(low=0.0, high=high if high > 0 else 1.0, pixels=pixels)


def _step(low: float, high: float) -> float:
    """1, 2 or 5 times a power of ten, so that five to ten of them fill the axis."""
    rough = (high - low) / 7
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _ticks(low: float, high: float) -> list[float]:
    step = _step(low, high)
    first = math.ceil(low / step - 1e-9)
    return [step * number for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(decades) <= 4 else (1,)
    every = [factor * 10.0**decade for decade in decades for factor in factors]
    return [value for value in every if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def _round_down(value: float) -> float:
    """To 1, 2 or 5 times a power of ten; of a negative value, its amount up."""
    amount = abs(value)
    power = 10.0 ** math.floor(math.log10(amount))
    factors = [factor * power for factor in (1, 2, 5, 10)]
    if value > 0:
        return max(one for one in factors if one <= amount * (1 + 1e-9))
    return -min(one for one in factors if one >= amount * (1 - 1e-9))
