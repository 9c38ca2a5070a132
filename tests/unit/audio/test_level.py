"""Level gauges."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.audio.level import FLOOR_DBFS, Meter


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
