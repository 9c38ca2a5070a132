"""What decoding needs of an engine: encode, generate, score. Token ids are those of standard Whisper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from edge_agent.decoding.features import Mel
from edge_agent.types import Value

Encoded: TypeAlias = Any
"""An encoder output; only the engine that made it knows what is inside."""

POSITION_S = 0.02
"""Seconds of one encoder position (two feature frames)."""


class Effort(Value, frozen=True):
    """What calls cost, in steps of plain decoding, and how far their roundings differ. The defaults are
    CTranslate2's with whisper-base int8 on a 10 s view, 6 ms of one core a step: whatever the call, the
    library first projects the encoder output for the cross-attention (2 steps), which is most of a scoring
    pass. Larger models have about the same ratios.
    """

    look: float = 2.7
    """A scoring pass."""
    look_token: float = 0.0
    """For each token of it."""
    proof: float = 2.7
    """A proof of what was scored."""
    plain: float = 1.6
    """Before the first token of plain decoding; what a pass that was made already has done is not in it."""
    go_on: float = 3.0
    """Before the first token behind a prefix."""
    go_on_token: float = 1.08
    favoured: float = 0.05
    """Nats by which a pass over many tokens must favour a token to prove it. Against decoding token by
    token such passes moved the best tokens by up to 0.8, but of 278 recordings one in twenty held a token
    whose best rival changed, and one in a hundred one that changed by more than 0.15. Of 177 tokens that a
    draft of an earlier moment had wrong two were favoured, by 0.01 and 0.33: a draft is seldom the rival, so
    less is asked of what speaks for it."""
    refuted: float = 0.45
    """Nats by which it must favour another one to refute it."""
    written: float = 0.15
    """Nats that must lie between a token written behind such a pass and the next best one."""
    ties: float = 0.03
    """Share of generated tokens that rounding may decide: then all is decoded anew."""


class Abilities(Value, frozen=True):
    """What a model and its engine can do."""

    mels: int
    multilingual: bool
    languages: tuple[str, ...]
    suppressed: frozenset[int] = frozenset()
    """Never generated: signs that are not speech, and task tokens."""
    suppressed_first: frozenset[int] = frozenset()
    """Not generated as the first token: blank and end of text."""
    scores_end: bool = False
    """`score` judges the end of the text."""
    fast_prefix: bool = False
    """`generate` takes a text prefix in one pass instead of one step a token."""
    proves: bool = False
    """`prove` tells whether tokens are the best ones."""
    remembers: bool = False
    """Scoring again what was read last costs next to nothing: places are asked for when they are wanted."""
    notes: tuple[str, ...] = ()
    effort: Effort = Effort()


class Generated(Value, frozen=True):
    """Tokens an engine chose."""

    tokens: tuple[int, ...]
    """After the prefix, without the end of text."""
    ended: bool
    """The model ended the text itself; False: `max_new` stopped it."""
    avg_logprob: float = 0.0
    """Mean log-probability, nats, over these tokens and the end of text."""
    no_speech_prob: float = 0.0
    margins: tuple[float, ...] = ()
    """After a prefix that was read in one pass: nats between each token (where it ended, the end as well) and
    the next best one."""


class Scored(Value, frozen=True):
    """What the model thinks of given tokens, from one parallel pass."""

    probabilities: tuple[float, ...]
    """Of each token after those before it."""
    end_probability: float | None = None
    """That the text ends after the last token; None when the model cannot judge it."""
    path: tuple[tuple[int, int], ...] = ()
    """Monotonic alignment: (token index, encoder position) pairs."""
    sure: tuple[float, ...] = ()
    """Of each token, as `probabilities`, but that it is what was said (`alike`). Empty from an engine that
    does not know what else might have come."""


class Steps(Protocol):
    """An engine that can be driven step by step. Methods block, may be called from several threads, and
    raise `EngineError` only."""

    @property
    def abilities(self) -> Abilities:
        """What it can do; constant."""
        ...

    def encode(self, mel: Mel, positions: int = 0) -> Encoded:
        """Encode float32[mels, frames], frames even and at most 3000.

        Args:
            positions: when above frames / 2, the output is extended to so many positions with what the
                encoder makes of silence there; costs a copy instead of encoding.
        """
        ...

    def generate(
        self,
        encoded: Encoded,
        prompt: Sequence[int],
        *,
        prefix: Sequence[int] = (),
        beam: int = 1,
        max_new: int = 224,
        temperature: float = 0.0,
        judge_speech: bool = True,
    ) -> Generated:
        """Continue `prompt` (it ends in the no-timestamps token) and `prefix` by at most `max_new` tokens.

        Args:
            judge_speech: ask for `no_speech_prob`; costs half a token step.
        """
        ...

    def score(self, encoded: Encoded, prompt: Sequence[int], tokens: Sequence[int], frames: int) -> Scored:
        """Probability of each of `tokens` after `prompt`, and their place in the first `frames` features; 0:
        no places are wanted, which only engines that remember are asked."""
        ...

    def prove(self, encoded: Encoded, prompt: Sequence[int], tokens: Sequence[int]) -> tuple[float, ...]:
        """For each of `tokens` and the end after them: nats between it and the best other one, never too
        many; negative where another is better.

        One pass; only where `abilities.proves`. Beyond half a nat or so the figure only tells the sign.
        """
        ...

    def detect_language(self, encoded: Encoded) -> tuple[tuple[str, float], ...]:
        """(language code, probability), best first; empty for an English-only model."""
        ...
