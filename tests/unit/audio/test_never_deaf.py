"""Wherever a pause falls, every frame of speech is in an utterance and in one only."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.audio.files import read_audio
from edge_agent.audio.segment import EndpointConfig
from edge_agent.audio.vad import Vad
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, PcmFloat
from tests.benchmarks.long_speech import by_agent
from tests.corpus import clips

CONFIG = EndpointConfig(silence_ms=600, probe_ms=200)


@pytest.fixture(scope="module")
def sentences() -> list[PcmFloat]:
    """Three of two to three seconds."""
    chosen = [clip for clip in clips(set="en_read_kathleen") if 2.0 < clip.duration_s < 3.2][:3]
    return [_trimmed(read_audio(clip.path)) for clip in chosen]


def _voiced(sound: PcmFloat) -> np.ndarray:
    """Indices of the frames that are surely speech."""
    vad = Vad(1)
    frames = sound[: len(sound) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES, 1)
    return np.flatnonzero([float(vad.probability(frame)[0]) >= CONFIG.threshold for frame in frames])


def _trimmed(sound: PcmFloat) -> PcmFloat:
    """From the first to the last frame of speech."""
    voiced = _voiced(sound)
    return sound[voiced[0] * FRAME_SAMPLES : (voiced[-1] + 1) * FRAME_SAMPLES]


@pytest.mark.parametrize("pause_ms", [96, 160, 224, 320, 448, 576, 608, 640, 704, 960])
def test_no_pause_swallows_speech(sentences: list[PcmFloat], pause_ms: int) -> None:
    """Before the probe, while the end is pending, at the very end, right after it: all is heard."""
    pause = np.zeros(pause_ms * SAMPLE_RATE_HZ // 1000, np.float32)
    ends = np.zeros(SAMPLE_RATE_HZ, np.float32)
    first, second, third = sentences
    sound = np.concatenate((ends, first, pause, second, pause, third, ends))
    covered = np.zeros(len(sound), np.int32)
    for one in by_agent(sound, CONFIG):
        begin = round(one.start_ns * SAMPLE_RATE_HZ / 1e9)
        covered[begin : begin + len(one.pcm)] += 1
    heard = covered[: len(sound) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    voiced = _voiced(sound)
    assert (heard[voiced].min(axis=1) >= 1).all()
    assert (heard[voiced].max(axis=1) <= 1).all()
