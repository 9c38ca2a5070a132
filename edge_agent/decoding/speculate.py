"""Speculative decoding: check a whole draft in one pass instead of writing it token by token. Pure.

The idea is SpecASR's (arXiv 2507.18181): a draft of the same sound stays aligned with what the model hears
even after a wrong token, so the rest of a draft is worth keeping. Differences: one scoring pass tells each
token's probability, not the best token. Above one half a token is the best one, proven. Below, one pass of a
sharpened decoder proves it (`Steps.prove`), and what is left in doubt the engine settles by generating.

An int8 model rounds differently in a pass over many tokens than token by token. Where a rival is so near that
this may decide, only greedy decoding from the first token can tell, and is asked. So what comes out is what
plain greedy decoding gives on the same encoder output.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.decoding.recycle import common, recycle
from edge_agent.decoding.steps import Encoded, Generated, Scored, Steps
from edge_agent.decoding.weighing import (
    EXACT,
    NEAR,
    Doubt,
    finish_cost,
    is_decided_by_rounding,
    mean_logprob,
    plain_cost,
    proof_pays,
    settle_cost,
    total_logprob,
    unconfirmed,
    unproven,
)
from edge_agent.types import Value

__all__ = ["EXACT", "NEAR", "Outcome", "verify"]

_ROUNDS = 3
"""Looks at a draft before the rest is generated."""
_WORTH_ASKING = 2
"""Greedy decoding up to a tie must save so many tokens against decoding all."""


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
    """The scoring pass, when it saw exactly `tokens`; none from an engine that remembers it."""


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
    avg_logprob: float | None = None,
) -> Outcome:
    """Decode with `draft` as first guess.

    Args:
        draft: text tokens; any, also of another sentence.
        frames: features that hold sound, for the alignment of the scoring pass.
        tau: `EXACT` for greedy's tokens, `NEAR` for more speed.
        max_new: most tokens of the text, as for `Steps.generate`.
        sure: leading tokens of the draft that are known to be greedy's.
        avg_logprob: of the draft, where that is good enough for the result if the draft is right: it is then
            proven without being scored, and `Outcome.scored` stays empty.
    """
    run = _Run(
        steps, encoded, prompt, frames=frames, tau=tau, max_new=max_new, length=len(draft), known=avg_logprob
    )
    tokens = list(draft[: max_new - 1])
    for _ in range(_ROUNDS if tokens else 0):
        settled = run.settle(tokens, run.look(tokens, sure))
        if isinstance(settled, Outcome):
            return settled
        tokens, sure = settled
        if sure == len(tokens):
            break
    return run.finish(tokens[:sure])


class _Run:
    """One verification."""

    def __init__(
        self,
        steps: Steps,
        encoded: Encoded,
        prompt: Sequence[int],
        *,
        frames: int,
        tau: float,
        max_new: int,
        length: int,
        known: float | None,
    ) -> None:
        self._steps, self._encoded, self._prompt = steps, encoded, prompt
        self._effort = steps.abilities.effort
        self._frames, self._tau, self._max_new = frames, tau, max_new
        self._length = length
        """Tokens expected in the end."""
        self._known = known
        self._scored: Scored | None = None
        self._scored_tokens: list[int] = []
        self._passes = self._generated = 0

    @property
    def _exact(self) -> bool:
        return self._tau >= EXACT

    def look(self, tokens: Sequence[int], sure: int) -> list[Doubt]:
        """What is not proven of `tokens`, of which the first `sure` need no proof."""
        abilities = self._steps.abilities
        proves = self._exact and abilities.proves
        if self._known is not None and proves:
            return self._prove(tokens, range(sure, len(tokens) + 1))
        self._passes += 1
        frames = 0 if abilities.remembers else self._frames
        self._scored = self._steps.score(self._encoded, self._prompt, tokens, frames)
        self._scored_tokens = list(tokens)
        if proves and abilities.remembers:  # that pass is proof already
            self._passes -= 1
            return self._prove(tokens, range(sure, len(tokens) + 1))
        doubts = unproven(self._scored, tokens, sure, abilities, self._tau)
        if doubts and proves and proof_pays(doubts, self._length, self._effort):
            return self._prove(tokens, [doubt.place for doubt in doubts])
        return doubts

    def _prove(self, tokens: Sequence[int], places: Sequence[int]) -> list[Doubt]:
        self._passes += 1
        margins = self._steps.prove(self._encoded, self._prompt, tokens)
        return unconfirmed(margins, tokens, places, self._steps.abilities)

    def settle(self, tokens: list[int], doubts: list[Doubt]) -> Outcome | tuple[list[int], int]:
        """Walk over the doubtful places; (tokens, sure) is the draft mended, to be looked at again.

        What was seen behind a confirmed token stays valid, its prefix is the same; so one pass serves the
        whole walk.
        """
        while doubts:
            place = doubts[0].place
            if doubts[0].is_tie:
                return self._ask_greedy(tokens, doubts)
            if (
                not self._steps.abilities.fast_prefix
                or place == len(tokens)
                or self._is_better_finished(doubts)
            ):
                return self.finish(tokens[:place], tokens[place:])
            found = self._generate(tokens[:place], min(doubts[0].look_ahead, self._max_new - place))
            if self._is_unsure(found, tokens[place:]):
                return self._plain()
            whole = [*tokens[:place], *found.tokens]
            if found.ended:
                return self._end(whole, found)
            if whole != tokens[: len(whole)]:
                self._known = None
                return whole + recycle(found.tokens, tokens, place), len(whole)
            doubts = [doubt for doubt in doubts if doubt.place >= len(whole)]
        return self._accept(tokens)

    def finish(self, tokens: list[int], drafted: Sequence[int] = ()) -> Outcome:
        """Keep `tokens`, which are greedy's, and generate the rest, for which there is `drafted`."""
        length = max(self._length, len(tokens))
        fast = self._steps.abilities.fast_prefix and bool(tokens)
        if not fast or finish_cost(len(tokens), length, self._effort) >= plain_cost(length, self._effort):
            return self._plain()
        rest = self._generate(tokens, self._max_new - len(tokens))
        unsure = self._is_unsure(rest, drafted)
        return self._plain() if unsure else self._end([*tokens, *rest.tokens], rest)

    def _is_better_finished(self, doubts: Sequence[Doubt]) -> bool:
        settled = settle_cost(doubts, self._length, self._effort)
        return finish_cost(doubts[0].place, self._length, self._effort) <= settled

    def _ask_greedy(self, tokens: list[int], doubts: Sequence[Doubt]) -> Outcome:
        """Greedy decoding up to the last tie, where nothing else is in doubt; else all of it."""
        wanted = doubts[-1].place + 1
        if not all(doubt.is_tie for doubt in doubts) or wanted + _WORTH_ASKING > len(tokens):
            return self._plain()
        found = self._generate((), wanted)
        if found.ended:
            return self._end(list(found.tokens), found, accepted=0)
        same = list(found.tokens) == tokens[:wanted]
        return self._accept(tokens) if same else self.finish(list(found.tokens))

    def _plain(self) -> Outcome:
        found = self._generate((), self._max_new)
        return self._outcome(found.tokens, ended=found.ended, accepted=0, avg_logprob=found.avg_logprob)

    def _generate(self, prefix: Sequence[int], limit: int) -> Generated:
        self._passes += 1
        found = self._steps.generate(
            self._encoded, self._prompt, prefix=prefix, max_new=limit, judge_speech=False
        )
        self._generated += len(found.tokens)
        return found

    def _is_unsure(self, found: Generated, drafted: Sequence[int]) -> bool:
        """Did rounding decide one of the tokens that were generated behind a prefix read in one pass?"""
        agreed = common(found.tokens, drafted)
        return self._exact and is_decided_by_rounding(found.margins, agreed, self._effort)

    def _end(self, tokens: list[int], found: Generated, accepted: int | None = None) -> Outcome:
        """The text is `tokens`; the last of them, and whether it ends there, are `found`'s."""
        written = len(found.tokens) + 1
        kept = len(tokens) - len(found.tokens)
        if self._scored is None:
            before = (self._known or 0.0) * kept
        else:
            kept = min(kept, common(tokens, self._scored_tokens))
            before = total_logprob(self._scored.probabilities[:kept])
        mean = (before + found.avg_logprob * written) / (kept + written)
        return self._outcome(tokens, ended=found.ended, accepted=accepted, avg_logprob=mean)

    def _accept(self, tokens: Sequence[int]) -> Outcome:
        mean = self._known or 0.0 if self._scored is None else mean_logprob(self._scored)
        return self._outcome(tokens, ended=True, avg_logprob=mean)

    def _outcome(
        self,
        tokens: Sequence[int],
        *,
        ended: bool,
        avg_logprob: float,
        accepted: int | None = None,
    ) -> Outcome:
        seen = self._scored is not None and list(tokens) == self._scored_tokens
        seen = seen and not self._steps.abilities.remembers
        return Outcome(
            tokens=tuple(tokens),
            ended=ended,
            accepted=max(0, len(tokens) - self._generated) if accepted is None else accepted,
            passes=self._passes,
            avg_logprob=avg_logprob,
            scored=self._scored if seen else None,
        )
