"""How sure a model is of each word, whatever its capitals and the signs before it. Pure.

Whisper shares its belief among " The", " the" and a full stop with " The" behind it: where a sentence begins,
or might, the word as written seldom has more than 0.6, though nothing else was said. The other way round it
may be sure of " half" and not of whether "way" belongs to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.decoding.vocabulary import Vocabulary, first_byte, token_bytes, written_token

Follows: TypeAlias = tuple[NDArray[np.float32], float]
"""float32[rows of the vocabulary], logits of what follows, and the logarithm of the sum of their
exponentials."""

_SIGNS = (*",.?!;:…，。？！；：、", "...")
"""What may stand between two words and change neither; hyphens and apostrophes do."""
_LEAST_ROOM = 1e-3
"""Probability that something other than a sign comes, at least."""
_SCRIPTS_WITH_SPACES = range(0xC3, 0xDC)
"""First bytes of letters from Latin with accents to Arabic."""


class Alike:
    """Tokens of one vocabulary; threads may share it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._tokens = vocabulary.tokens
        self._end = vocabulary.special.eot
        self._same: dict[int, NDArray[np.intp]] = {}

    def sure(self, tokens: Sequence[int], follows: Sequence[Follows]) -> tuple[float, ...]:
        """Probability 0..1 of each token that it is what was said and, where a word ends, that it ends there.

        A sign that might come first is left out of the reckoning, as if the same word came after it; of a
        sign itself nothing is told (1.0).

        Args:
            follows: what the model thinks comes after the first 0, 1, ... all `tokens`.
        """
        found = []
        for place, token in enumerate(tokens):
            said = self._said(token, follows[place])
            after = tokens[place + 1] if place + 1 < len(tokens) else self._end
            if token not in self._marks and not self._joins(after):
                said = min(said, 1.0 - _mass(follows[place + 1], self._joining))
            found.append(max(0.0, said))
        return tuple(found)

    def _said(self, token: int, follows: Follows) -> float:
        if token in self._marks:
            return 1.0
        room = 1.0 - _mass(follows, self._signs)
        return min(1.0, _mass(follows, self._variants(token)) / max(_LEAST_ROOM, room))

    def _variants(self, token: int) -> NDArray[np.intp]:
        """The token, and those that differ from it in capitals only."""
        found = self._same.get(token)
        if found is None:
            ids = {token}
            try:
                text = token_bytes(self._tokens[token]).decode() if token < self._end else ""
            except UnicodeDecodeError:  # part of a character
                text = ""
            space, bare = text[: len(text) - len(text.lstrip())], text.lstrip()
            for form in {bare.lower(), bare.upper(), bare[:1].upper() + bare[1:].lower()} - {""}:
                ids.add(self._ids.get(written_token(space + form), token))
            found = self._same[token] = np.array(sorted(ids), dtype=np.intp)
        return found

    def _joins(self, token: int) -> bool:
        """Would it go on with the word before it, in a script with spaces? Elsewhere every letter joins."""
        if token >= self._end or not self._tokens[token]:
            return False
        byte = first_byte(self._tokens[token])
        return byte >= 0x80 or byte == ord("'") or chr(byte).isalnum()

    @cached_property
    def _joining(self) -> NDArray[np.intp]:
        found = [
            token
            for token in range(self._end)
            if self._joins(token)
            and ((byte := first_byte(self._tokens[token])) < 0x80 or byte in _SCRIPTS_WITH_SPACES)
        ]
        return np.array(found, dtype=np.intp)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {written: token for token, written in enumerate(self._tokens[: self._end])}

    @cached_property
    def _marks(self) -> frozenset[int]:
        written = [written_token(space + sign) for sign in _SIGNS for space in ("", " ")]
        return frozenset(self._ids[token] for token in written if token in self._ids)

    @cached_property
    def _signs(self) -> NDArray[np.intp]:
        return np.array(sorted(self._marks), dtype=np.intp)


def _mass(follows: Follows, ids: NDArray[np.intp]) -> float:
    """Probability of all `ids` together."""
    logits, normaliser = follows
    return float(np.exp(logits[ids] - np.float32(normaliser)).sum())
