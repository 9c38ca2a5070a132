"""One utterance, start to end: features, context, encode, decode, guard, words."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from edge_agent.decoding import features
from edge_agent.decoding.guards import compression_ratio
from edge_agent.decoding.steps import Encoded, Steps
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.types import DecodeCost, DecodeOptions, Hypothesis, PcmFloat, Value


class Settings(Value, frozen=True):
    """What the profile decides about decoding."""

    context: str = "full"


class Decoder:
    """Decodes utterances on `Steps`. Keeps no state between calls, so threads may share it."""

    def __init__(self, steps: Steps, tokenizer: Tokenizer, settings: Settings) -> None:
        self._steps = steps
        self._tokenizer = tokenizer
        self._settings = settings

    def warm_up(self) -> None:
        """Run the shapes in use once."""
        self.transcribe(np.zeros(16_000, dtype=np.float32), options=DecodeOptions())

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        """Recognise float32[samples] at 16 kHz, at most 30 s."""
        del draft
        started = time.perf_counter()
        mel = features.log_mel(pcm, self._steps.abilities.mels)
        featured = time.perf_counter()
        encoded = self._steps.encode(features.fit(mel, features.MAX_FRAMES))
        encoded_at = time.perf_counter()
        language, probability = self._language(encoded, options)
        result = self._steps.generate(encoded, self._prompt(language, options), beam=options.beam)
        text = self._tokenizer.decode(result.tokens).strip()
        return Hypothesis(
            text=text,
            tokens=result.tokens,
            language=language,
            language_probability=probability,
            avg_logprob=result.avg_logprob,
            no_speech_prob=result.no_speech_prob,
            compression_ratio=compression_ratio(text),
            cost=DecodeCost(
                features_ms=1e3 * (featured - started),
                encode_ms=1e3 * (encoded_at - featured),
                decode_ms=1e3 * (time.perf_counter() - encoded_at),
                context_s=features.MAX_FRAMES / features.FRAMES_PER_SECOND,
                passes=1,
            ),
        )

    def _language(self, encoded: Encoded, options: DecodeOptions) -> tuple[str, float]:
        if not self._steps.abilities.multilingual:
            return "en", 1.0
        if options.language != "auto":
            return options.language.split("-")[0].lower(), 1.0
        ranked = self._steps.detect_language(encoded)
        allowed = {language.split("-")[0].lower() for language in options.allowed_languages}
        heard = [pair for pair in ranked if pair[0] in allowed] if allowed else list(ranked)
        return heard[0] if heard else ranked[0]

    def _prompt(self, language: str, options: DecodeOptions) -> Sequence[int]:
        return self._tokenizer.sot_sequence(language, options.task)
