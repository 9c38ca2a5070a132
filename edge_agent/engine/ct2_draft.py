"""A smaller CTranslate2 Whisper that guesses for a larger one, on the same features."""

from __future__ import annotations

import time

from edge_agent.decoding import context, features, guards
from edge_agent.decoding.context import Rule
from edge_agent.decoding.drafts import Guess
from edge_agent.decoding.features import Mel
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.engine.ct2_steps import Ct2Steps

_RULE = Rule()


class Ct2Draft:
    """Greedy text of a short window; no retries, a wrong guess only costs time."""

    def __init__(self, steps: Ct2Steps, tokenizer: Tokenizer) -> None:
        self._steps = steps
        self._tokenizer = tokenizer

    def guess(self, mel: Mel, seconds: float, language: str) -> Guess:
        """Text of float32[mels, frames]; empty where the model cannot serve."""
        abilities = self._steps.abilities
        if mel.shape[0] != abilities.mels or language not in abilities.languages:
            return Guess()
        started = time.perf_counter()
        window = context.window("short", mel.shape[1], _RULE, abilities.mels)
        fitted = features.fit(mel, window.frames, padding=features.silence_value(mel))
        encoded = self._steps.encode(fitted, window.positions)
        found = self._steps.generate(
            encoded, self._tokenizer.sot_sequence(language), max_new=guards.token_cap(seconds, language)
        )
        text = self._tokenizer.decode(found.tokens).strip() if found.ended else ""
        return Guess(
            text=text,
            no_speech_prob=found.no_speech_prob,
            made_ms=1e3 * (time.perf_counter() - started),
        )
