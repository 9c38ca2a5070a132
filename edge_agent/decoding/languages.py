"""Which language an utterance is in: one of the allowed, steady from utterance to utterance. Pure."""

from __future__ import annotations

from collections.abc import Sequence, Set

_CLEAR = 0.6
_TIMES = 2.0
"""Another language than the usual one must be this probable, and so many times as probable as that one."""


def choose(
    ranked: Sequence[tuple[str, float]], allowed: Set[str] = frozenset(), usual: str = ""
) -> tuple[str, float] | None:
    """The language and its probability among the allowed ones; None when nothing was detected.

    Args:
        ranked: languages with probabilities, as detected.
        allowed: empty: all.
        usual: what was spoken lately; a short or unclear utterance is taken for that.
    """
    fit = [pair for pair in ranked if pair[0] in allowed] or list(ranked)
    whole = sum(probability for _, probability in fit)
    if not fit or whole <= 0:
        return None
    shares = {language: probability / whole for language, probability in fit}
    best = max(shares, key=lambda language: shares[language])
    if usual in shares and best != usual:
        clear = shares[best] >= _CLEAR and shares[best] >= _TIMES * shares[usual]
        best = best if clear else usual
    return best, shares[best]
