"""The decode of one utterance: one sound, seen through several windows, decoded in several ways."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from edge_agent.decoding import align, context, coverage, features, guards, languages
from edge_agent.decoding.context import Rule, Window
from edge_agent.decoding.drafts import Draft
from edge_agent.decoding.meter import Meter
from edge_agent.decoding.speculate import Outcome, verify
from edge_agent.decoding.steps import Encoded, Scored, Steps
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.types import SAMPLE_RATE_HZ, PcmFloat, Value, Word

BROKEN = frozenset({"no_end", "compression", "loop", "tail_is_head"})
"""Suspicions that a text is wrong in itself; the others only ask for a second opinion."""


class Heard(Value, frozen=True):
    """One decode of one window."""

    text: str
    tokens: tuple[int, ...]
    ended: bool
    avg_logprob: float
    no_speech_prob: float
    scored: Scored | None = None
    borrowed: bool = False
    """The no-speech probability is that of the draft, which heard less of the sound."""


class Utterance:
    """Keeps the features, the current window and its encoding, and the language.

    Args:
        pcm: float32[samples] at 16 kHz, at least one sample.
        language: code; may be changed once it is detected.
        begins_s: where `pcm` begins in the sound that word times count from.
    """

    def __init__(
        self,
        steps: Steps,
        tokenizer: Tokenizer,
        pcm: PcmFloat,
        *,
        language: str,
        task: str,
        begins_s: float = 0.0,
    ) -> None:
        self.meter = Meter()
        self.language = language
        self.seconds = len(pcm) / SAMPLE_RATE_HZ
        self.begins_s = begins_s
        self.before: Sequence[int] = ()
        """Tokens in front of the start of transcript: the prompt."""
        self.window = Window(frames=0)
        self._encoded: Encoded = None
        self._steps = steps
        self._tokenizer = tokenizer
        self._task = task
        with self.meter.during("features"):
            self.mel = features.log_mel(pcm, steps.abilities.mels)

    @property
    def frames(self) -> int:
        """Features that hold sound."""
        return int(self.mel.shape[1])

    def look(self, window: Window) -> None:
        """Encode for a window, unless that is the current one."""
        if window == self.window:
            return
        with self.meter.during("encode"):
            # The full window is padded as the reference decoder does it, so that its words are the same.
            padding = 0.0 if window == context.FULL else features.silence_value(self.mel)
            mel = features.fit(self.mel, window.frames, padding=padding)
            self._encoded = self._steps.encode(mel, window.positions)
        self.window = window
        self.meter.context_s = window.seconds

    def detect(self, allowed: frozenset[str], usual: str = "") -> float:
        """Set the language to one of `allowed` (empty: any), the usual one when in doubt; its probability."""
        with self.meter.during("decode"):
            ranked = self._steps.detect_language(self._encoded)
        self.language, probability = languages.choose(ranked, allowed, usual) or (self.language, 1.0)
        return probability

    def generate(self, beam: int = 1, *, temperature: float = 0.0, max_new: int = 0) -> Heard:
        """Decode without a draft."""
        with self.meter.during("decode"):
            found = self._steps.generate(
                self._encoded,
                self.prompt(),
                beam=beam,
                max_new=max_new or self.token_cap(),
                temperature=temperature,
            )
        self.meter.passes += 1
        return Heard(
            text=self._tokenizer.decode(found.tokens).strip(),
            tokens=found.tokens,
            ended=found.ended,
            avg_logprob=found.avg_logprob,
            no_speech_prob=found.no_speech_prob,
        )

    def verify(self, draft: Draft, tau: float, *, weighed: bool = True) -> tuple[Heard, Outcome, float]:
        """Decode with a draft; what was heard, how the draft did, and the milliseconds it took.

        Args:
            weighed: False lets a right draft keep the log-probability it has; nothing is scored then.
        """
        started = time.perf_counter()
        with self.meter.during("decode"):
            found = verify(
                self._steps,
                self._encoded,
                self.prompt(),
                draft.tokens,
                frames=self.frames,
                tau=tau,
                max_new=self.token_cap(),
                sure=draft.sure,
                avg_logprob=None if weighed else draft.avg_logprob,
            )
        self.meter.passes += found.passes
        self.meter.drafted += len(draft.tokens) - draft.sure
        self.meter.accepted += max(0, found.accepted - draft.sure)
        heard = Heard(
            text=self._tokenizer.decode(found.tokens).strip(),
            tokens=found.tokens,
            ended=found.ended,
            avg_logprob=found.avg_logprob,
            no_speech_prob=draft.no_speech_prob,
            scored=found.scored,
            borrowed=True,
        )
        return heard, found, 1e3 * (time.perf_counter() - started)

    def score(self, tokens: Sequence[int]) -> Scored:
        """The scoring pass over given tokens."""
        with self.meter.during("align"):
            scored = self._steps.score(self._encoded, self.prompt(), tokens, self.frames)
        self.meter.passes += 1
        return scored

    def prompt(self) -> list[int]:
        """What is before the text."""
        return [*self.before, *self._tokenizer.sot_sequence(self.language, self._task)]

    def token_cap(self) -> int:
        """Most tokens of the text; the full window has the reference's."""
        return 224 if self.window == context.FULL else guards.token_cap(self.seconds, self.language)

    def sample(self, heard: Heard) -> guards.Sample:
        """What the guards want to know."""
        words = self.words(heard)
        return guards.Sample(
            text=heard.text,
            tokens=heard.tokens,
            ended=heard.ended,
            avg_logprob=heard.avg_logprob,
            no_speech_prob=heard.no_speech_prob,
            speech_s=self.seconds,
            language=self.language,
            least_word=min((word.confidence for word in words), default=1.0),
            unheard_s=coverage.unheard_s(self.mel, words) if words else 0.0,
        )

    def words(self, heard: Heard) -> tuple[Word, ...]:
        """Words with times; none before the scoring pass."""
        if heard.scored is None:
            return ()
        return align.words(heard.tokens, heard.scored, self._tokenizer, duration_s=self.seconds)

    def suspicion(self, heard: Heard, rule: Rule) -> str:
        """Why another look may be worth while; empty when it is not."""
        return guards.suspicion(
            self.sample(heard),
            min_logprob=rule.min_logprob,
            min_token=rule.min_token,
            max_unheard_s=rule.max_unheard_s,
        )

    def judged(self, heard: Heard) -> Heard:
        """With what the guards must know where nobody may have spoken; the window must still be `heard`'s."""
        if heard.borrowed and heard.avg_logprob < guards.DOUBTFUL_LOGPROB:
            found = self.generate(max_new=1).no_speech_prob
            heard = msgspec.structs.replace(heard, no_speech_prob=found, borrowed=False)
        return self.scored(heard) if heard.no_speech_prob > guards.NO_SPEECH_PROB else heard

    def scored(self, heard: Heard) -> Heard:
        """With a scoring pass, if it has none yet."""
        if heard.scored is not None or not heard.tokens:
            return heard
        return msgspec.structs.replace(heard, scored=self.score(heard.tokens))

    def better(self, first: Heard, second: Heard, rule: Rule) -> Heard:
        """Of two decodes the sound one; of two sound ones the one the model finds likelier."""
        broken = [self.suspicion(heard, rule) in BROKEN for heard in (first, second)]
        if broken[0] != broken[1]:
            return second if broken[0] else first
        holes = [self._has_hole(heard, rule) for heard in (first, second)]
        if holes[0] != holes[1]:
            return second if holes[0] else first
        silent = [not guards.spoken(heard.text) for heard in (first, second)]
        if silent[0] != silent[1]:
            return second if silent[0] else first
        return second if second.avg_logprob > first.avg_logprob else first

    def _has_hole(self, heard: Heard, rule: Rule) -> bool:
        """Does it leave speech without a word? The likelihood does not tell: what is skipped costs none."""
        return 0 < rule.max_unheard_s < self.sample(heard).unheard_s
