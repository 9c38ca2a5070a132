"""Speculative decoding: check a whole draft in one pass instead of writing it token by token. Pure.

The idea is SpecASR's (arXiv 2507.18181): a draft of the same sound stays aligned with what the model hears
even after a wrong token, so the rest of a draft is worth keeping. Differences: one scoring pass tells each
token's probability, not the best token. Above 0.5 a token is the best one, proven. Below, one pass of a
sharpened decoder proves it (`Steps.prove`), and what is left in doubt the engine settles by generating a few
tokens from there. What comes out is what greedy decoding gives on the same encoder output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edge_agent.decoding.steps import Encoded, Generated, Scored, Steps
from edge_agent.types import Value

EXACT = 0.5
"""Above this probability a token is the argmax."""
NEAR = 0.3
"""Threshold of the named `near` mode: faster, sometimes another token than greedy's."""

_MAX_PASSES = 3
"""Scoring passes before the rest is generated."""
_LOOK_AHEAD = 3
"""Tokens generated to settle a doubtful one that is probably wrong: they show where the draft goes on."""
_LIKELY = 0.25
"""A doubtful token above this is probably right; one token settles it."""
_TIE = 0.3
"""Nats between two tokens that rounding in int8 decides either way; then the draft's token stays."""
_CALL_COST, _PREFIX_COST, _TOKEN_COST, _PASS_COST = 4.0, 0.1, 1.3, 3.0
"""In plain token steps: a continuation, each token before it, each token of it, a scoring pass."""
_HOPELESS = 0.05
"""A first doubtful token below this is nearly always wrong: a proof would be a pass for nothing."""
_WINDOW_BACK, _WINDOW_AHEAD = 2, 8
"""Where, around the place of a wrong token, the draft is searched for what the engine wrote instead."""


class Outcome(Value, frozen=True):
    """A decode that began with a draft."""

    tokens: tuple[int, ...]
    ended: bool
    accepted: int
    """Draft tokens that are in the result without having been generated."""
    passes: int
    """Calls into the decoder."""
    avg_logprob: float
    scored: Scored | None = None
    """The scoring pass, when it saw exactly `tokens`."""


class _Run:
    """One verification."""

    def __init__(
        self, steps: Steps, encoded: Encoded, prompt: Sequence[int], *, frames: int, tau: float, max_new: int
    ) -> None:
        self.steps = steps
        self.encoded = encoded
        self.prompt = prompt
        self.frames = frames
        self.tau = tau
        self.max_new = max_new
        self.passes = 0
        self.generated = 0

    def score(self, tokens: Sequence[int]) -> Scored:
        self.passes += 1
        return self.steps.score(self.encoded, self.prompt, tokens, self.frames)

    def generate(self, prefix: Sequence[int], limit: int) -> Generated:
        self.passes += 1
        found = self.steps.generate(
            self.encoded, self.prompt, prefix=prefix, max_new=limit, judge_speech=False
        )
        self.generated += len(found.tokens)
        return found

    def doubts(self, scored: Scored, tokens: Sequence[int], sure: int) -> list[int]:
        """Places from `sure` on that are not proven; len(tokens) stands for the end of the text."""
        abilities = self.steps.abilities
        found = [
            place
            for place in range(sure, len(tokens))
            if scored.probabilities[place] <= self.tau
            or tokens[place] in abilities.suppressed
            or (place == 0 and tokens[place] in abilities.suppressed_first)
        ]
        end = scored.end_probability
        if not tokens or end is None or end <= self.tau:
            found.append(len(tokens))
        return found

    def unproven(self, scored: Scored, tokens: Sequence[int], doubts: list[int]) -> list[int]:
        """The doubtful places that the sharpened decoder does not prove either."""
        if not doubts or self.tau < EXACT or not self.steps.abilities.proves:
            return doubts
        first = doubts[0]
        chance = scored.probabilities[first] if first < len(tokens) else scored.end_probability
        if chance is None or chance < _HOPELESS:
            return doubts
        self.passes += 1
        proof = self.steps.prove(self.encoded, self.prompt, tokens)
        forbidden = self.steps.abilities.suppressed
        return [
            place
            for place in doubts
            if proof[place] <= EXACT
            or (place < len(tokens) and tokens[place] in forbidden)
            or (place == 0 and tokens and tokens[0] in self.steps.abilities.suppressed_first)
        ]

    def finish(self, tokens: Sequence[int]) -> Outcome:
        """Keep `tokens`, generate the rest."""
        rest = self.generate(tokens, self.max_new - len(tokens))
        whole = (*tokens, *rest.tokens)
        return self.outcome(whole, ended=rest.ended, avg_logprob=rest.avg_logprob)

    def outcome(
        self, tokens: Sequence[int], *, ended: bool, avg_logprob: float, scored: Scored | None = None
    ) -> Outcome:
        return Outcome(
            tokens=tuple(tokens),
            ended=ended,
            accepted=max(0, len(tokens) - self.generated),
            passes=self.passes,
            avg_logprob=avg_logprob,
            scored=scored,
        )


def verify(
    steps: Steps,
    encoded: Encoded,
    prompt: Sequence[int],
    draft: Sequence[int],
    *,
    frames: int,
    tau: float = EXACT,
    max_new: int = 224,
    sure: int = 0,
) -> Outcome:
    """Decode with `draft` as first guess.

    Args:
        draft: text tokens; any, also of another sentence.
        frames: features that hold sound, for the alignment of the scoring pass.
        tau: `EXACT` for greedy's tokens (up to ties of an int8 model), `NEAR` for more speed.
        max_new: most tokens of the text, as for `Steps.generate`.
        sure: leading tokens of the draft that are known to be greedy's.
    """
    run = _Run(steps, encoded, prompt, frames=frames, tau=tau, max_new=max_new)
    tokens = list(draft[: max_new - 1])
    for _ in range(_MAX_PASSES):
        scored = run.score(tokens)
        doubts = run.unproven(scored, tokens, run.doubts(scored, tokens, sure))
        if not doubts:
            return run.outcome(tokens, ended=True, avg_logprob=mean_logprob(scored), scored=scored)
        settled = _settle(run, tokens, doubts, scored)
        if isinstance(settled, Outcome):
            return settled
        if settled is None:
            return run.outcome(tokens, ended=True, avg_logprob=mean_logprob(scored), scored=scored)
        tokens, sure = settled
        if sure == len(tokens):
            break
    return run.finish(tokens[:sure])


def _settle(
    run: _Run, tokens: list[int], doubts: list[int], scored: Scored
) -> Outcome | tuple[list[int], int] | None:
    """Walk over the doubtful places.

    None: all confirmed. (tokens, sure): the draft mended, to be scored again; `sure` tokens are proven.

    The scores after a confirmed token stay valid, its prefix is the same; so one pass serves the whole walk.
    """
    while doubts:
        place = doubts[0]
        chances = [scored.probabilities[doubt] for doubt in doubts if doubt < len(tokens)]
        if (
            not chances
            or not run.steps.abilities.fast_prefix
            or _generating_is_cheaper(chances, place, len(tokens), ends=doubts[-1] < len(tokens))
        ):
            return run.finish(tokens[:place])
        chance = chances[0]
        found = run.generate(tokens[:place], min(1 if chance > _LIKELY else _LOOK_AHEAD, run.max_new - place))
        reached = place + common(found.tokens, tokens[place:])
        if reached == place and _is_tie(found, chance):
            reached = place + 1
        elif reached < place + len(found.tokens) or found.ended:
            whole = [*tokens[:place], *found.tokens]
            if found.ended:
                return run.outcome(whole, ended=True, avg_logprob=found.avg_logprob)
            return whole + recycle(found.tokens, tokens, place), len(whole)
        doubts = [doubt for doubt in doubts if doubt >= reached]
    return None


def _generating_is_cheaper(chances: Sequence[float], place: int, length: int, *, ends: bool) -> bool:
    """Than settling each doubt by a call of its own? A likely wrong one costs a scoring pass as well; an
    end in doubt costs a call in any case."""
    call = _CALL_COST + _PREFIX_COST * place
    settle = sum(
        call + (_TOKEN_COST if chance > _LIKELY else _LOOK_AHEAD * _TOKEN_COST + _PASS_COST)
        for chance in chances
    )
    if not ends:
        settle += call + _TOKEN_COST
    return settle > call + _TOKEN_COST * (length - place + 1)


def _is_tie(found: Generated, chance: float) -> bool:
    """Is the one token the engine wrote instead hardly likelier than the draft's, of probability `chance`?"""
    if len(found.tokens) != 1 or found.ended or chance <= 0:
        return False
    return 2 * found.avg_logprob - math.log(chance) < _TIE


def recycle(written: Sequence[int], draft: Sequence[int], place: int) -> list[int]:
    """The rest of `draft` that goes on after the tokens `written` from `place`; empty when none is found.

    The last two, then the last one, of `written` are looked for in a small window: the sound is the same, so
    a draft that went wrong is right again a few tokens later.
    """
    centre = place + len(written)
    for width in (2, 1):
        wanted = list(written[-width:])
        if len(wanted) < width:
            continue
        starts = range(max(0, centre - width - _WINDOW_BACK), min(len(draft), centre + _WINDOW_AHEAD))
        for start in sorted(starts, key=lambda at: abs(at + width - centre)):
            if list(draft[start : start + width]) == wanted:
                return list(draft[start + width :])
    return []


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length


def mean_logprob(scored: Scored) -> float:
    """Mean log-probability of the tokens and, where it was judged, of the end."""
    judged = [*scored.probabilities, *([] if scored.end_probability is None else [scored.end_probability])]
    return sum(math.log(max(p, 1e-10)) for p in judged) / max(1, len(judged))
