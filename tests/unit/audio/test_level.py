"""Level gauges, and the level the voice activity model hears."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.audio.level import FLOOR_DBFS, Leveller, Meter


def test_a_full_scale_sine_reads_as_the_textbook_says() -> None:
    """Peak 0 dBFS, RMS -3 dBFS."""
    meter = Meter()
    wave = np.sin(np.arange(16_000 * 2) * 2 * np.pi * 500 / 16_000).astype(np.float32)
    for first in range(0, len(wave) - 511, 512):
        frame_db = meter.update(wave[first : first + 512])
    assert frame_db == pytest.approx(-3.0, abs=0.1)
    assert meter.level().peak_dbfs == pytest.approx(0.0, abs=0.1)
    assert meter.level().rms_dbfs == pytest.approx(-3.0, abs=0.1)


def test_a_muted_microphone_shows_as_a_run_of_zeros() -> None:
    """Exact zeros are counted; the faintest noise ends the count."""
    meter = Meter()
    for _ in range(125):
        assert meter.update(np.zeros(512, np.float32)) == FLOOR_DBFS
    assert meter.level().zero_run_s == 4.0
    assert meter.level().peak_dbfs == FLOOR_DBFS
    meter.update(np.full(512, 1 / 32768, np.float32))
    assert meter.level().zero_run_s == 0


def gain_after(leveller: Leveller, level: float, seconds: float) -> float:
    """The gain once a tone of this RMS has lasted so long."""
    frame = np.full((512, 1), level, np.float32)
    for _ in range(int(seconds * 31.25)):
        gain = float(leveller.gain(frame)[0, 0])
    return gain


def test_a_quiet_voice_is_raised_and_a_loud_one_left_alone() -> None:
    """To -20 dBFS, by ten times at most, at once after a rise and within ten seconds after a fall."""
    leveller = Leveller(1)
    assert gain_after(leveller, 0.3, 0.5) == 1.0
    assert gain_after(leveller, 0.02, 2.0) < 3.0, "a pause of the talker is not raised to a voice"
    assert gain_after(leveller, 0.02, 8.0) == pytest.approx(5.0, rel=0.05)
    assert gain_after(leveller, 0.0001, 8.0) == pytest.approx(10.0)
    assert gain_after(leveller, 0.3, 0.5) == 1.0


def test_channels_are_levelled_each_for_itself() -> None:
    """A loud channel does not take the gain from a quiet one."""
    leveller = Leveller(2)
    for _ in range(500):
        gain = leveller.gain(np.tile(np.array([[0.2, 0.01]], np.float32), (512, 1)))
    assert gain[:, 0] == pytest.approx([1.0, 10.0])
