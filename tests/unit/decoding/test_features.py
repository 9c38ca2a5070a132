"""The log-mel front end gives the reference's numbers."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.audio.files import read_audio
from edge_agent.decoding import features
from tests import corpus


@pytest.mark.parametrize("mels", [80, 128])
def test_real_speech_gives_the_reference_features(mels: int) -> None:
    """Equal to faster-whisper's extractor to 1e-5 on real speech (bit for bit where numpy is the same)."""
    reference = pytest.importorskip("faster_whisper.feature_extractor").FeatureExtractor(mels)
    for clip in corpus.clips(language="en")[:6]:
        pcm = read_audio(clip.path)
        np.testing.assert_allclose(features.log_mel(pcm, mels), reference(pcm)[:, :-1], atol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 199, 201, 400, 16_000])
def test_any_length_gives_whole_frames(samples: int) -> None:
    """One frame for each 10 ms, never none, in a layout the engine takes as it is."""
    mel = features.log_mel(np.zeros(samples, dtype=np.float32), 80)
    assert mel.shape == (80, max(1, samples // 160))
    assert mel.dtype == np.float32
    assert mel.flags.c_contiguous


def test_fit_cuts_and_pads() -> None:
    """The frames kept are unchanged, those added hold the padding value."""
    mel = features.log_mel(np.ones(1600, dtype=np.float32), 80)
    longer = features.fit(mel, 16, padding=-1.0)
    assert np.array_equal(longer[:, :10], mel)
    assert (longer[:, 10:] == -1.0).all()
    assert np.array_equal(features.fit(mel, 4), mel[:, :4])


@pytest.mark.parametrize(("before", "after"), [(0, 0), (100, 50), (4_800, 3_200)])
def test_the_sound_is_found_between_digital_silence(before: int, after: int) -> None:
    """Ten milliseconds around it are kept, where there are any."""
    sound = np.full(16_000, 0.1, np.float32)
    pcm = np.concatenate([np.zeros(before, np.float32), sound, np.zeros(after, np.float32)])
    begin, end = features.sounding(pcm, 1e-4)
    assert (before - begin, end - before - len(sound)) == (min(before, 160), min(after, 160))


def test_all_silence_stays_whole() -> None:
    """There is nothing to keep and nothing to lose."""
    assert features.sounding(np.zeros(800, np.float32), 1e-4) == (0, 800)


def test_silence_value_is_what_silence_gives() -> None:
    """Padding with it equals the features of the sound followed by zeros."""
    rng = np.random.default_rng(3)
    pcm = rng.normal(0, 0.1, 16_000).astype(np.float32)
    long = features.log_mel(np.concatenate([pcm, np.zeros(16_000, dtype=np.float32)]), 80)
    assert long[:, 110:].max() == pytest.approx(features.silence_value(features.log_mel(pcm, 80)), abs=1e-6)
