"""When each of several things is looked at again: none keeps or hurries another. Pure.

Times are seconds of any steady clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """All of them are due at first.

    Args:
        things: in the order of their turns.
    """

    def __init__(self, things: Iterable[T]) -> None:
        self._at_s = dict.fromkeys(things, 0.0)

    def due(self, now_s: float) -> tuple[T, ...]:
        """Those whose turn has come."""
        return tuple(thing for thing, at_s in self._at_s.items() if at_s <= now_s)

    def had(self, thing: T, now_s: float, rest_s: float) -> None:
        """It had its turn; the next is so much later."""
        self._at_s[thing] = now_s + rest_s

    def at_once(self, thing: T) -> None:
        """Something about it has changed."""
        self._at_s[thing] = 0.0

    def rest_s(self, now_s: float) -> float:
        """Until the next turn of any."""
        return max(0.0, min(self._at_s.values()) - now_s)
