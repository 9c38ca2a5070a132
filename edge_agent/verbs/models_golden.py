"""The proof that the forms made of a model say what the published one says: a golden clip's tokens."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.decoding.features import fit, log_mel
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.engine import ort
from edge_agent.engine.base import EngineConfig
from edge_agent.errors import EngineLoadFailed, ModelError
from edge_agent.models.manifest import Prepared, read_prepared
from edge_agent.types import PcmFloat

_CONTEXT_FRAMES = 1000
_NEW_TOKENS = 4
_ROUNDING = 0.5
"""Nats by which int8 weights scaled in other blocks may prefer another token."""


def golden_faults(source: Path, prepared_dir: Path) -> tuple[str, ...]:
    """Decode the golden clip with both forms at int8; one line per difference, none when they agree.

    Greedy tokens must be equal; where there is a mirror, the scoring pass must find the end of the text; and
    in the parallel-prefix layout, going on after each half of the text must give the other half.

    Raises:
        ModelError: a form cannot be loaded or read.
    """
    prepared = read_prepared(prepared_dir)
    if prepared is None:
        return (f"{prepared_dir} is not prepared by this version",)
    published, ours = _load(source), _load(prepared_dir)
    tokenizer = Tokenizer(source)
    prompt = tokenizer.sot_sequence("en")
    mel = fit(log_mel(golden_clip(), int(ours.n_mels)), _CONTEXT_FRAMES)
    wanted = _greedy(published, published.encode(_view(mel[None])), prompt)
    encoded = ours.encode(_view(mel[None]))
    there = {row: token for token, row in prepared.ids.items()}
    heard = [there.get(row, row) for row in _greedy(ours, encoded, _rows(prepared, prompt))]
    if heard != wanted:
        return (f"the golden clip reads {tokenizer.decode(heard)!r} instead of {tokenizer.decode(wanted)!r}",)
    faults = []
    if prepared.eot_mirror is not None and not _sees_the_end(ours, encoded, prepared, prompt, heard):
        faults.append("the scoring pass does not see the end of the golden clip")
    if prepared.layout == "parallel-prefix" and not _goes_on(ours, encoded, prepared, prompt, heard):
        faults.append("going on after a prefix in one pass does not give the same tokens")
    return tuple(faults)


def onnx_faults(source: Path, directory: Path) -> tuple[str, ...]:
    """The published form's tokens for the golden clip must be the ONNX form's best ones, but for what
    rounding decides; one line when they are not.

    Raises:
        EdgeAgentError: a form cannot be loaded or read.
    """
    opened = ort.open_engine(EngineConfig(kind="onnxruntime", model_dir=directory, model_name="golden@0"))
    try:
        steps = opened.steps
        tokenizer = Tokenizer(source)
        prompt = tokenizer.sot_sequence("en")
        mel = fit(log_mel(golden_clip(), steps.abilities.mels), _CONTEXT_FRAMES)
        published = _load(source)
        wanted = _greedy(published, published.encode(_view(mel[None])), prompt)
        encoded = steps.encode(mel)
        if min(steps.prove(encoded, prompt, wanted)) > -_ROUNDING:
            return ()
        heard = tokenizer.decode(steps.generate(encoded, prompt).tokens)
        return (f"{directory}: the golden clip reads {heard!r} instead of {tokenizer.decode(wanted)!r}",)
    finally:
        opened.close()


def golden_clip() -> PcmFloat:
    """The clip as float32[samples] at 16 kHz."""
    from edge_agent.audio.files import read_audio

    clip = resources.files("edge_agent.models").joinpath("golden", "kathleen_b0508.flac")
    with resources.as_file(clip) as path:
        return read_audio(path)


def _load(directory: Path) -> Any:
    try:
        import ctranslate2

        return ctranslate2.models.Whisper(str(directory), device="cpu", compute_type="int8", intra_threads=1)
    except ImportError as error:
        raise EngineLoadFailed(
            f"the library CTranslate2 cannot be loaded: {error}", remedy="pip install ctranslate2"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{directory} cannot be loaded ({' '.join(str(error).split())})",
            remedy="prepare or pull it again",
        ) from error


def _view(array: Any) -> Any:
    import ctranslate2

    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


def _rows(prepared: Prepared, tokens: list[int]) -> list[int]:
    return [prepared.ids.get(token, token) for token in tokens]


def _greedy(model: Any, encoded: Any, prompt: list[int]) -> list[int]:
    return list(model.generate(encoded, [prompt], beam_size=1)[0].sequences_ids[0])


def _sees_the_end(model: Any, encoded: Any, prepared: Prepared, prompt: list[int], text: list[int]) -> bool:
    """The mirror is likely after the whole text and unlikely after half of it."""
    start = _rows(prepared, prompt[:-1])
    after = []
    for words in (text, text[: len(text) // 2]):
        given = [*_rows(prepared, words), prepared.eot_mirror]
        after.append(model.align(encoded, start, [given], _CONTEXT_FRAMES)[0].text_token_probs[-1])
    return bool(after[0] > 0.5 > after[1])


def _goes_on(model: Any, encoded: Any, prepared: Prepared, prompt: list[int], text: list[int]) -> bool:
    """Continuations after several prefixes, each in one pass, are those of the whole decode."""
    twice = _view(np.concatenate([np.array(encoded)] * 2))
    no_timestamps = _rows(prepared, prompt[-1:])
    for cut in range(1, len(text)):
        whole = _rows(prepared, [*prompt, *text[:cut]])
        answer = model.generate(
            twice,
            [[*whole[:-1], *no_timestamps], whole],
            beam_size=1,
            suppress_blank=False,
            max_length=max(2 * _NEW_TOKENS, len(whole) - 1 + _NEW_TOKENS),
        )[1].sequences_ids[0]
        if list(answer[:_NEW_TOKENS]) != _rows(prepared, text[cut : cut + _NEW_TOKENS]):
            return False
    return True
