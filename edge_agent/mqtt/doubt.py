"""Which acknowledged rows a dying broker may take with it. Pure.

An acknowledgement says that the broker has a row, not that it saved it. A broker that saves what changed
before it reads on (ours does, see private_broker.py and provisioning/mosquitto) has saved a row when it
answers a message that was sent after that row's acknowledgement had come. Rows without such a later answer
are in doubt for a moment, and are sent again when the connection breaks within it. Subscribers see those
twice, with equal id and bytes; so as few as possible.
"""

from __future__ import annotations

from collections import deque

DOUBT_S = 0.25
"""A broker that saves at its leisure is given so long."""


class Doubt:
    """The acknowledged rows of one connection after the other; belongs to one thread."""

    def __init__(self, bound: int) -> None:
        """At most `bound` rows, the youngest, are ever sent again."""
        self._answers = 0
        self._answers_before: dict[int, int] = {}
        self._young: deque[tuple[int, float, int]] = deque(maxlen=bound)

    def sent(self, mid: int) -> None:
        """A message is on its way under this number."""
        self._answers_before[mid] = self._answers

    def answered(self, mid: int) -> None:
        """The broker answered it: what had been acknowledged before it was sent is safe."""
        safe = self._answers_before.pop(mid, 0)
        while self._young and self._young[0][0] <= safe:
            self._young.popleft()

    def accepted(self, seq: int, now_s: float) -> None:
        """A row was acknowledged."""
        self._answers += 1
        self._young.append((self._answers, now_s, seq))

    def lost(self, now_s: float) -> list[int]:
        """The connection broke: the rows to send again. Forgets everything."""
        again = [seq for _, at, seq in self._young if now_s - at < DOUBT_S]
        self._young.clear()
        self._answers_before.clear()
        return again
