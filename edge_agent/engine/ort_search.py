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


_NEAR_NATS = (np.float32(8.0), np.float32(16.0), np.float32(np.inf))
"""How far below the best one candidates are looked for; the last admits all."""


class Found(Value, frozen=True):
    """What a search found."""

    tokens: tuple[int, ...]
    ended: bool
    sum_logprob: float
    """Over the tokens and, when it ended, the end of text, nats."""
    logprobs: tuple[float, ...] = ()
    """Of each, where one hypothesis was followed."""
    leads: tuple[float, ...] = ()
    """By so many nats each led the best other one, likewise."""


def normaliser(logits: Logits) -> NDArray[np.float32]:
    """Log of the sum of exponentials along the last axis: what a logit less this is, is a log-probability."""
    largest = logits.max(axis=-1, keepdims=True)
    sums = np.exp(logits - largest).sum(axis=-1)
    return np.asarray(largest[..., 0] + np.log(sums), dtype=np.float32)


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
    logprobs: list[float] = []
    leads: list[float] = []
    logits = first
    while True:
        token = int(logits.argmax())
        if temperature > 0 and rng is not None:
            # Gumbel's trick: the largest of log p + noise is a draw from p.
            noise = rng.gumbel(size=len(logits)).astype(np.float32)
            token = int((logits / np.float32(temperature) + noise).argmax())
        logprobs.append(float(logits[token] - normaliser(logits)))
        leads.append(lead(logits, token))
        if token != eot:
            chosen.append(token)
        if token == eot or len(chosen) == max_new:
            return Found(
                tokens=tuple(chosen),
                ended=token == eot,
                sum_logprob=sum(logprobs),
                logprobs=tuple(logprobs),
                leads=tuple(leads),
            )
        logits = advance([token], [0])[0]


def _best(values: Logits, count: int) -> NDArray[np.intp]:
    """Places of the `count` largest finite values, the largest first.

    Nearly all are far below: those near the top are picked out before anything is sorted.
    """
    top = values.max()
    near = np.empty(0, dtype=np.intp)
    for below in _NEAR_NATS:
        near = np.flatnonzero(values >= top - below)
        if len(near) >= count:
            break
    near = near[np.isfinite(values[near])]
    return near[np.argsort(-values[near], kind="stable")][:count]


def lead(logits: Logits, token: int) -> float:
    """Nats between a token and the best other one."""
    own = logits[token]
    logits[token] = -np.inf
    between = float(own - logits.max())
    logits[token] = own
    return between


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
        totals = logits + (sums - normaliser(logits))[:, None]
        size = totals.shape[1]
        flat = totals.reshape(-1)
        order: list[int] = []
        last: list[int] = []
        for place in _best(flat, 2 * width):
            if len(order) == width:  # an end that is less likely than all that go on is none
                break
            parent, token = divmod(int(place), size)
            total = float(flat[place])
            if token == eot:
                finished.append(Found(tokens=held[parent], ended=True, sum_logprob=total))
            else:
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
