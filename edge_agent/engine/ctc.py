"""SenseVoice and Paraformer on onnxruntime: one pass over the sound, no decoder loop; for small devices.

A model directory holds `model.onnx` or `model.int8.onnx` and `tokens.txt`, as sherpa-onnx publishes them:
what the front end must know (stacking, normalisation, ids of languages) is written into the graph. None of
them is in our catalogue, because their licence (FunASR's Model License) has to be read first by whoever ships
them; a profile of one's own names the directory as its model.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.decoding import fbank, guards
from edge_agent.engine import ctc_text
from edge_agent.engine.base import EngineConfig
from edge_agent.engine.memory_care import MemoryCare
from edge_agent.engine.ort_search import normaliser
from edge_agent.engine.ort_session import Session, open_session
from edge_agent.engine.whisper import MAX_AUDIO_S, check_request
from edge_agent.errors import EngineError, EngineLoadFailed
from edge_agent.types import (
    SAMPLE_RATE_HZ,
    DecodeCost,
    DecodeOptions,
    EngineInfo,
    Hypothesis,
    PcmFloat,
    Value,
    Word,
)

TOKENS = "tokens.txt"
GRAPHS = {"int8": "model.int8.onnx", "float32": "model.onnx"}
SENSE_VOICE, PARAFORMER = "sense_voice_ctc", "paraformer"
_REMEDY = "take the files sherpa-onnx publishes: model.onnx or model.int8.onnx, and tokens.txt"
_TAGS = 4
"""Rows before the sound's that SenseVoice answers: language, emotion, event, writing of numbers."""
_SILENT_TAG = "<|nospeech|>"
_PARAFORMER_LANGUAGES = ("zh", "en")
_QUIET = 1e-4
NO_TIMES = "word times: not supported by Paraformer"
NO_SPECULATION = "speculation: not needed; the whole text comes from one pass"


class Facts(Value, frozen=True):
    """What a graph says of itself."""

    kind: str
    window: int
    shift: int
    """Frames that are stacked, and from one stack to the next."""
    size: int
    """Tokens."""
    languages: dict[str, int]
    """Code -> id, "auto" included; empty: the graph takes none."""
    with_numerals: int
    """Id for text with figures and punctuation."""


def open_engine(config: EngineConfig) -> CtcEngine:
    """Load a single-pass model.

    Raises:
        EngineLoadFailed: the library, the graph or the tokens cannot be used.
    """
    if config.extra:
        raise EngineLoadFailed(
            f"the engine for single-pass models has no options {', '.join(config.extra)}",
            remedy="leave them out",
        )
    precision, path = _graph(config)
    session = open_session(path, config)
    try:
        facts = read_facts(session.facts)
        norms = (_numbers(session.facts, "neg_mean", facts), _numbers(session.facts, "inv_stddev", facts))
        tokens = read_tokens(config.model_dir / TOKENS, facts.size)
    except (OSError, ValueError, KeyError) as error:
        raise EngineLoadFailed(f"{path} cannot be used: {_said(error)}", remedy=_REMEDY) from error
    paraformer = facts.kind == PARAFORMER
    ranked = sorted(facts.languages, key=facts.languages.__getitem__)
    known = tuple(name for name in ranked if name not in ("auto", "nospeech"))
    info = EngineInfo(
        kind=f"ctc/{precision}",
        model=_label(config, path),
        languages=_PARAFORMER_LANGUAGES if paraformer else known,
        max_audio_s=MAX_AUDIO_S,
        notes=(NO_SPECULATION, *([NO_TIMES] if paraformer else [])),
    )
    return CtcEngine(info, session, facts, norms, tokens)


class CtcEngine:
    """A loaded model. `transcribe` may be called from several threads."""

    def __init__(
        self,
        info: EngineInfo,
        session: Session,
        facts: Facts,
        norms: tuple[NDArray[np.float32], NDArray[np.float32]],
        tokens: tuple[str, ...],
    ) -> None:
        """Args:
        norms: what is added to stacked features, and what they are multiplied by.
        """
        self.info = info
        self._session = session
        self._facts = facts
        self._added, self._scaled = norms
        self._tokens = tokens
        self._care = MemoryCare()

    def warm_up(self) -> None:
        """One pass over a second of noise."""
        noise = np.random.default_rng(0).normal(0, 0.02, SAMPLE_RATE_HZ).astype(np.float32)
        self.transcribe(noise, options=DecodeOptions(language=self.info.languages[0]))

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        """Recognise float32[samples] at 16 kHz, at most 30 s. Neither a draft nor a prompt is used."""
        del draft
        check_request(pcm, options, self.info)
        if len(pcm) == 0 or not np.abs(pcm).max() > _QUIET:
            return Hypothesis(text="", flags=("quiet",))
        return self._care.run(lambda: self._heard(pcm, options))

    def close(self) -> None:
        """Nothing but memory is held."""

    def _heard(self, pcm: PcmFloat, options: DecodeOptions) -> Hypothesis:
        started = time.perf_counter()
        features = self._features(pcm)
        ready = time.perf_counter()
        asked = options.language.split("-", maxsplit=1)[0].lower()
        logprobs = self._logprobs(features, asked)
        seconds = len(pcm) / SAMPLE_RATE_HZ
        language, silent = asked, 0.0
        if self._facts.kind == SENSE_VOICE:
            language, silent = self._tagged(logprobs, options, asked)
            pieces = ctc_text.collapsed(logprobs[_TAGS:], self._tokens)
            spoken = ctc_text.spelt(pieces)
        else:
            pieces = ctc_text.named(logprobs, self._tokens)
            spoken = ctc_text.unmarked(pieces)
            language = options.usual_language if asked == "auto" else asked
        cost = DecodeCost(
            features_ms=1e3 * (ready - started),
            encode_ms=1e3 * (time.perf_counter() - ready),
            context_s=seconds,
            passes=1,
        )
        words = ctc_text.timed(spoken, self._facts.shift * fbank.HOP_S, seconds)
        sample = guards.Sample(
            text="".join(word.text for word in spoken).strip(),
            tokens=tuple(piece.token for piece in pieces),
            ended=True,
            avg_logprob=sum(piece.logprob for piece in pieces) / max(1, len(pieces)),
            no_speech_prob=silent,
            speech_s=seconds,
            language=language,
            least_word=min((word.confidence for word in words), default=1.0),
        )
        wanted = options.words and self._facts.kind == SENSE_VOICE
        return _hypothesis(sample, words if wanted else (), cost)

    def _features(self, pcm: PcmFloat) -> fbank.Bands:
        """float32[rows, window * 80], normalised."""
        least = fbank.WINDOW_SAMPLES
        padded = pcm if len(pcm) >= least else np.pad(pcm, (0, least - len(pcm)))
        rows = fbank.stacked(fbank.log_bands(padded), self._facts.window, self._facts.shift)
        return np.asarray((rows + self._added) * self._scaled, dtype=np.float32)

    def _logprobs(self, features: fbank.Bands, language: str) -> NDArray[np.float32]:
        """float32[rows or tokens, vocabulary]."""
        length = np.array([len(features)], dtype=np.int32)
        if self._facts.kind == SENSE_VOICE:
            ids = (self._facts.languages[language], self._facts.with_numerals)
            spoken, written = (np.array([number], dtype=np.int32) for number in ids)
            feeds = {"x": features[None], "x_length": length, "language": spoken, "text_norm": written}
        else:
            feeds = {"speech": features[None], "speech_lengths": length}
        logits = self._session.fetch(self._session.run(feeds)[self._session.outputs[0]])
        if logits.ndim != 3 or logits.shape[2] != len(self._tokens) or not np.isfinite(logits).all():
            raise EngineError(f"the model answered an array of {logits.shape}", remedy=_REMEDY)
        found: NDArray[np.float32] = logits[0] - normaliser(logits[0])[:, None]
        return found

    def _tagged(self, logprobs: NDArray[np.float32], options: DecodeOptions, asked: str) -> tuple[str, float]:
        """The language, and how likely it is that nobody speaks."""
        silent = 0.0
        if _SILENT_TAG in self._tokens:
            silent = math.exp(float(logprobs[0, self._tokens.index(_SILENT_TAG)]))
        if asked != "auto":
            return asked, silent
        allowed = options.allowed_languages or self.info.languages
        places = {
            name: self._tokens.index(f"<|{name}|>") for name in allowed if f"<|{name}|>" in self._tokens
        }
        if not places:
            return options.usual_language or allowed[0], silent
        return max(places, key=lambda name: float(logprobs[0, places[name]])), silent


def _hypothesis(sample: guards.Sample, words: tuple[Word, ...], cost: DecodeCost) -> Hypothesis:
    return Hypothesis(
        text=sample.text,
        tokens=sample.tokens,
        words=words,
        language=sample.language,
        avg_logprob=sample.avg_logprob,
        no_speech_prob=sample.no_speech_prob,
        compression_ratio=guards.compression_ratio(sample.text),
        rejected=guards.rejection(sample),
        cost=cost,
    )


def read_facts(told: Mapping[str, str]) -> Facts:
    """What is written into a graph. ValueError, KeyError: it is none of these models."""
    kind = told["model_type"]
    if kind not in (SENSE_VOICE, PARAFORMER):
        raise ValueError(f'a model of type "{kind}" is not known')
    languages = {key.removeprefix("lang_"): int(told[key]) for key in told if key.startswith("lang_")}
    facts = Facts(
        kind=kind,
        window=int(told["lfr_window_size"]),
        shift=int(told["lfr_window_shift"]),
        size=int(told["vocab_size"]),
        languages=languages,
        with_numerals=int(told["with_itn"]) if kind == SENSE_VOICE else 0,
    )
    if not 1 <= facts.shift <= facts.window <= 100:
        raise ValueError(f"{facts.window} frames in a stack, {facts.shift} from one to the next")
    if kind == SENSE_VOICE and "auto" not in languages:
        raise ValueError("it names no languages")
    return facts


def read_tokens(path: Path, size: int) -> tuple[str, ...]:
    """Lines of a piece and its id. ValueError: they are not `size` ids from 0 on; OSError: no such file."""
    found: dict[int, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            piece, _, number = line.rpartition(" ")
            found[int(number)] = piece
    if sorted(found) != list(range(size)):
        raise ValueError(f"{path.name} holds {len(found)} tokens, the model {size}")
    return tuple(found[token] for token in range(size))


def _numbers(told: Mapping[str, str], key: str, facts: Facts) -> NDArray[np.float32]:
    found = np.array([float(number) for number in told[key].split(",")], dtype=np.float32)
    if len(found) != facts.window * fbank.BANDS or not np.isfinite(found).all():
        raise ValueError(f"{key} has {len(found)} numbers")
    return found


def _graph(config: EngineConfig) -> tuple[str, Path]:
    """Number type and file: the wanted one, else the other."""
    wanted = "int8" if config.compute_type.startswith("int8") else "float32"
    for precision in (wanted, *(other for other in GRAPHS if other != wanted)):
        path = config.model_dir / GRAPHS[precision]
        if path.is_file():
            return precision, path
    raise EngineLoadFailed(f"{config.model_dir} holds no single-pass model", remedy=_REMEDY)


def _label(config: EngineConfig, path: Path) -> str:
    if "@" in config.model_name:
        return config.model_name
    with path.open("rb") as file:
        return f"{config.model_name}@{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


def _said(error: Exception) -> str:
    return f"it does not say {error}" if isinstance(error, KeyError) else str(error)
