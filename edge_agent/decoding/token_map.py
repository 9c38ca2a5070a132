"""Which tokens usually follow which on this site: n-grams of terms and past finals. Pure, in memory, bounded.

After Token Map Drafting (arXiv 2507.21522): worth its cost where people say the same few sentences to a large
model; on open speech it is not, and the books switch it off.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

_ORDERS = (4, 3, 2)
"""Lengths of the contexts, longest first."""
_LONGEST_DRAFT = 40


class TokenMap:
    """Context of the last few tokens -> the token that followed it last.

    Args:
        capacity: contexts kept; the least recently used go first.
    """

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._next: OrderedDict[tuple[int, ...], int | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._next)

    def learn(self, tokens: Sequence[int]) -> None:
        """Take in a whole sentence; its end is learnt too."""
        for place in range(1, len(tokens) + 1):
            following = tokens[place] if place < len(tokens) else None
            for order in _ORDERS:
                if order <= place:
                    key = tuple(tokens[place - order : place])
                    self._next[key] = following
                    self._next.move_to_end(key)
        while len(self._next) > self._capacity:
            self._next.popitem(last=False)

    def continuation(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """What usually follows `tokens`; empty when nothing is known."""
        written = list(tokens)
        while len(written) - len(tokens) < _LONGEST_DRAFT:
            found = self._lookup(written)
            if found is None:
                break
            written.append(found)
        return tuple(written[len(tokens) :])

    def _lookup(self, tokens: Sequence[int]) -> int | None:
        for order in _ORDERS:
            key = tuple(tokens[-order:])
            if len(key) == order and key in self._next:
                return self._next[key]
        return None
