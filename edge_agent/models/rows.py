"""Where the rows of a prepared model lie. Pure.

Whisper's decoder embedding has one row per token id; it is also the output layer. Two things can be gained
by moving rows, with no change to the library:

*End-of-text mirror.* The library's scoring pass (`align`) normalises over the ids below end-of-text only, so
it can never say how likely the end was. A copy of that row below it makes the end visible: the last
probability of `align(text + [mirror])` is that of the end. Multilingual vocabularies have an unused row just
before end-of-text for it. In English-only ones end-of-text changes places with the token of the language
English, which such models never use, and its old row becomes the mirror.

*Parallel prefix.* `generate` reads in one pass what precedes the last id of the run that begins at
`<|startoftranscript|>` and stays between it and `<|notimestamps|>`. With `<|startoftranscript|>` in row 0
every text token lies in that range.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from edge_agent.decoding.vocabulary import Vocabulary
from edge_agent.types import Value

Layout: TypeAlias = Literal["plain", "parallel-prefix"]


class Rows(Value, frozen=True):
    """Which token lies in which row."""

    layout: Layout = "plain"
    ids: dict[int, int] = msgspec.field(default_factory=dict)
    """Standard token id -> row, for those that moved; a permutation."""
    eot_mirror: int | None = None
    """Row that repeats end-of-text."""

    def row(self, token: int) -> int:
        """Row of a standard id."""
        return self.ids.get(token, token)

    def contents(self, size: int, eot: int) -> list[int]:
        """For each of `size` rows the standard id whose numbers it holds; `eot` is that of end-of-text."""
        held = self.named(size)
        if self.eot_mirror is not None:
            held[self.eot_mirror] = eot
        return held

    def named(self, size: int) -> list[int]:
        """For each of `size` rows the standard id whose name it bears."""
        held = list(range(size))
        for token, row in self.ids.items():
            held[row] = token
        return held


def arrange(vocabulary: Vocabulary, wanted: Layout) -> Rows:
    """The rows for a vocabulary; plain and without a mirror where it offers no unused row."""
    special = vocabulary.special
    before = special.eot - 1
    if vocabulary.multilingual and vocabulary.tokens[before] == "":
        if wanted == "parallel-prefix" and special.sot == special.eot + 1:
            moved = {0: before, before: special.eot, special.eot: special.sot, special.sot: 0}
            return Rows(layout="parallel-prefix", ids=moved, eot_mirror=special.eot)
        return Rows(eot_mirror=before)
    unused = special.languages.get("en")
    if not vocabulary.multilingual and unused is not None and special.sot == special.eot + 1 < unused:
        return Rows(ids={special.eot: unused, unused: special.eot}, eot_mirror=special.eot)
    return Rows()
