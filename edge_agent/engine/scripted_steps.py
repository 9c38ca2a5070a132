"""`Steps` without a model: a made-up recogniser whose every choice is known, for exact tests of decoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from edge_agent.decoding.features import Mel
from edge_agent.decoding.steps import Abilities, Encoded, Generated, Scored
from edge_agent.types import Value

_TASK_TOKENS = 4
_RIVAL = 13
"""What passes over many tokens prefer at a tie."""
_NOISE, _CLEAR = 0.05, 0.9
"""Nats between a token and the next best."""


class Sound(Value, frozen=True):
    """What is said, as the made-up model hears it; stands for an encoder output."""

    tokens: tuple[int, ...]
    weak: frozenset[int] = frozenset()
    """Places (len(tokens) is the end) where the best token has a probability below one half."""
    ties: frozenset[int] = frozenset()
    """Places where rounding decides: passes over many tokens slightly prefer another one."""
    no_speech_prob: float = 0.01
    language: str = "en"
    loops: bool = False
    """The model finds no end: it starts again from the first token."""
    flat: bool = False
    """The model is unsure of everything."""
    biased: tuple[int, ...] = ()
    """What it hears instead after a prompt."""


class ScriptedSteps:
    """Greedy on a `Sound`; after a wrong prefix it goes on where the sound does, as a real model would.

    Args:
        hear: called for each `encode` with (features, positions).
    """

    def __init__(self, abilities: Abilities, hear: Callable[[Mel, int], Sound]) -> None:
        self.abilities = abilities
        self.calls: list[str] = []
        """Names of the calls so far."""
        self._hear = hear

    def encode(self, mel: Mel, positions: int = 0) -> Encoded:
        self.calls.append("encode")
        return self._hear(mel, positions)

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
        del beam, temperature, judge_speech
        self.calls.append("generate")
        encoded = _after(encoded, prompt)
        in_one_pass = bool(prefix) and self.abilities.fast_prefix
        tokens = list(prefix)
        margins = []
        logprob, ended = 0.0, False
        for _ in range(max_new):
            token, probability = _next(encoded, tokens)
            logprob += math.log(probability)
            if in_one_pass:
                tied = _place(encoded.tokens, tokens) in encoded.ties
                token = _RIVAL if tied else token
                margins.append(_NOISE if tied else _CLEAR)
            if token is None:
                ended = True
                break
            tokens.append(token)
        new = tokens[len(prefix) :]
        return Generated(
            tokens=tuple(new),
            ended=ended,
            avg_logprob=logprob / (len(new) + 1),
            no_speech_prob=encoded.no_speech_prob,
            margins=tuple(margins),
        )

    def score(self, encoded: Encoded, prompt: Sequence[int], tokens: Sequence[int], frames: int) -> Scored:
        self.calls.append("score")
        encoded = _after(encoded, prompt)
        chances = [_chance(encoded, tokens[:place], token) for place, token in enumerate(tokens)]
        step = max(1, frames // 2 // (len(tokens) + 1))
        return Scored(
            probabilities=tuple(chances),
            end_probability=_chance(encoded, tokens, None) if self.abilities.scores_end else None,
            path=tuple((place, place * step) for place in range(len(tokens) + 1)),
        )

    def prove(self, encoded: Encoded, prompt: Sequence[int], tokens: Sequence[int]) -> tuple[float, ...]:
        self.calls.append("prove")
        encoded = _after(encoded, prompt)
        return tuple(_margin(encoded, tokens[:place], token) for place, token in enumerate([*tokens, None]))

    def detect_language(self, encoded: Encoded) -> tuple[tuple[str, float], ...]:
        self.calls.append("detect_language")
        others = [(code, 0.02) for code in self.abilities.languages if code != encoded.language]
        return ((encoded.language, 0.9), *others)


def _after(sound: Sound, prompt: Sequence[int]) -> Sound:
    """The sound as heard after a prompt longer than the task tokens."""
    if sound.biased and len(prompt) > _TASK_TOKENS:
        return msgspec.structs.replace(sound, tokens=sound.biased)
    return sound


def _next(sound: Sound, prefix: Sequence[int]) -> tuple[int | None, float]:
    """The best token after a prefix (None: the end) and its probability."""
    place = _place(sound.tokens, prefix)
    chance = 0.45 if place in sound.weak or place in sound.ties else 0.9
    if sound.flat:
        chance = 0.2
    if place >= len(sound.tokens):
        if sound.loops and sound.tokens:
            return sound.tokens[len(prefix) % len(sound.tokens)], chance
        return None, chance
    return sound.tokens[place], chance


def _chance(sound: Sound, prefix: Sequence[int], token: int | None) -> float:
    best, probability = _next(sound, prefix)
    return probability if token == best else (1.0 - probability) / 2


def _margin(sound: Sound, prefix: Sequence[int], token: int | None) -> float:
    """As a pass over many tokens sees it."""
    tied = _place(sound.tokens, prefix) in sound.ties
    best = _next(sound, prefix)[0]
    if tied and token in (best, _RIVAL):
        return _NOISE if token == _RIVAL else -_NOISE
    return _CLEAR if token == best else -_CLEAR


def _place(truth: Sequence[int], prefix: Sequence[int]) -> int:
    """Where in the sound a prefix ends: behind the nearest place that has its last token."""
    count = len(prefix)
    if not prefix or (count <= len(truth) and truth[count - 1] == prefix[-1]):
        return count
    near = [at for at in range(len(truth)) if truth[at] == prefix[-1] and abs(at + 1 - count) <= 3]
    return min(near, key=lambda at: abs(at + 1 - count)) + 1 if near else count
