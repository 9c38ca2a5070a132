"""Choosing tokens from logits: greedy, sampled, and beam search. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.types import Value

Logits: TypeAlias = NDArray[np.float32]
Advance: TypeAlias = Callable[[Sequence[int], Sequence[int]], Logits]
"""(last token of each hypothesis, which held hypothesis each goes on from) -> float32[hypotheses, rows]."""


class Found(Value, frozen=True):
    """What a search found."""

    tokens: tuple[int, ...]
    ended: bool
    sum_logprob: float
    """Over the tokens and, when it ended, the end of text, nats."""


def log_softmax(logits: Logits) -> Logits:
    """Along the last axis, in place."""
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits


def greedy(
    first: Logits,
    advance: Advance,
    *,
    eot: int,
    max_new: int,
    temperature: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Found:
    """One hypothesis: the best token each time, or one drawn at `temperature`.

    Args:
        first: float32[rows], logits of the first token, forbidden ones at -inf.
        advance: answers logits with forbidden ones at -inf.
    """
    chosen: list[int] = []
    total, logits = 0.0, first
    while True:
        chances = log_softmax(logits.copy())
        token = int(chances.argmax())
        if temperature > 0 and rng is not None:
            # Gumbel's trick: the largest of log p + noise is a draw from p.
            noise = rng.gumbel(size=len(chances)).astype(np.float32)
            token = int((chances / np.float32(temperature) + noise).argmax())
        total += float(chances[token])
        if token == eot:
            return Found(tokens=tuple(chosen), ended=True, sum_logprob=total)
        chosen.append(token)
        if len(chosen) == max_new:
            return Found(tokens=tuple(chosen), ended=False, sum_logprob=total)
        logits = advance([token], [0])[0]


def beam(first: Logits, advance: Advance, *, eot: int, max_new: int, width: int) -> Found:
    """The likeliest of up to `width` finished hypotheses by mean log-probability.

    Every step keeps the `width` best unfinished ones of 2 x `width` candidates; it ends once `width` have
    finished (patience 1, as the reference decoder).
    """
    held: list[tuple[int, ...]] = [()]
    sums = np.zeros(1, dtype=np.float32)
    logits = first[None]
    finished: list[Found] = []
    for _ in range(max_new):
        totals = sums[:, None] + log_softmax(logits.copy())
        size = totals.shape[1]
        flat = totals.reshape(-1)
        count = min(2 * width, flat.size)
        best = np.argpartition(-flat, count - 1)[:count]
        best = best[np.argsort(-flat[best], kind="stable")]
        order: list[int] = []
        last: list[int] = []
        for place in best:
            parent, token = divmod(int(place), size)
            total = float(flat[place])
            if token == eot and np.isfinite(total):
                finished.append(Found(tokens=held[parent], ended=True, sum_logprob=total))
            elif len(order) < width and np.isfinite(total):
                order.append(parent)
                last.append(token)
        if len(finished) >= width or not order:
            break
        sums = np.array([totals[p, t] for p, t in zip(order, last, strict=True)], dtype=np.float32)
        held = [(*held[parent], token) for parent, token in zip(order, last, strict=True)]
        if len(held[0]) == max_new:
            break
        logits = advance(last, order)
    if len(finished) < width:  # the longest allowed text was reached; those still open count as they are
        finished += [
            Found(tokens=tokens, ended=False, sum_logprob=float(total))
            for tokens, total in zip(held, sums, strict=True)
        ]
    return max(finished, key=lambda one: one.sum_logprob / (len(one.tokens) + 1))
