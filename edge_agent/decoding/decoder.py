"""One utterance, start to end: features, context, encode, draft or greedy, guard, words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import numpy as np

from edge_agent.decoding import align, context, features, guards
from edge_agent.decoding.context import Rule, Table, Window
from edge_agent.decoding.drafts import Draft, Draftsman
from edge_agent.decoding.speculate import EXACT, NEAR, verify
from edge_agent.decoding.steps import Encoded, Scored, Steps
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.types import SAMPLE_RATE_HZ, DecodeCost, DecodeOptions, Hypothesis, PcmFloat, Value, Word

Part: TypeAlias = Literal["features", "encode", "decode", "align"]

QUIET_PEAK = 1e-4
"""Sound that never exceeds this (3 steps of a 16-bit sample) is digital silence; nothing is decoded."""
_FALLBACK_BEAM = 5
_FALLBACK_TEMPERATURE = 0.4
_SOFT = frozenset({"", "low_logprob", "empty"})
"""Suspicions worth one retry only: the text may well be right."""


class Settings(Value, frozen=True):
    """What the profile decides about decoding."""

    context: Literal["auto", "full"] = "auto"
    """auto: as the table of the model's languages says; full: 30 s always."""
    near: bool = False
    """Accept draft tokens from a probability of 0.3: faster, other words than greedy's now and then."""


class Heard(Value, frozen=True):
    """One decode of one window."""

    text: str
    tokens: tuple[int, ...]
    ended: bool
    avg_logprob: float
    no_speech_prob: float
    scored: Scored | None = None


class Meter:
    """Adds up where the time of one utterance goes."""

    def __init__(self) -> None:
        self.spent: dict[Part, float] = {"features": 0.0, "encode": 0.0, "decode": 0.0, "align": 0.0}
        self.passes = self.drafted = self.accepted = self.retries = 0
        self.context_s = 0.0

    @contextmanager
    def during(self, part: Part) -> Iterator[None]:
        """Time spent inside counts as `part`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.spent[part] += 1e3 * (time.perf_counter() - started)

    def cost(self) -> DecodeCost:
        """The sums so far."""
        return DecodeCost(
            features_ms=self.spent["features"],
            encode_ms=self.spent["encode"],
            decode_ms=self.spent["decode"],
            align_ms=self.spent["align"],
            context_s=self.context_s,
            retries=self.retries,
            drafted_tokens=self.drafted,
            accepted_tokens=self.accepted,
            passes=self.passes,
        )


class Decoder:
    """Decodes utterances on `Steps`; threads may share it."""

    def __init__(
        self,
        steps: Steps,
        tokenizer: Tokenizer,
        *,
        settings: Settings | None = None,
        table: Table | None = None,
        draftsman: Draftsman | None = None,
    ) -> None:
        self.steps = steps
        self.tokenizer = tokenizer
        self.settings = settings or Settings()
        self.table = table or context.shipped_table()
        self.drafts = draftsman or Draftsman()

    def warm_up(self) -> None:
        """Run the shapes in use once: the library builds a kernel for each."""
        rng = np.random.default_rng(0)
        for seconds in (1.5, 8.0):
            sound = rng.normal(0.0, 0.02, int(seconds * SAMPLE_RATE_HZ)).astype(np.float32)
            _Utterance(self, sound, DecodeOptions(language=self.steps.abilities.languages[0])).attempt_short()

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        """Recognise float32[samples] at 16 kHz, at most 30 s.

        Args:
            draft: what was heard in an earlier part of the same sound; never changes the words.
        """
        if len(pcm) == 0 or float(np.abs(pcm).max()) < QUIET_PEAK:
            return Hypothesis(text="", language=_language_asked(options) or "en", flags=("quiet",))
        return _Utterance(self, pcm, options, draft).decode()


class _Utterance:
    """The decode of one utterance: what is known of it so far."""

    def __init__(
        self, decoder: Decoder, pcm: PcmFloat, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> None:
        self.decoder = decoder
        self.steps = decoder.steps
        self.options = options
        self.draft = draft
        self.meter = Meter()
        with self.meter.during("features"):
            self.mel = features.log_mel(pcm, self.steps.abilities.mels)
        self.seconds = len(pcm) / SAMPLE_RATE_HZ
        self.language = _language_asked(options) or "en"
        self.language_probability = 1.0
        self.window = context.FULL
        self.encoded: Encoded = None

    @property
    def rule(self) -> Rule:
        if self.decoder.settings.context == "full":
            return Rule(context="full")
        return self.decoder.table.rule(self.language)

    def decode(self) -> Hypothesis:
        heard = self.attempt_short()
        for window in self.retries():
            if not self.suspicion(heard):
                break
            heard = self.better(heard, self.attempt(window, self.options.beam))
        if self.suspicion(heard) not in _SOFT:
            heard = self.better(heard, self.attempt(context.FULL, _FALLBACK_BEAM))
        if self.suspicion(heard) not in _SOFT:
            heard = self.better(heard, self.attempt(context.FULL, 1, temperature=_FALLBACK_TEMPERATURE))
        return self.finish(heard)

    def retries(self) -> list[Window]:
        """Other views of the sound, for when the short one is in doubt."""
        if self.window == context.FULL:
            return []
        frames, mels = self.mel.shape[1], self.steps.abilities.mels
        return [context.longer(self.window), context.padded(frames, self.rule, mels)]

    def suspicion(self, heard: Heard) -> str:
        return guards.suspicion(self.sample(heard), min_logprob=self.rule.min_logprob)

    def attempt_short(self) -> Heard:
        """The first decode: shortest window, language found when it is not given, draft tried."""
        self.encode(context.short(self.mel.shape[1], self.rule, self.steps.abilities.mels))
        if _language_asked(self.options) is None:
            self.detect()
            wanted = context.short(self.mel.shape[1], self.rule, self.steps.abilities.mels)
            if wanted != self.window:
                self.encode(wanted)
        draft = self.decoder.drafts.offer(self.draft, self.options) if self.options.beam == 1 else None
        return self.verified(draft) if draft else self.generated(self.options.beam)

    def attempt(self, window: Window, beam: int, temperature: float = 0.0) -> Heard:
        """A repeated decode."""
        self.meter.retries += 1
        if window != self.window:
            self.encode(window)
        return self.generated(beam, temperature)

    def encode(self, window: Window) -> None:
        with self.meter.during("encode"):
            # The full window is padded as the reference decoder does it, so that its words are the same.
            padding = 0.0 if window == context.FULL else features.silence_value(self.mel)
            mel = features.fit(self.mel, window.frames, padding=padding)
            self.encoded = self.steps.encode(mel, window.positions)
        self.window = window
        self.meter.context_s = window.seconds

    def detect(self) -> None:
        with self.meter.during("decode"):
            ranked = self.steps.detect_language(self.encoded)
        allowed = {_primary(code) for code in self.options.allowed_languages}
        heard = [pair for pair in ranked if pair[0] in allowed] if allowed else list(ranked)
        self.language, self.language_probability = (heard or list(ranked) or [("en", 1.0)])[0]

    def prompt(self) -> list[int]:
        return self.decoder.tokenizer.sot_sequence(self.language, self.options.task)

    def generated(self, beam: int, temperature: float = 0.0) -> Heard:
        cap = 224 if self.window == context.FULL else guards.token_cap(self.seconds, self.language)
        with self.meter.during("decode"):
            found = self.steps.generate(
                self.encoded, self.prompt(), beam=beam, max_new=cap, temperature=temperature
            )
        self.meter.passes += 1
        return Heard(
            text=self.decoder.tokenizer.decode(found.tokens).strip(),
            tokens=found.tokens,
            ended=found.ended,
            avg_logprob=found.avg_logprob,
            no_speech_prob=found.no_speech_prob,
        )

    def verified(self, draft: Draft) -> Heard:
        with self.meter.during("decode"):
            found = verify(
                self.steps,
                self.encoded,
                self.prompt(),
                draft.tokens,
                frames=self.mel.shape[1],
                tau=NEAR if self.decoder.settings.near else EXACT,
                max_new=guards.token_cap(self.seconds, self.language),
            )
        self.meter.passes += found.passes
        self.meter.drafted += len(draft.tokens)
        self.meter.accepted += found.accepted
        self.decoder.drafts.learn(draft, found)
        return Heard(
            text=self.decoder.tokenizer.decode(found.tokens).strip(),
            tokens=found.tokens,
            ended=found.ended,
            avg_logprob=found.avg_logprob,
            no_speech_prob=draft.no_speech_prob,
            scored=found.scored,
        )

    def better(self, first: Heard, second: Heard) -> Heard:
        """Of two decodes the sound one; of two sound ones the one the model finds likelier."""
        broken = [self.suspicion(heard) not in _SOFT for heard in (first, second)]
        if broken[0] != broken[1]:
            return second if broken[0] else first
        silent = [not guards.spoken(heard.text) for heard in (first, second)]
        if silent[0] != silent[1]:
            return second if silent[0] else first
        return second if second.avg_logprob > first.avg_logprob else first

    def sample(self, heard: Heard) -> guards.Sample:
        return guards.Sample(
            text=heard.text,
            tokens=heard.tokens,
            ended=heard.ended,
            avg_logprob=heard.avg_logprob,
            no_speech_prob=heard.no_speech_prob,
            speech_s=self.seconds,
            language=self.language,
        )

    def finish(self, heard: Heard) -> Hypothesis:
        rejected = guards.rejection(self.sample(heard))
        words: tuple[Word, ...] = ()
        if self.options.words and heard.tokens and not rejected:
            scored = heard.scored
            if scored is None:
                with self.meter.during("align"):
                    scored = self.steps.score(self.encoded, self.prompt(), heard.tokens, self.mel.shape[1])
                self.meter.passes += 1
            words = align.words(heard.tokens, scored, self.decoder.tokenizer, duration_s=self.seconds)
        return Hypothesis(
            text=heard.text,
            tokens=heard.tokens,
            words=words,
            language=self.language,
            language_probability=self.language_probability,
            avg_logprob=heard.avg_logprob,
            no_speech_prob=heard.no_speech_prob,
            compression_ratio=guards.compression_ratio(heard.text),
            rejected=rejected,
            cost=self.meter.cost(),
        )


def _primary(code: str) -> str:
    return code.split("-", maxsplit=1)[0].lower()


def _language_asked(options: DecodeOptions) -> str | None:
    return None if options.language == "auto" else _primary(options.language)
