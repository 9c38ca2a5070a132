"""From sound to hypothesis: context, encode, draft or greedy, guard, retry, words."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import numpy as np
from msgspec.structs import replace

from edge_agent.decoding import align, context, features, guards, terms
from edge_agent.decoding.context import Rule, Table, View
from edge_agent.decoding.drafts import Books, Draft, DraftStatistics, Guess
from edge_agent.decoding.features import Mel
from edge_agent.decoding.speculate import EXACT, NEAR
from edge_agent.decoding.steps import Steps
from edge_agent.decoding.token_map import TokenMap
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.decoding.utterance import BROKEN, Heard, Utterance
from edge_agent.types import SAMPLE_RATE_HZ, DecodeOptions, Hypothesis, PcmFloat, Value, Word

Speculation: TypeAlias = Literal["auto", "off", "history", "draft", "terms"]

QUIET_PEAK = 1e-4
"""Sound that never exceeds this (3 steps of a 16-bit sample) is digital silence; nothing is decoded."""
_FALLBACK_BEAM = 5
_FALLBACK_TEMPERATURE = 0.4
_WARM_TOKENS = 8
_LIKELY_ENOUGH = 0.2
"""A draft that was likelier than asked for by so much is not doubted when more of the sound bears it out."""
_SEED_TOKENS = 4
"""Generated before the map of past sentences is asked how they go on."""


_FULL_RULE = Rule(context="full", retries=())


class Settings(Value, frozen=True):
    """What the profile decides about decoding."""

    context: Literal["auto", "full"] = "auto"
    """auto: as the table says for the language; full: 30 s always."""
    speculation: Speculation = "auto"
    """auto: the previous hypothesis, else the draft model where there is one; each as long as it pays."""
    near: bool = False
    """Accept draft tokens from a probability of 0.3: faster, other words than greedy's now and then."""


class DraftModel(Protocol):
    """A smaller model that guesses the text."""

    def guess(self, mel: Mel, seconds: float, language: str) -> Guess:
        """Text of the sound; empty: none."""
        ...


class Decoder:
    """Decodes utterances on `Steps`; threads may share it."""

    def __init__(
        self,
        steps: Steps,
        tokenizer: Tokenizer,
        *,
        settings: Settings | None = None,
        table: Table | None = None,
        draft_model: DraftModel | None = None,
    ) -> None:
        self.steps = steps
        self.tokenizer = tokenizer
        self.settings = settings or Settings()
        self._table = table or context.shipped_table()
        self._draft_model = draft_model
        self._books = Books(steps.abilities.effort)
        self._map = TokenMap()
        self._mapped_terms: tuple[str, ...] = ()

    @property
    def draft_statistics(self) -> tuple[DraftStatistics, ...]:
        """How each kind of draft does on this device."""
        return self._books.statistics()

    def warm_up(self) -> None:
        """Run the shapes in use once: the library builds a kernel for each. The last finds the decoder warm
        and tells the books what a token costs."""
        rng = np.random.default_rng(0)
        options = DecodeOptions(language=self.steps.abilities.languages[0])
        for seconds, is_last in ((0.8, False), (1.5, False), (8.0, True)):
            sound = rng.normal(0.0, 0.02, int(seconds * SAMPLE_RATE_HZ)).astype(np.float32)
            said = self._utterance(sound, options)
            self._look(said, options)
            heard = (
                self._generate(said, 1, max_new=_WARM_TOKENS)
                if is_last
                else said.generate(max_new=_WARM_TOKENS)
            )
            said.score(heard.tokens)

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        """Recognise float32[samples] at 16 kHz, at most 30 s.

        Args:
            draft: what was heard in an earlier part of the same sound; saves time, never changes words.
        """
        if len(pcm) == 0 or float(np.abs(pcm).max()) < QUIET_PEAK:
            return Hypothesis(text="", language=_asked(options) or "en", flags=("quiet",))
        said = self._utterance(pcm, options)
        self._look(said, options)
        probability = 1.0
        if _asked(options) is None and self.steps.abilities.multilingual:
            probability = said.detect(
                frozenset(map(_primary, options.allowed_languages)), options.usual_language
            )
            self._look(said, options)
        heard, flags = self._hear(said, options, draft)
        return self._finish(said, heard, options, flags, probability)

    def _utterance(self, pcm: PcmFloat, options: DecodeOptions) -> Utterance:
        language = _asked(options) or "en"
        if not self.steps.abilities.multilingual:
            language = "en"
        begin, end = self._span(pcm, language)
        return Utterance(
            self.steps,
            self.tokenizer,
            pcm[begin:end],
            language=language,
            task=options.task,
            begins_s=begin / SAMPLE_RATE_HZ,
        )

    def _span(self, pcm: PcmFloat, language: str) -> tuple[int, int]:
        """First and end sample of what is decoded: without the digital silence around it."""
        if self.settings.context == "full":
            return 0, len(pcm)
        begin, end = features.sounding(pcm, QUIET_PEAK)
        brief = end - begin < self._table.rule(language).brief_s * SAMPLE_RATE_HZ
        return (0, len(pcm)) if brief else (begin, end)

    def _rule(self, said: Utterance) -> Rule:
        return _FULL_RULE if self.settings.context == "full" else self._table.rule(said.language)

    def _look(self, said: Utterance, options: DecodeOptions) -> None:
        self._view(said, self._rule(said).views(said.seconds)[0], options)

    def _view(self, said: Utterance, view: View, options: DecodeOptions) -> None:
        mels, rule = self.steps.abilities.mels, self._rule(said)
        said.look(context.window(view, said.frames, rule, mels, growing=options.growing))

    def _hear(
        self, said: Utterance, options: DecodeOptions, history: Hypothesis | None
    ) -> tuple[Heard, tuple[str, ...]]:
        """Decode with the prompt, if there is one, and see that it put no words into the sound."""
        said.before = terms.prompt_tokens(options.prompt, options.terms, self.tokenizer)
        heard = self._decode(said, options, history)
        found = terms.present(options.terms, heard.text) if said.before else frozenset()
        if not found:
            return heard, ()
        said.before = ()
        plain = self._decode(said, options, None)
        if found <= terms.present(options.terms, plain.text):
            return heard, ()
        if terms.is_borne_out(said.score(heard.tokens), said.score(plain.tokens)):
            return heard, ("terms",)
        return plain, ("term_leak",)

    def _decode(self, said: Utterance, options: DecodeOptions, history: Hypothesis | None) -> Heard:
        rule = self._rule(said)
        heard = self._examined(said, self._first(said, options, history), options)
        for view in rule.views(said.seconds)[1:]:
            doubt = said.suspicion(heard, rule)
            if not doubt or (options.growing and doubt not in BROKEN):
                break
            heard = self._again(said, heard, view, options)
        if options.growing:
            return heard
        if said.suspicion(heard, rule) in BROKEN:
            heard = self._again(said, heard, "full", replace(options, beam=_FALLBACK_BEAM))
        if said.suspicion(heard, rule) in BROKEN:
            greedy = replace(options, beam=1)
            heard = self._again(said, heard, "full", greedy, temperature=_FALLBACK_TEMPERATURE)
        return heard

    def _again(
        self, said: Utterance, heard: Heard, view: View, options: DecodeOptions, temperature: float = 0.0
    ) -> Heard:
        said.meter.retries += 1
        self._view(said, view, options)
        other = self._generate(said, options.beam, temperature=temperature)
        return said.better(heard, self._examined(said, other, options), self._rule(said))

    def _examined(self, said: Utterance, heard: Heard, options: DecodeOptions) -> Heard:
        """With a scoring pass where a guard, or somebody who wants the words' times, looks at it."""
        rule = self._rule(said)
        heard = said.judged(heard)
        wanted = options.words and rule.max_unheard_s > 0 and not said.suspicion(heard, rule)
        return said.scored(heard) if rule.scores or wanted else heard

    def _first(self, said: Utterance, options: DecodeOptions, history: Hypothesis | None) -> Heard:
        draft = self._draft(said, options, history) if options.beam == 1 else None
        if draft is None:
            return self._generate(said, options.beam)
        rule = self._rule(said)
        likely = draft.avg_logprob is not None and draft.avg_logprob > rule.min_logprob + _LIKELY_ENOUGH
        weighed = options.words or rule.scores or not likely
        heard, outcome, spent_ms = said.verify(draft, NEAR if self.settings.near else EXACT, weighed=weighed)
        self._books.learn(draft, outcome, spent_ms, words=options.words)
        return heard

    def _generate(self, said: Utterance, beam: int, *, temperature: float = 0.0, max_new: int = 0) -> Heard:
        """Decode without a draft; greedy ones tell the books what a token costs."""
        before = said.meter.spent_ms["decode"]
        heard = said.generate(beam, temperature=temperature, max_new=max_new)
        if beam == 1 and said.window != context.FULL:
            self._books.learn_plain(len(heard.tokens), said.meter.spent_ms["decode"] - before)
        return heard

    def _draft(self, said: Utterance, options: DecodeOptions, history: Hypothesis | None) -> Draft | None:
        """The best guess at hand, of a kind that pays."""
        wanted = self.settings.speculation
        if history is not None and history.tokens and not history.rejected and wanted in ("auto", "history"):
            if self._books.ready("history"):
                return Draft(
                    kind="history",
                    tokens=history.tokens,
                    no_speech_prob=history.no_speech_prob,
                    avg_logprob=history.avg_logprob,
                )
            return None
        if self._draft_model is not None and wanted in ("auto", "draft") and self._books.ready("draft"):
            guess = self._draft_model.guess(said.mel, said.seconds, said.language)
            if not guess.text:
                return None
            return Draft(
                kind="draft",
                tokens=tuple(self.tokenizer.encode(" " + guess.text)),
                no_speech_prob=guess.no_speech_prob,
                made_ms=guess.made_ms,
            )
        if wanted == "terms" and self._books.ready("terms"):
            return self._mapped(said, options)
        return None

    def _mapped(self, said: Utterance, options: DecodeOptions) -> Draft | None:
        if options.terms != self._mapped_terms:
            self._mapped_terms = options.terms
            for term in options.terms:
                self._map.learn(self.tokenizer.encode(" " + term))
        before = said.meter.spent_ms["decode"]
        seed = said.generate(max_new=_SEED_TOKENS)
        made_ms = said.meter.spent_ms["decode"] - before
        rest = () if seed.ended else self._map.continuation(seed.tokens)
        return Draft(
            kind="terms",
            tokens=(*seed.tokens, *rest),
            sure=len(seed.tokens),
            no_speech_prob=seed.no_speech_prob,
            made_ms=made_ms,
        )

    def _finish(
        self,
        said: Utterance,
        heard: Heard,
        options: DecodeOptions,
        flags: tuple[str, ...],
        language_probability: float,
    ) -> Hypothesis:
        rejected = guards.rejection(said.sample(heard))
        words: tuple[Word, ...] = ()
        if options.words and heard.tokens and not rejected:
            scored = heard.scored or said.score(heard.tokens)
            words = align.words(
                heard.tokens, scored, self.tokenizer, duration_s=said.seconds, offset_s=said.begins_s
            )
            if guards.has_gap(words, said.seconds):
                flags = (*flags, "gap")
        if self.settings.speculation == "terms" and not rejected and heard.ended:
            self._map.learn(heard.tokens)
        return Hypothesis(
            text=heard.text,
            tokens=heard.tokens,
            words=words,
            language=said.language,
            language_probability=language_probability,
            avg_logprob=heard.avg_logprob,
            no_speech_prob=heard.no_speech_prob,
            compression_ratio=guards.compression_ratio(heard.text),
            rejected=rejected,
            flags=flags,
            cost=said.meter.cost(),
        )


def _primary(code: str) -> str:
    return code.split("-", maxsplit=1)[0].lower()


def _asked(options: DecodeOptions) -> str | None:
    return None if options.language == "auto" else _primary(options.language)
