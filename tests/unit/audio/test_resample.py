"""From the device's rate to 16 kHz: the same sound, at the same time, without holding it back."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.audio.polyphase import Polyphase
from edge_agent.audio.resample import Resampler
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ

RATES = (8_000, 24_000, 32_000, 48_000, 96_000)


def tone(rate_hz: int, hz: float, seconds: float = 0.5) -> np.ndarray:
    places = np.arange(int(rate_hz * seconds)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * places)).astype(np.float32)[:, None]


def through(resampler: Polyphase, sound: np.ndarray, step: int) -> np.ndarray:
    pieces = [resampler.process(sound[at : at + step]) for at in range(0, len(sound), step)]
    return np.concatenate([*pieces, resampler.finish()])


@pytest.mark.parametrize("rate_hz", RATES)
def test_speech_keeps_its_shape_and_its_time(rate_hz: int) -> None:
    """A tone in the band of speech comes out as the same tone, sample for sample."""
    for hz in (100, 1_000, 3_400):
        made = through(Polyphase(rate_hz, SAMPLE_RATE_HZ, 1), tone(rate_hz, hz), rate_hz * 32 // 1000)
        wanted = tone(SAMPLE_RATE_HZ, hz)
        assert len(made) == len(wanted)
        assert float(np.abs(made - wanted)[500:-500].max()) < 5e-4


@pytest.mark.parametrize("rate_hz", [24_000, 32_000, 48_000, 96_000])
def test_what_16_khz_cannot_hold_does_not_come_back_as_something_else(rate_hz: int) -> None:
    """A tone of 9 kHz, which would fold to 7 kHz, is 80 dB down."""
    made = through(Polyphase(rate_hz, SAMPLE_RATE_HZ, 1), tone(rate_hz, 9_000), rate_hz * 32 // 1000)
    assert float(np.abs(made)[500:-500].max()) < 5e-5


@given(st.sampled_from(RATES), st.lists(st.integers(0, 3_000), min_size=1, max_size=8), st.integers(1, 3))
def test_pieces_do_not_matter(rate_hz: int, lengths: list[int], streams: int) -> None:
    """However the sound is cut into pieces, the same samples come out; channels stay apart."""
    sound = np.random.default_rng(1).standard_normal((sum(lengths), streams)).astype(np.float32)
    parts = Polyphase(rate_hz, SAMPLE_RATE_HZ, streams)
    bounds = [0, *np.cumsum(lengths)]
    made = [parts.process(sound[low:high]) for low, high in pairwise(bounds)]
    whole = Polyphase(rate_hz, SAMPLE_RATE_HZ, streams)
    at_once = np.concatenate((whole.process(sound), whole.finish()))
    np.testing.assert_allclose(np.concatenate((*made, parts.finish())), at_once, atol=1e-5)
    if streams > 1:
        alone = Polyphase(rate_hz, SAMPLE_RATE_HZ, 1)
        column = alone.process(sound[:, 1:2])
        np.testing.assert_allclose(column, at_once[: len(column), 1:2], atol=1e-5)


@pytest.mark.parametrize("rate_hz", RATES)
def test_each_period_of_a_microphone_completes_one_frame(rate_hz: int) -> None:
    """What is held back is always the same, 1.5 ms (3 ms at 8 kHz): no frame waits for another period."""
    resampler = Resampler(rate_hz, live=True)
    period = np.zeros((rate_hz * 32 // 1000, 1), np.int16)
    assert resampler.held <= 48
    assert len(resampler.process(period)) == FRAME_SAMPLES - resampler.held
    assert {len(resampler.process(period)) for _ in range(20)} == {FRAME_SAMPLES}
    assert len(resampler.finish()) == resampler.held


def test_other_ratios_and_recordings_go_through_soxr() -> None:
    """44.1 kHz has 160 phases, and a recording has time."""
    assert not Polyphase.fits(44_100, SAMPLE_RATE_HZ)
    assert Resampler(44_100, live=True).held == Resampler(48_000).held == 0


def test_it_agrees_with_soxr() -> None:
    """On noise in the band both common ways are the same."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(SAMPLE_RATE_HZ).astype(np.float32)
    sound = soxr.resample(noise, 12_000, 48_000, quality="VHQ")
    theirs = soxr.resample(sound, 48_000, SAMPLE_RATE_HZ, quality="VHQ")
    ours = through(Polyphase(48_000, SAMPLE_RATE_HZ, 1), sound[:, None], 1_536)[:, 0]
    length = min(len(ours), len(theirs))
    assert float(np.abs(ours[:length] - theirs[:length])[500:-500].max()) < 2e-3
