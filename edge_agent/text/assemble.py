"""From what the engine heard to what is published: clean text, one confidence, flags. Pure."""

from __future__ import annotations

import math

from edge_agent.types import Hypothesis, Utterance, Value

_REPLACEMENT = "\ufffd"


class Finished(Value, frozen=True):
    """What is said of one utterance."""

    text: str
    confidence: float
    """0..1, the geometric mean of the token probabilities."""
    flags: tuple[str, ...]
    rejected: str
    """Why nothing is said (the name of a guard, or "empty"); empty when the text is published."""


def finish(utterance: Utterance, hypothesis: Hypothesis) -> Finished:
    """Decide what to say of an utterance, and with which flags."""
    text = " ".join(hypothesis.text.replace(_REPLACEMENT, "").split())
    rejected = hypothesis.rejected or ("" if _has_words(text) else "empty")
    flags = list(hypothesis.flags)
    if utterance.cut != "silence":
        flags.append(f"cut:{utterance.cut}")
    return Finished(
        text="" if rejected else text,
        confidence=confidence(hypothesis),
        flags=tuple(flags),
        rejected=rejected,
    )


def confidence(hypothesis: Hypothesis) -> float:
    """exp of the mean log-probability, kept within 0..1."""
    return min(1.0, math.exp(min(0.0, hypothesis.avg_logprob)))


def _has_words(text: str) -> bool:
    return any(character.isalnum() for character in text)
