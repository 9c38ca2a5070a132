"""Do two engines write the same tokens with float32 weights, and if not: a tie of rounding, or a fault?

Both decode greedily on the same features. At every token written they weigh the best one and the next best:
the lead, in nats. By how much the two engines' leads differ where they agree is the noise of float32: sums in
another order, another exponential. Tokens may differ only where the lead in float64
(`tests.whisper_float64`) is below that noise; anything else is a fault of one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.audio.files import read_audio
from edge_agent.decoding import features
from edge_agent.engine import ct2_steps
from edge_agent.types import SAMPLE_RATE_HZ, Value
from tests import corpus
from tests.whisper_float64 import Whisper64

_FORBIDDEN = -1e8
"""Logits of what is never written lie below it, whichever engine says so."""
_MAX_NEW = 224


class Parting(Value, frozen=True):
    """The first token that differs."""

    clip: str
    place: int
    tokens: tuple[int, int]
    """CTranslate2's and onnxruntime's."""
    leads: tuple[float, float]
    """Of the first over the second, by each engine, nats."""
    true_lead: float
    """The same in float64."""

    def is_tie(self, noise: float) -> bool:
        """Rounding decided."""
        return abs(self.true_lead) <= noise

    @property
    def right(self) -> str:
        """Who wrote what float64 would."""
        return "CTranslate2" if self.true_lead > 0 else "onnxruntime"


class Heard(Value, frozen=True):
    """One recording."""

    clip: str
    decisions: int
    """Tokens compared, the end of text included."""
    noise: float
    """Largest difference between the engines' leads where they agree, nats."""
    closest: float
    """Smallest lead there."""
    parting: Parting | None = None
    errors: tuple[float, float] | None = None
    """Where float64 was asked: largest difference of each engine's lead to the true one."""


def compare(
    clip: corpus.Clip, language: str, ctranslate2: Any, onnxruntime: Any, truth: Whisper64, *, exact: bool
) -> Heard:
    """Decode one recording with both engines.

    Args:
        exact: hold every lead against float64, not only that of a token that differs.
    """
    fitted = window(clip.path, ctranslate2.steps.abilities.mels)
    prompt = ctranslate2.decoder.tokenizer.sot_sequence(language)
    end = ctranslate2.decoder.tokenizer.special.eot
    theirs, their_logits = _ctranslate2(ctranslate2.steps, fitted, prompt, end)
    encoded = onnxruntime.steps.encode(fitted)
    found = onnxruntime.steps.generate(encoded, prompt, max_new=_MAX_NEW)
    ours = [*found.tokens, *[end] * found.ended]
    same = common(theirs, ours)
    our_logits = _onnxruntime(onnxruntime.steps, encoded, prompt, theirs)
    allowed = (their_logits > _FORBIDDEN) & (our_logits > _FORBIDDEN)
    pairs = _best_two(np.where(allowed, their_logits, -np.inf))
    leads = [_lead(logits, pairs)[:same] for logits in (their_logits, our_logits)]
    parting, errors = None, None
    if exact or same < max(len(theirs), len(ours)):
        given = [*prompt, *theirs]
        true = truth.logits(truth.encode(fitted), given[:-1], len(prompt) - 1)
        if same < max(len(theirs), len(ours)):
            parting = _parting(clip.id, same, (theirs, ours), (their_logits, our_logits, true))
        right = _lead(true, pairs)[:same]
        errors = (_largest(leads[0] - right), _largest(leads[1] - right))
    return Heard(
        clip=clip.id,
        decisions=same,
        noise=_largest(leads[0] - leads[1]),
        closest=float(leads[0].min(initial=np.inf)),
        parting=parting,
        errors=errors,
    )


def faults(heard: Iterable[Heard]) -> tuple[Parting, ...]:
    """Tokens that differ and that rounding does not explain: the rule."""
    known = list(heard)
    noise = max((one.noise for one in known), default=0.0)
    return tuple(one.parting for one in known if one.parting is not None and not one.parting.is_tie(noise))


def window(path: Path, mels: int) -> NDArray[np.float32]:
    """Features of a recording, of a longer one its first 30 s, in a window of at least 10 s; two of them are
    silent where there is room."""
    mel = features.log_mel(read_audio(path)[: 30 * SAMPLE_RATE_HZ], mels)
    frames = min(features.MAX_FRAMES, max(1000, mel.shape[1] + 200) // 2 * 2)
    return features.fit(mel, frames, padding=features.silence_value(mel))


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def _ctranslate2(
    steps: Any, fitted: NDArray[np.float32], prompt: list[int], end: int
) -> tuple[list[int], NDArray[np.float32]]:
    """Tokens with the end of text, if it came, and the logits of each."""
    found = steps._generate(
        steps.encode(fitted),
        [prompt],
        prompt_length=len(prompt),
        wanted=_MAX_NEW,
        beam_size=1,
        suppress_blank=True,
        return_logits_vocab=True,
    )[0]
    logits = np.stack([ct2_steps._numbers(one) for one in found.logits[0]])
    tokens = list(found.sequences_ids[0])
    return [*tokens, *[end] * (len(logits) - len(tokens))], logits


def _onnxruntime(steps: Any, encoded: Any, prompt: list[int], tokens: list[int]) -> NDArray[np.float32]:
    """Logits of each of `tokens`."""
    return np.stack([row.logits for row in steps._judged(encoded, prompt, tokens[:-1])])


def _best_two(logits: NDArray[np.float32]) -> NDArray[np.intp]:
    """[rows, 2]: places of the best and the next best."""
    two = np.argpartition(-logits, 1, axis=1)[:, :2]
    order = np.argsort(-np.take_along_axis(logits, two, axis=1), axis=1)
    return np.take_along_axis(two, order, axis=1)


def _lead(logits: NDArray[Any], pairs: NDArray[np.intp]) -> NDArray[np.float64]:
    """Of the first of each pair over the second."""
    two = np.take_along_axis(logits, pairs, axis=1).astype(np.float64)
    return np.asarray(two[:, 0] - two[:, 1])


def _largest(differences: NDArray[np.float64]) -> float:
    return float(np.abs(differences).max(initial=0.0))


def _parting(
    clip: str, place: int, texts: tuple[list[int], list[int]], logits: tuple[NDArray[Any], ...]
) -> Parting:
    """Of the token at `place`, which both texts have: a text that ended has its end there."""
    one, other = texts[0][place], texts[1][place]
    leads = [float(rows[place, one]) - float(rows[place, other]) for rows in logits]
    return Parting(
        clip=clip, place=place, tokens=(one, other), leads=(leads[0], leads[1]), true_lead=leads[2]
    )
