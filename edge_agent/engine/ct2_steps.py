"""CTranslate2's Whisper as `Steps`: calls, limits and token ids as the library wants them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.decoding.features import Mel
from edge_agent.decoding.steps import Abilities, Encoded, Generated, Scored
from edge_agent.engine.ct2_layout import JUDGE_SHARPNESS, Layout
from edge_agent.engine.ct2_silence import Silence
from edge_agent.engine.memory_care import is_out_of_memory
from edge_agent.errors import EngineError, OutOfMemory

MAX_LENGTH = 448
"""Positions of Whisper's decoder."""
_LEAST_FRAMES = 2
"""Features the scoring pass is told of where nobody wants word times."""


class Ct2Steps:
    """Drives one `ctranslate2.models.Whisper`; safe to share between as many threads as it has workers."""

    def __init__(
        self,
        model: Any,
        layout: Layout,
        abilities: Abilities,
        judge: Any = None,
        *,
        silence_file: Path | None = None,
    ) -> None:
        self.abilities = abilities
        self._model = model
        self._judge = judge
        self._layout = layout
        self._suppress = layout.suppress(abilities.suppressed)
        self._silence = Silence(abilities.mels, self._encode_raw, silence_file)

    def encode(self, mel: Mel, positions: int = 0) -> Encoded:
        if 2 * positions <= mel.shape[1]:
            return self._encode_raw(mel)
        sound = np.array(self._encode_raw(mel))[0]
        return _view(np.concatenate([sound, self._silence.positions(len(sound), positions)])[None])

    def generate(
        self,
        encoded: Encoded,
        prompt: Sequence[int],
        *,
        prefix: Sequence[int] = (),
        beam: int = 1,
        max_new: int = MAX_LENGTH // 2,
        temperature: float = 0.0,
        judge_speech: bool = True,
    ) -> Generated:
        if prefix and self._layout.parallel_prefix:
            return self._continue(encoded, prompt, prefix, max_new)
        new = min(max_new, MAX_LENGTH // 2 - len(prefix), MAX_LENGTH + 1 - len(prompt) - len(prefix))
        if new < 1:
            return Generated(tokens=(), ended=False)
        wanted = len(prefix) + new
        sampling = {"sampling_topk": 0, "sampling_temperature": temperature} if temperature > 0 else {}
        result = self._generate(
            encoded,
            [self._layout.rows([*prompt, *prefix])],
            prompt_length=len(prompt),
            wanted=wanted,
            beam_size=beam if temperature <= 0 else 1,
            suppress_blank=not prefix,
            return_no_speech_prob=judge_speech,
            **sampling,
        )[0]
        rows = result.sequences_ids[0]
        return Generated(
            tokens=tuple(self._layout.tokens(rows[len(prefix) :])),
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
            raise EngineError("the scoring pass lost tokens", remedy="check the model with: models verify")
        return Scored(
            probabilities=probabilities[: len(text)],
            end_probability=None if mirror is None else probabilities[-1],
            path=tuple((int(token), int(place)) for token, place in result.alignments),
        )

    def prove(self, encoded: Encoded, prompt: Sequence[int], tokens: Sequence[int]) -> tuple[float, ...]:
        if self._judge is None or self._layout.end_mirror is None:
            raise EngineError("this model has no judge", remedy="prepare it again with: models prepare")
        given = [*self._layout.rows(tokens), self._layout.end_mirror]
        start = self._layout.rows(prompt[:-1])
        result = _call(self._judge.align, encoded, start, [given], _LEAST_FRAMES)[0]
        return tuple(sharpened_margin(probability) for probability in result.text_token_probs)

    def detect_language(self, encoded: Encoded) -> tuple[tuple[str, float], ...]:
        if not self.abilities.multilingual:
            return ()
        ranked = _call(self._model.detect_language, encoded)[0]
        return tuple((name.strip("<|>"), float(probability)) for name, probability in ranked)

    def first_logits(self, encoded: Encoded, prompt: Sequence[int]) -> NDArray[np.float32]:
        """float32[rows]: what the model makes of each row as first token, nothing suppressed."""
        result = _call(
            self._model.generate,
            encoded,
            [self._layout.rows(prompt)],
            beam_size=1,
            max_length=len(prompt) + 1,
            return_logits_vocab=True,
            suppress_blank=False,
            suppress_tokens=[],
        )[0]
        return _numbers(result.logits[0][0])

    def _encode_raw(self, mel: Mel) -> Encoded:
        """Output in the machine's memory, also of a GPU: it is joined with kept silence and stacked here, and
        the library takes it back to its own device and type (2 to 8 MB)."""
        mels, frames = mel.shape
        # The library takes an encoder output of exactly `mels` positions for features and encodes it again.
        if frames in (2 * mels, 2 * mels - 1):
            raise EngineError(f"{frames} feature frames would be misread", remedy="encode two frames more")
        return _call(self._model.encode, _view(mel[None]), True)

    def _continue(
        self, encoded: Encoded, prompt: Sequence[int], prefix: Sequence[int], max_new: int
    ) -> Generated:
        """Read the prefix in one pass. The library asks only the first of a batch whether timestamps are
        wanted, and that answer hangs on its last token: so a helper goes first that ends in no-timestamps.
        It hears nothing and writes nothing, or the library would go on until it has come to its end, too."""
        whole = self._layout.rows([*prompt, *prefix])
        new = min(max_new, MAX_LENGTH + 1 - len(whole))
        if new < 1:
            return Generated(tokens=(), ended=False)
        helper = [*whole[: len(prompt)], *whole[len(prompt) - 1 : len(prompt)] * len(prefix)]
        sound = np.array(encoded)
        result = self._generate(
            _view(np.concatenate([np.zeros_like(sound), sound])),
            [helper, whole],
            prompt_length=len(whole),
            wanted=new,
            beam_size=1,
            suppress_blank=False,
            return_logits_vocab=True,
        )[1]
        rows = result.sequences_ids[0]
        return Generated(
            tokens=tuple(self._layout.tokens(rows)),
            ended=len(rows) < new,
            avg_logprob=float(result.scores[0]) * len(rows) / (len(rows) + 1),
            margins=tuple(_lead(logits) for logits in result.logits[0]),
        )

    def _generate(
        self, encoded: Any, prompts: list[list[int]], *, prompt_length: int, wanted: int, **options: Any
    ) -> Any:
        # The library returns at most min(max_length / 2, max_length - (prompt - 1)) tokens, a prefix that it
        # does not take for task tokens included.
        return _call(
            self._model.generate,
            encoded,
            prompts,
            max_length=max(2 * wanted, prompt_length - 1 + wanted),
            return_scores=True,
            suppress_tokens=self._suppress,
            **options,
        )


def sharpened_margin(probability: float) -> float:
    """Nats by which the model itself prefers a token to the best other one, at least, where the judge gives
    it this probability."""
    kept = min(max(probability, 1e-9), 1.0 - 1e-7)
    return math.log(kept / (1.0 - kept)) / JUDGE_SHARPNESS


def _lead(logits: Any) -> float:
    """Nats between the best row of float32[rows] and the next; what is suppressed is far below."""
    best = np.partition(_numbers(logits), -2)[-2:]
    return float(best[1] - best[0])


def _numbers(view: Any) -> NDArray[np.float32]:
    """float32[elements] of a library's array, wherever it lies."""
    import ctranslate2

    near = view if view.device == "cpu" else view.to_device(ctranslate2.Device.cpu)
    return np.array(near, dtype=np.float32).reshape(-1)


def _view(array: NDArray[np.float32]) -> Any:
    import ctranslate2

    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


def _call(function: Any, *args: Any, **options: Any) -> Any:
    """Call the library; what it raises becomes an `EngineError`."""
    try:
        return function(*args, **options)
    except (RuntimeError, ValueError, TypeError) as error:
        if is_out_of_memory(str(error)):
            raise OutOfMemory(
                f"CTranslate2 has no memory left: {' '.join(str(error).split())}",
                remedy="end what else runs here, or choose a smaller profile",
            ) from error
        raise EngineError(
            f"CTranslate2 failed: {' '.join(str(error).split())}",
            remedy="check the model with: edge-agent models verify",
        ) from error
