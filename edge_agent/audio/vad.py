"""Speech probability per frame: Silero VAD (v6, MIT) on the CPU.

The model takes 512 new samples with the 64 before them and a recurrent state; both are carried here. Running
it on the CPU everywhere keeps the ears working when an accelerator does not.

Left to itself the model goes deaf: after a loud voice it misses a quiet one for seconds, because its state
keeps the loud one for as long as the room is not digitally silent. Two things keep it awake, both measured by
tests/benchmarks/vad_recall.py: it hears every channel at about the same loudness, and while nobody speaks its
state returns to that of a quiet room.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.audio.level import Leveller
from edge_agent.errors import EngineError, EngineLoadFailed
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ

MODEL = Path(__file__).with_name("silero_vad_16k.onnx")
_CONTEXT = 64
_REST_FRAMES = 16
_ROOM_LEVEL = 0.0003  # -70 dBFS
_STILL_FRAMES = 10  # 320 ms of exact zeros: the model need not look at more
_NOBODY = 0.35  # Silero's own bound of silence
_RETURN = 0.03  # of the way to rest, each frame without speech: half of it in 0.7 s


class Vad:
    """Speech probability of `streams` channels at once. Not thread-safe.

    Raises:
        EngineLoadFailed: onnxruntime is missing or cannot load the model.
    """

    def __init__(self, streams: int = 1) -> None:
        self._session = quiet_session(MODEL)
        self._input = np.zeros((streams, _CONTEXT + FRAME_SAMPLES), np.float32)
        self._feeds: dict[str, NDArray[Any]] = {
            "input": self._input,
            "state": _rested_state(self._session, streams),
            "sr": np.array(SAMPLE_RATE_HZ, np.int64),
        }
        self._rested = self._feeds["state"]
        self._unrest = np.empty_like(self._rested)
        self._leveller = Leveller(streams)
        self._still = 0
        self._silent = np.zeros(streams, np.float32)

    def reset(self) -> None:
        """Forget what was heard; for use after a gap."""
        self._rest()
        self._still = 0

    def probability(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        """Speech probability float32[streams] of the next float32[512, streams] at 16 kHz.

        Exact digital silence of some length is not speech and costs nothing: a muted microphone is cheap.
        """
        if not frame.any():
            self._still += 1
            if self._still > _STILL_FRAMES:
                self._rest()
                return self._silent
        else:
            self._still = 0
        self._input[:, :_CONTEXT] = self._input[:, FRAME_SAMPLES:]
        np.multiply(frame.T, self._leveller.gain(frame), out=self._input[:, _CONTEXT:])
        try:
            speech, state = self._session.run(None, self._feeds)
        except failures() as error:
            raise EngineError(
                f"the voice activity model failed: {error}",
                remedy="restart; if it stays, reinstall onnxruntime",
            ) from error
        self._feeds["state"] = self._calmed(state, speech)
        probabilities: NDArray[np.float32] = speech[:, 0]
        return probabilities

    def _calmed(self, state: NDArray[np.float32], speech: NDArray[np.float32]) -> NDArray[np.float32]:
        """The state, of channels in which nobody speaks a little nearer to rest."""
        np.subtract(self._rested, state, out=self._unrest)
        self._unrest *= np.where(speech < _NOBODY, np.float32(_RETURN), np.float32(0))
        state += self._unrest
        return state

    def _rest(self) -> None:
        self._input[:] = 0
        self._feeds["state"] = self._rested
        self._leveller.reset()


def quiet_session(model: Path) -> Any:
    """An ONNX model on one thread of the CPU that never spins.

    Raises:
        EngineLoadFailed: onnxruntime is missing or cannot load the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineLoadFailed(
            "hearing speech needs onnxruntime, which is not installed",
            remedy='install it with: pip install "edge-asr-agent[cpu]"',
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except failures() as error:
        raise EngineLoadFailed(
            f"the model {model} cannot be loaded: {error}", remedy="reinstall edge-asr-agent"
        ) from error


def _rested_state(session: Any, streams: int) -> NDArray[np.float32]:
    """The model's state after half a second of a quiet room, float32[2, streams, 128].

    From an empty state the model is half deaf for its first words: of sixty spoken digits that begin at the
    first sample it misses three, from this state one. A louder room would find that one too, but then five
    instead of two of twenty-one recordings without speech pass for speech where they begin.
    """
    state: NDArray[np.float32] = np.zeros((2, 1, 128), np.float32)
    room = np.random.default_rng(0).standard_normal((_REST_FRAMES, 1, _CONTEXT + FRAME_SAMPLES)) * _ROOM_LEVEL
    for frame in room.astype(np.float32):
        feeds = {"input": frame, "state": state, "sr": np.array(SAMPLE_RATE_HZ, np.int64)}
        state = session.run(None, feeds)[1]
    return np.repeat(state, streams, axis=1)


def failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own classes have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "RuntimeException")
    return (RuntimeError, ValueError, OSError, *(getattr(state, name) for name in names))
