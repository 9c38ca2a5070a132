"""Domain words: a prompt that prepares the model for them, and a guard against hearing them anywhere. Pure.

A prompt raises the probability of its words, also where they were not said. So a text in which a term appears
is held against the same sound without the prompt: the term stays only if plain decoding prints it as well, or
finds it nearly as likely as what it prints itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from edge_agent.decoding.steps import Scored
from edge_agent.decoding.tokens import Tokenizer

TOKEN_BUDGET = 100
"""Of the prompt. Each of its tokens is read once per decode, and long prompts harm short utterances."""
MAX_LOSS = 6.0
"""Nats by which a text with a term may be less likely, without the prompt, than plain decoding's own text."""
MIN_WORST = 0.002
"""No token of a text with a term may be less likely than this without the prompt."""


def prompt_tokens(prompt: str, terms: Sequence[str], tokenizer: Tokenizer) -> list[int]:
    """Tokens that go before the start of transcript, within the budget; empty for no prompt and no terms.

    The prompt's end and the first terms are kept when not all fit.
    """
    tokens: list[int] = []
    if prompt.strip():
        tokens = tokenizer.encode(" " + prompt.strip())[-TOKEN_BUDGET:]
    written = 0
    for term in terms:
        piece = tokenizer.encode(("," if written else "") + " " + term.strip())
        if len(tokens) + len(piece) + 1 > TOKEN_BUDGET:
            break
        tokens += piece
        written += 1
    if written:
        tokens += tokenizer.encode(".")
    return [tokenizer.special.sot_prev, *tokens] if tokens else []


def present(terms: Sequence[str], text: str) -> frozenset[str]:
    """Those of `terms` that are in `text` as whole words (in scripts without spaces: anywhere)."""
    folded = _folded(text)
    return frozenset(term for term in terms if term.strip() and _holds(folded, _folded(term)))


def is_borne_out(biased: Scored, plain: Scored) -> bool:
    """Does the sound alone bear out the text with the term?

    Args:
        biased: the text with the term, scored without the prompt.
        plain: plain decoding's text, scored without the prompt.
    """
    if biased.probabilities and min(biased.probabilities) < MIN_WORST:
        return False
    return total_logprob(biased) >= total_logprob(plain) - MAX_LOSS


def total_logprob(scored: Scored) -> float:
    """Sum over the tokens and, where it was judged, the end."""
    ends = () if scored.end_probability is None else (scored.end_probability,)
    return sum(math.log(max(p, 1e-10)) for p in (*scored.probabilities, *ends))


def _holds(text: str, term: str) -> bool:
    if re.search(r"[㐀-鿿぀-ヿ]", term):
        return term in text
    return re.search(rf"(?<!\w){re.escape(term)}(?!\w)", text) is not None


def _folded(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s'-]", " ", text.casefold()).split())
