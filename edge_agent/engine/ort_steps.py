"""Whisper's ONNX graphs as `Steps`, with a key-value cache that can be rolled back.

Each encoder output carries the cache of what was last read after it. A call that shares a beginning with it
reads only the rest: a draft is judged, and decoding goes on from any place of it, without reading the prompt
again. The whole distribution is known at every token, so that what a draft is told is exact.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.decoding.alike import Alike
from edge_agent.decoding.features import MAX_FRAMES, Mel
from edge_agent.decoding.steps import Abilities, Generated, Scored
from edge_agent.decoding.vocabulary import SpecialTokens
from edge_agent.engine import ort_search, warp
from edge_agent.engine.ct2_silence import Silence
from edge_agent.engine.ort_cache import MAX_LENGTH, Cache
from edge_agent.engine.ort_cross import Cross
from edge_agent.engine.ort_session import Session
from edge_agent.errors import EngineError
from edge_agent.types import Value

_UNSEEN = np.float32(-1e9)
_SEED = 0


class Shape(Value, frozen=True):
    """Sizes of a model's decoder."""

    layers: int
    heads: int
    vocabulary: int


class Row:
    """What the decoder made of one token that it read."""

    __slots__ = ("_logprobs", "attention", "logits")

    def __init__(self, logits: NDArray[np.float32] | None, attention: NDArray[np.float32] | None) -> None:
        self.logits = logits
        """float32[rows of the vocabulary] of what follows, -inf at what is never written; None: not asked."""
        self.attention = attention
        """float32[alignment heads, positions]."""
        self._logprobs: dict[int, float] = {}

    def note(self, token: int, logprob: float) -> None:
        """Keep what was worked out already."""
        self._logprobs[token] = logprob

    def logprob(self, token: int) -> float:
        """That `token` follows, nats."""
        if token not in self._logprobs:
            self.note(token, float(self.scores[token]) - self.normaliser)
        return self._logprobs[token]

    @property
    def normaliser(self) -> float:
        """Log of the sum of the exponentials of the logits; known where a token was worked out already."""
        for token, logprob in self._logprobs.items():
            if logprob > -math.inf:
                return float(self.scores[token]) - logprob
        return float(ort_search.normaliser(self.scores))

    def lead(self, token: int) -> float:
        """Nats between `token` and the best other one."""
        return ort_search.lead(self.scores, token)

    @property
    def scores(self) -> NDArray[np.float32]:
        """The logits, which were asked for."""
        assert self.logits is not None
        return self.logits

    @property
    def places(self) -> NDArray[np.float32]:
        """The attention, of a model that has it."""
        assert self.attention is not None
        return self.attention


class Heard:
    """One encoder output with what was read after it. For one thread at a time."""

    def __init__(self, hidden: NDArray[np.float32], positions: int, cache: Cache) -> None:
        self.hidden = hidden
        """float32[1, positions of sound, width]."""
        self.positions = positions
        """Those the decoder sees; the ones after the sound are silence."""
        self.cross: dict[str, Any] = {}
        self.cache = cache
        self.read: list[int] = []
        """Tokens in the cache."""
        self.rows: list[Row] = []
        """One for each."""
        self.no_speech: dict[tuple[int, ...], float] = {}
        """Tokens up to the start of transcript -> probability that nobody speaks."""


class OrtSteps:
    """Drives the three graphs; threads may share it."""

    def __init__(
        self,
        graphs: Mapping[str, Session],
        abilities: Abilities,
        special: SpecialTokens,
        shape: Shape,
        *,
        alike: Alike | None = None,
        silence_file: Path | None = None,
    ) -> None:
        """Args:
        graphs: "encoder", "cross" and "decoder".
        special: ids of the special tokens.
        alike: which tokens say the same; None: words are as sure as they are written.
        silence_file: keeps what the encoder makes of silence from one start to the next.
        """
        self.abilities = abilities
        self._graphs = graphs
        self._special = special
        self._alike = alike
        self.shape = shape
        never = abilities.suppressed
        self._forbidden = np.array(sorted(never), dtype=np.intp)
        self._forbidden_first = np.array(sorted(never | abilities.suppressed_first), dtype=np.intp)
        self._attends = "attention" in graphs["decoder"].outputs
        self._orders = "order" in graphs["decoder"].inputs
        self._cross = Cross(graphs["cross"], Silence(abilities.mels, self._hidden, silence_file))

    def encode(self, mel: Mel, positions: int = 0) -> Heard:
        if mel.shape[0] != self.abilities.mels or mel.shape[1] > MAX_FRAMES or mel.shape[1] % 2:
            raise EngineError(
                f"features of shape {mel.shape} cannot be encoded", remedy="this is a fault; report it"
            )
        hidden = self._hidden(mel)
        cache = Cache(self._graphs["decoder"], self.shape.layers, self.shape.heads)
        return Heard(hidden, max(positions, hidden.shape[1]), cache)

    def generate(
        self,
        encoded: Heard,
        prompt: Sequence[int],
        *,
        prefix: Sequence[int] = (),
        beam: int = 1,
        max_new: int = MAX_LENGTH // 2,
        temperature: float = 0.0,
        judge_speech: bool = True,
    ) -> Generated:
        given = [*prompt, *prefix]
        new = min(max_new, MAX_LENGTH // 2 - len(prefix), MAX_LENGTH + 1 - len(given))
        if new < 1:
            return Generated(tokens=(), ended=False)
        first = len(prompt) - 1
        rows = self._rows(encoded, given, since=len(given) - 1, first=first)
        speech = self._no_speech(encoded, prompt) if judge_speech else 0.0

        def advance(tokens: Sequence[int], _order: Sequence[int]) -> NDArray[np.float32]:
            given.append(tokens[0])
            rows.extend(self._rows(encoded, given, since=len(given) - 1, first=first))
            return rows[-1].scores[None]

        start = rows[0].scores
        if beam > 1 and temperature <= 0:
            found = ort_search.beam(
                start, self._beams(encoded, given), eot=self._special.eot, max_new=new, width=beam
            )
        else:
            found = ort_search.greedy(
                start,
                advance,
                eot=self._special.eot,
                max_new=new,
                temperature=temperature,
                rng=np.random.default_rng(_SEED),
            )
            for row, token, logprob in zip(
                rows, (*found.tokens, self._special.eot), found.logprobs, strict=False
            ):
                row.note(token, logprob)
        return Generated(
            tokens=found.tokens,
            ended=found.ended,
            avg_logprob=found.sum_logprob / (len(found.tokens) + 1),
            no_speech_prob=speech,
            margins=found.leads if prefix else (),
        )

    def score(self, encoded: Heard, prompt: Sequence[int], tokens: Sequence[int], frames: int) -> Scored:
        rows = self._judged(encoded, prompt, tokens)
        chances = [
            math.exp(row.logprob(token))
            for row, token in zip(rows, (*tokens, self._special.eot), strict=True)
        ]
        path: tuple[tuple[int, int], ...] = ()
        sure: tuple[float, ...] = ()
        if self._attends and frames:
            attention = np.stack([row.places for row in rows], axis=1)
            path = warp.align(attention, max(1, frames // 2))
            if self._alike is not None:
                sure = self._alike.sure(tokens, [(row.scores, row.normaliser) for row in rows])
        return Scored(probabilities=tuple(chances[:-1]), end_probability=chances[-1], path=path, sure=sure)

    def prove(self, encoded: Heard, prompt: Sequence[int], tokens: Sequence[int]) -> tuple[float, ...]:
        rows = self._judged(encoded, prompt, tokens)
        return tuple(row.lead(token) for row, token in zip(rows, (*tokens, self._special.eot), strict=True))

    def prove_branches(
        self, encoded: Heard, prompt: Sequence[int], branches: Sequence[Sequence[int]]
    ) -> tuple[tuple[float, ...], ...]:
        """`prove` for several continuations in one pass: a tree of tokens, given as its paths from root to
        leaf. Each path is a row of the batch that goes on from the cache of the prompt, so that a token is
        judged behind its ancestors alone. What was read before stays as it was.
        """
        place = len(prompt) - 1
        before = self._rows(encoded, prompt, since=place, first=place)[0]
        longest = max((len(branch) for branch in branches), default=0)
        if not longest:
            return tuple((before.lead(self._special.eot),) for _ in branches)
        if len(prompt) + longest > MAX_LENGTH:
            raise EngineError(f"{len(prompt) + longest} tokens do not fit", remedy="draft less at a time")
        # What comes after a short branch's end is read, too, by itself alone.
        padded = [[*branch, *[self._special.eot] * (longest - len(branch))] for branch in branches]
        out = self._run(
            encoded,
            encoded.cache.copy(),
            padded,
            place=place + 1,
            wanted=range(longest),
            order=[0] * len(padded),
        )
        logits = self._allowed(self._graphs["decoder"].fetch(out["logits"]), first=False)
        return tuple(
            tuple(
                ort_search.lead(rows, token)
                for rows, token in zip((before.scores, *after), (*branch, self._special.eot), strict=False)
            )
            for branch, after in zip(branches, logits, strict=True)
        )

    def detect_language(self, encoded: Heard) -> tuple[tuple[str, float], ...]:
        if not self.abilities.multilingual:
            return ()
        # Place 0 is no text: nothing is forbidden there.
        logits = self._rows(encoded, [self._special.sot], since=0, first=1)[0].scores
        languages = self._special.languages
        known = logits[list(languages.values())]
        chances = np.exp(known - ort_search.normaliser(known))
        ranked = sorted(zip(languages, map(float, chances), strict=True), key=lambda pair: -pair[1])
        return tuple(ranked)

    def _hidden(self, mel: Mel) -> NDArray[np.float32]:
        encoder = self._graphs["encoder"]
        found: NDArray[np.float32] = encoder.fetch(encoder.run({"features": mel[None]})["hidden"])
        return found

    def _judged(self, encoded: Heard, prompt: Sequence[int], tokens: Sequence[int]) -> list[Row]:
        """Of the prompt's last token and of `tokens`."""
        place = len(prompt) - 1
        return self._rows(encoded, [*prompt, *tokens], since=place, first=place)

    def _rows(self, encoded: Heard, given: Sequence[int], *, since: int, first: int) -> list[Row]:
        """What the decoder makes of `given` from place `since` on; nothing is read twice.

        Args:
            first: place before the first token of the text; what may not begin a text is forbidden there.
        """
        shared = _common(encoded.read, given)
        known = min(since, shared)
        while since <= known < shared and encoded.rows[known].logits is not None:
            known += 1
        if known < len(given):
            self._read(encoded, given, keep=known, since=since, first=first)
        return encoded.rows[since : len(given)]

    def _read(self, encoded: Heard, given: Sequence[int], *, keep: int, since: int, first: int) -> None:
        """Read what comes after the first `keep` tokens of `given`, which are in the cache; `since` and
        `first` as for `_rows`."""
        if len(given) > MAX_LENGTH:
            raise EngineError(f"{len(given)} tokens do not fit", remedy="shorten the prompt or the terms")
        rest = list(given[keep:])
        starts = [place for place, token in enumerate(rest) if token == self._special.sot]
        wanted = list(range(max(0, since - keep), len(rest)))
        # The runtime's kernels take rows two by two and round a last odd one otherwise. It gets company,
        # whose place in the cache the next token takes. So a token's logits are the same, whether it is
        # written alone or judged among others.
        odd = len(rest) % 2 == 1 and keep + len(rest) < MAX_LENGTH
        pairs = [*rest, rest[-1]] if odd else rest
        out = self._run(encoded, encoded.cache, [pairs], place=keep, wanted=[*starts, *wanted], order=[0])
        decoder = self._graphs["decoder"]
        logits: NDArray[np.float32] = decoder.fetch(out["logits"])[0]
        for row, place in enumerate(starts):
            silent = logits[row, self._special.no_speech] - ort_search.normaliser(logits[row])
            encoded.no_speech[tuple(given[: keep + place + 1])] = math.exp(silent)
        seen = decoder.fetch(out["attention"])[0] if self._attends else None
        rows = [Row(None, None if seen is None else seen[:, place]) for place in range(len(rest))]
        for row, place in enumerate(wanted, start=len(starts)):
            if keep + place >= first:
                self._allowed(logits[row], first=keep + place == first)
            rows[place].logits = logits[row]
        encoded.read = list(given)
        encoded.rows[keep:] = rows

    def _run(
        self,
        encoded: Heard,
        cache: Cache,
        tokens: Sequence[Sequence[int]],
        *,
        place: int,
        wanted: Sequence[int],
        order: Sequence[int],
    ) -> dict[str, Any]:
        """One pass over int[hypotheses, n] tokens that begin at `place`; the cache holds them afterwards."""
        count = len(tokens[0])
        cache.reserve(place + count)
        if not self._orders:
            cache.arrange(order)
        if not encoded.cross:
            encoded.cross = self._cross.of(encoded.hidden, encoded.positions)
            weakref.finalize(encoded, self._cross.give_back, encoded.cross)
        places = np.arange(place, place + count, dtype=np.int64)[:, None]
        feeds = {
            "tokens": np.array(tokens, dtype=np.int64),
            "places": places,
            "wanted": np.array(wanted, dtype=np.int64),
            "bias": np.where(np.arange(cache.rows) <= places, np.float32(0), _UNSEEN),
            **encoded.cross,
            **{f"self_{name}": value for name, value in cache.arrays.items()},
        }
        if self._orders:
            feeds["order"] = np.array(order, dtype=np.int64)
        out = self._graphs["decoder"].run(feeds)
        cache.arrays = {name: out.pop(f"new_{name}") for name in cache.names}
        return out

    def _beams(self, encoded: Heard, given: Sequence[int]) -> ort_search.Advance:
        """Steps of several hypotheses; the cache of `encoded` stays as it is."""
        cache, place = encoded.cache.copy(), len(given)

        def advance(tokens: Sequence[int], order: Sequence[int]) -> NDArray[np.float32]:
            nonlocal place
            out = self._run(
                encoded, cache, [[token] for token in tokens], place=place, wanted=[0], order=order
            )
            place += 1
            logits: NDArray[np.float32] = self._graphs["decoder"].fetch(out["logits"])[:, 0]
            return self._allowed(logits, first=False)

        return advance

    def _no_speech(self, encoded: Heard, prompt: Sequence[int]) -> float:
        """What the start of transcript was followed by when it was read; it was, for this prompt."""
        start = list(prompt).index(self._special.sot)
        return encoded.no_speech.get(tuple(prompt[: start + 1]), 0.0)

    def _allowed(self, logits: NDArray[np.float32], *, first: bool) -> NDArray[np.float32]:
        """float32[..., rows of the vocabulary], -inf put at what is never generated."""
        logits[..., self._forbidden_first if first else self._forbidden] = -np.inf
        return logits


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    return next(
        (place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right),
        min(len(one), len(other)),
    )
