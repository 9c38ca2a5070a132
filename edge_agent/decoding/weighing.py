"""Which tokens of a draft are in doubt, and what it costs to settle them. Pure.

Costs are in steps of plain decoding; each engine says what its calls cost (`Effort`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edge_agent.decoding.steps import Abilities, Effort, Scored
from edge_agent.types import Value

EXACT = 0.5
"""Above this probability a token is the argmax."""
NEAR = 0.3
"""Threshold of the named `near` mode: faster, sometimes another token than greedy's."""
LIBRARY = Effort()
"""CTranslate2's."""
_LOOK_AHEAD = 3
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
    is_tie: bool = False
    """Rounding decides between it and another one."""

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
    enough = tau if tau < EXACT else 1.0 / (1.0 + math.exp(-abilities.effort.favoured))
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
    effort = abilities.effort
    found = []
    for place in places:
        margin = -math.inf if _is_forbidden(tokens, place, abilities) else margins[place]
        if margin <= effort.favoured:
            tie = margin >= -effort.refuted
            found.append(Doubt(place=place, chance=0.0, margin=margin, is_tie=tie))
    return found


def _is_forbidden(tokens: Sequence[int], place: int, abilities: Abilities) -> bool:
    """Would plain decoding never write this here?"""
    if place == len(tokens):
        return place == 0
    return tokens[place] in abilities.suppressed or (
        place == 0 and tokens[place] in abilities.suppressed_first
    )


def is_decided_by_rounding(margins: Sequence[float], agreed: int, effort: Effort = LIBRARY) -> bool:
    """Is one of the tokens that were generated behind a prefix read in one pass too close to another?

    Args:
        agreed: so many of them, the first, are the draft's as well; the next one speaks against the draft.
    """
    for place, margin in enumerate(margins):
        enough = effort.favoured if place < agreed else effort.refuted if place == agreed else effort.written
        if margin <= enough:
            return True
    return False


def plain_cost(length: int, effort: Effort = LIBRARY) -> float:
    """Of writing `length` tokens and the end."""
    return effort.plain + length + 1


def look_cost(length: int, effort: Effort = LIBRARY) -> float:
    """Of a scoring pass over so many tokens."""
    return effort.look + effort.look_token * length


def rest_cost(place: int, length: int, effort: Effort = LIBRARY) -> float:
    """Of going on from `place`, reading what is before in one pass."""
    written = max(1, length - place + 1)
    return effort.go_on + written * (effort.go_on_token + effort.ties * plain_cost(length, effort))


def finish_cost(place: int, length: int, effort: Effort = LIBRARY) -> float:
    """Of the cheaper way to the end."""
    return min(plain_cost(length, effort), rest_cost(place, length, effort))


def settle_cost(doubts: Sequence[Doubt], length: int, effort: Effort = LIBRARY) -> float:
    """Expected, of asking the engine at each doubt in turn; after a wrong one the draft is scored again.

    Doubts all over the rest say that the draft has little to do with the sound: that pass is for nothing.
    """
    cost, still = 0.0, 1.0
    for number, (doubt, right) in enumerate(_in_turn(doubts), 1):
        finish = finish_cost(doubt.place + _LOOK_AHEAD, length, effort)
        lost = min(1.0, (len(doubts) - number) / max(1, length - doubt.place))
        again = look_cost(max(0, length - doubt.place), effort)
        wrong = min(again + 1.0 + lost * finish, finish)
        cost += still * (effort.go_on + doubt.look_ahead * effort.go_on_token + (1.0 - right) * wrong)
        still *= right
    return cost


def proof_pays(doubts: Sequence[Doubt], length: int, effort: Effort = LIBRARY) -> bool:
    """Is a proof of what is right expected to cost less than generating?"""
    cost, still = effort.proof, 1.0
    for doubt, right in _in_turn(doubts):
        cost += still * (1.0 - right) * finish_cost(doubt.place, length, effort)
        still *= right
    return cost < min(finish_cost(doubts[0].place, length, effort), settle_cost(doubts, length, effort))


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
