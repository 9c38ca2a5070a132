"""Which tokens of a draft are in doubt, and what it costs to settle them. Pure.

Costs are in steps of plain decoding, measured with whisper-base on a 10 s view (6 ms of one core): whatever
the call, the library first projects the encoder output for the cross-attention (2 steps), which is most of a
scoring pass. Larger models have about the same ratios.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edge_agent.decoding.steps import Abilities, Scored
from edge_agent.types import Value

EXACT = 0.5
"""Above this probability a token is the argmax."""
NEAR = 0.3
"""Threshold of the named `near` mode: faster, sometimes another token than greedy's."""
_FOR, _AGAINST = 0.05, 0.45
"""Nats by which a pass over many tokens must favour a token to prove it, or another one to refute it. Against
decoding token by token such passes of whisper-base int8 moved the best tokens by up to 0.8, but of 278
recordings one in twenty held a token whose best rival changed, and one in a hundred one that changed by more
than 0.15. Of 177 tokens that a draft of an earlier moment had wrong two were favoured, by 0.01 and 0.33: a
draft is seldom the rival, so less is asked of what speaks for it."""
_WRITTEN = 0.15
"""Nats that must lie between a token written behind such a pass and the next best one."""

PASS = 2.7
"""A scoring pass, or a proof."""
_PLAIN_FIXED, _GO_ON_FIXED, _GO_ON_TOKEN = 1.6, 3.0, 1.08
_LOOK_AHEAD = 3
_TIES = 0.03
"""Share of generated tokens that rounding may decide: then all is decoded anew."""
_RIGHT = ((0.4, 0.92), (0.25, 0.8), (0.1, 0.55), (0.02, 0.5))
"""(probability above, share of draft tokens that are greedy's); drafts of right, 0.25 s and 0.6 s earlier."""
_LIKELY = 0.25
"""A doubtful token above this is probably right; one token settles it."""


class Doubt(Value, frozen=True):
    """A token that is not proven."""

    place: int
    """Its index; the number of tokens stands for the end of the text."""
    chance: float
    """Its probability, as far as known."""
    margin: float | None = None
    """Nats between it and the best other one, where that was asked for."""

    @property
    def is_tie(self) -> bool:
        """Rounding decides between it and another one."""
        return self.margin is not None and -_AGAINST <= self.margin <= _FOR

    @property
    def right(self) -> float:
        """How often such a token is greedy's."""
        if self.margin is not None:
            return 0.5 if self.is_tie else 0.0
        return next((share for above, share in _RIGHT if self.chance > above), 0.01)

    @property
    def look_ahead(self) -> int:
        """Tokens to generate here: a wrong one's followers show where the draft goes on."""
        return 1 if self.margin is None and self.chance > _LIKELY else _LOOK_AHEAD


def unproven(
    scored: Scored, tokens: Sequence[int], sure: int, abilities: Abilities, tau: float
) -> list[Doubt]:
    """Places from `sure` on whose probability proves nothing."""
    enough = tau if tau < EXACT else 1.0 / (1.0 + math.exp(-_FOR))
    found = [
        Doubt(place=place, chance=scored.probabilities[place])
        for place in range(sure, len(tokens))
        if scored.probabilities[place] <= enough or _is_forbidden(tokens, place, abilities)
    ]
    end = scored.end_probability
    if not tokens or end is None or end <= enough:
        found.append(Doubt(place=len(tokens), chance=end or 0.0))
    return found


def unconfirmed(
    margins: Sequence[float], tokens: Sequence[int], places: Sequence[int], abilities: Abilities
) -> list[Doubt]:
    """Those of `places` that a proof left within the noise, or refuted."""
    return [
        Doubt(place=place, chance=0.0, margin=-math.inf if forbidden else margins[place])
        for place in places
        if (forbidden := _is_forbidden(tokens, place, abilities)) or margins[place] <= _FOR
    ]


def _is_forbidden(tokens: Sequence[int], place: int, abilities: Abilities) -> bool:
    """Would plain decoding never write this here?"""
    if place == len(tokens):
        return place == 0
    return tokens[place] in abilities.suppressed or (
        place == 0 and tokens[place] in abilities.suppressed_first
    )


def is_decided_by_rounding(margins: Sequence[float], agreed: int) -> bool:
    """Is one of the tokens that were generated behind a prefix read in one pass too close to another?

    Args:
        agreed: so many of them, the first, are the draft's as well; the next one speaks against the draft.
    """
    return any(
        margin <= (_FOR if place < agreed else _AGAINST if place == agreed else _WRITTEN)
        for place, margin in enumerate(margins)
    )


def plain_cost(length: int) -> float:
    """Of writing `length` tokens and the end."""
    return _PLAIN_FIXED + length + 1


def rest_cost(place: int, length: int) -> float:
    """Of going on from `place`, reading what is before in one pass."""
    written = max(1, length - place + 1)
    return _GO_ON_FIXED + written * (_GO_ON_TOKEN + _TIES * plain_cost(length))


def finish_cost(place: int, length: int) -> float:
    """Of the cheaper way to the end."""
    return min(plain_cost(length), rest_cost(place, length))


def settle_cost(doubts: Sequence[Doubt], length: int) -> float:
    """Expected, of asking the engine at each doubt in turn; after a wrong one the draft is scored again.

    Doubts all over the rest say that the draft has little to do with the sound: that pass is for nothing.
    """
    cost, still = 0.0, 1.0
    for number, (doubt, right) in enumerate(_in_turn(doubts), 1):
        finish = finish_cost(doubt.place + _LOOK_AHEAD, length)
        lost = min(1.0, (len(doubts) - number) / max(1, length - doubt.place))
        wrong = min(PASS + 1.0 + lost * finish, finish)
        cost += still * (_GO_ON_FIXED + doubt.look_ahead * _GO_ON_TOKEN + (1.0 - right) * wrong)
        still *= right
    return cost


def proof_pays(doubts: Sequence[Doubt], length: int) -> bool:
    """Is one more pass, which proves what is right, expected to cost less than generating?"""
    cost, still = PASS, 1.0
    for doubt, right in _in_turn(doubts):
        cost += still * (1.0 - right) * finish_cost(doubt.place, length)
        still *= right
    return cost < min(finish_cost(doubts[0].place, length), settle_cost(doubts, length))


def _in_turn(doubts: Sequence[Doubt]) -> Iterator[tuple[Doubt, float]]:
    """Each with the share in which it is greedy's where the ones before it are: drafts are right as a whole
    more often than their tokens are one by one."""
    for number, doubt in enumerate(doubts):
        known = number == 0 or doubt.margin is not None
        yield doubt, doubt.right if known else (1.0 + doubt.right) / 2


def mean_logprob(scored: Scored) -> float:
    """Mean log-probability of the tokens and, where it was judged, of the end."""
    judged = [*scored.probabilities, *([] if scored.end_probability is None else [scored.end_probability])]
    return total_logprob(judged) / max(1, len(judged))


def total_logprob(probabilities: Sequence[float]) -> float:
    """Sum of the logarithms."""
    return sum(math.log(max(p, 1e-10)) for p in probabilities)
