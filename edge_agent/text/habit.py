"""What language a channel is spoken to in, learnt from its last finals. Pure."""

from __future__ import annotations

from collections import deque

_KEPT = 3
_SURE = 0.6


class Habit:
    """Of one channel. Two of the last three finals make a habit, so a single odd one changes nothing."""

    def __init__(self) -> None:
        self._last: deque[str] = deque(maxlen=_KEPT)

    def note(self, language: str, probability: float) -> None:
        """A final was heard; an unsure one teaches nothing."""
        if probability >= _SURE:
            self._last.append(language)

    @property
    def usual(self) -> str:
        """The language to expect; empty while there is no habit."""
        if len(self._last) < 2:
            return ""
        for language in reversed(self._last):
            if self._last.count(language) > len(self._last) / 2:
                return language
        return ""
