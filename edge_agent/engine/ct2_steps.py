"""CTranslate2's Whisper as `Steps`: calls, limits and token ids as the library wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_agent.decoding.features import Mel
from edge_agent.decoding.steps import Abilities, Encoded, Generated, Scored
from edge_agent.engine.ct2_layout import Layout
from edge_agent.errors import EngineError

MAX_LENGTH = 448
"""Positions of Whisper's decoder."""


class Ct2Steps:
    """Drives one `ctranslate2.models.Whisper`; safe to share between as many threads as it has workers."""

    def __init__(self, model: Any, layout: Layout, abilities: Abilities) -> None:
        self._model = model
        self._layout = layout
        self._abilities = abilities
        self._suppress = layout.suppress(sorted(abilities.suppressed))

    @property
    def abilities(self) -> Abilities:
        return self._abilities

    def encode(self, mel: Mel) -> Encoded:
        import ctranslate2

        mels, frames = mel.shape
        # The library takes an encoder output of exactly `mels` positions for features and re-encodes it.
        if frames in (2 * mels, 2 * mels - 1):
            raise EngineError(
                f"{frames} feature frames cannot be told from features", remedy="encode two frames more"
            )
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel[None]))
        return _call(self._model.encode, view)

    def generate(
        self,
        encoded: Encoded,
        prompt: Sequence[int],
        *,
        prefix: Sequence[int] = (),
        beam: int = 1,
        max_new: int = 224,
        temperature: float = 0.0,
    ) -> Generated:
        new = min(max_new, MAX_LENGTH // 2 - len(prefix), MAX_LENGTH + 1 - len(prompt) - len(prefix))
        if new < 1:
            return Generated(tokens=(), ended=False)
        # The library returns at most min(max_length / 2, max_length - (prompt - 1)) tokens, prefix included.
        wanted = len(prefix) + new
        result = _call(
            self._model.generate,
            encoded,
            [self._layout.rows([*prompt, *prefix])],
            beam_size=beam if temperature <= 0 else 1,
            max_length=max(2 * wanted, len(prompt) - 1 + wanted),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=not prefix,
            suppress_tokens=self._suppress,
            **({"sampling_topk": 0, "sampling_temperature": temperature} if temperature > 0 else {}),
        )[0]
        rows = result.sequences_ids[0]
        tokens = self._layout.tokens(rows)[len(prefix) :]
        return Generated(
            tokens=tuple(tokens),
            ended=len(rows) < wanted,
            avg_logprob=float(result.scores[0]) * len(rows) / (len(rows) + 1),
            no_speech_prob=float(result.no_speech_prob),
        )

    def score(self, encoded: Encoded, prompt: Sequence[int], tokens: Sequence[int], frames: int) -> Scored:
        mirror = self._layout.end_mirror
        start = self._layout.rows(prompt[:-1])  # the library adds the no-timestamps token itself
        text = self._layout.rows(tokens)
        given = text if mirror is None else [*text, mirror]
        result = _call(self._model.align, encoded, start, [given], max(2, frames))[0]
        probabilities = tuple(result.text_token_probs)
        if len(probabilities) != len(given):
            raise EngineError("the scoring pass lost tokens", remedy="report this model")
        return Scored(
            probabilities=probabilities[: len(text)],
            end_probability=None if mirror is None else probabilities[-1],
            path=tuple((int(token), int(place)) for token, place in result.alignments),
        )

    def detect_language(self, encoded: Encoded) -> tuple[tuple[str, float], ...]:
        if not self._abilities.multilingual:
            return ()
        ranked = _call(self._model.detect_language, encoded)[0]
        return tuple((name.strip("<|>"), float(probability)) for name, probability in ranked)


def _call(function: Any, *args: Any, **options: Any) -> Any:
    """Call the library; what it raises becomes an `EngineError`."""
    try:
        return function(*args, **options)
    except (RuntimeError, ValueError, TypeError) as error:
        raise EngineError(
            f"CTranslate2 failed: {' '.join(str(error).split())}",
            remedy="check the model with: edge-agent models verify",
        ) from error
