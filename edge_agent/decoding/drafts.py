"""Where drafts come from, and whether they pay."""

from __future__ import annotations

import threading

from edge_agent.decoding.speculate import Outcome
from edge_agent.types import DecodeOptions, Hypothesis, Value


class Draft(Value, frozen=True):
    """A guess at the whole text."""

    kind: str
    tokens: tuple[int, ...]
    no_speech_prob: float = 0.0


class Draftsman:
    """Offers drafts and keeps count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def offer(self, history: Hypothesis | None, options: DecodeOptions) -> Draft | None:
        """The best draft at hand."""
        del options
        if history is None or not history.tokens or history.rejected:
            return None
        return Draft(kind="history", tokens=history.tokens, no_speech_prob=history.no_speech_prob)

    def learn(self, draft: Draft, outcome: Outcome) -> None:
        """Count how it went."""
