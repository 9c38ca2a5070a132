"""Sounds in which nobody speaks: the recordings of the corpus, and made-up ones of every common kind.

All are float32[samples] at 16 kHz and the same every time. Whatever a recogniser writes down is invented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from edge_agent.audio.files import read_audio
from edge_agent.types import SAMPLE_RATE_HZ, PcmFloat
from tests import corpus

LONGEST_S = 28
_SECONDS = 4


def noises() -> Iterator[tuple[str, PcmFloat]]:
    """Name and sound of each."""
    for clip in corpus.clips(set="nonspeech"):
        yield clip.id, read_audio(clip.path)[: LONGEST_S * SAMPLE_RATE_HZ]
    for name, sound in made():
        yield name, np.clip(sound, -1.0, 1.0).astype(np.float32)


def made() -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Silence, steady noise, tones and music, machines, coughs, breath, clicks and thumps."""
    rng = np.random.default_rng(5)
    count = _SECONDS * SAMPLE_RATE_HZ
    time_s = np.arange(count) / SAMPLE_RATE_HZ
    yield "silence", np.zeros(count)
    yield "dither", rng.integers(-1, 2, count) / 32768
    white = rng.normal(0.0, 1.0, count)
    for colour, slope in (("white", 0.0), ("pink", 0.5), ("brown", 1.0)):
        coloured = _tilted(white, slope)
        for level_db in (-60, -40, -20):
            yield f"{colour} noise {level_db} dB", coloured * 10 ** (level_db / 20)
    for tone_hz in (50, 440, 1000):
        yield f"tone {tone_hz} Hz", 0.1 * np.sin(2 * np.pi * tone_hz * time_s)
    yield "mains hum", 0.05 * sum(np.sin(2 * np.pi * 50 * k * time_s) / k for k in range(1, 9))
    yield "chirp", 0.1 * np.sin(2 * np.pi * (200 * time_s + 300 * time_s**2))
    keys = np.sin(2 * np.pi * 770 * time_s) + np.sin(2 * np.pi * 1336 * time_s)
    yield "telephone keys", 0.1 * keys * ((time_s % 0.5) < 0.2)
    scale_hz = np.array([262, 294, 330, 349, 392, 440, 494, 523])[(3 * time_s).astype(int) % 8]
    yield "melody", 0.1 * np.sin(2 * np.pi * scale_hz * time_s) * np.exp(-2 * ((3 * time_s) % 1))
    yield "fan", 0.03 * _tilted(white, 1.0) * (1 + 0.5 * np.sin(2 * np.pi * 4 * time_s))
    for number in range(6):
        yield f"cough {number}", _coughs(rng)
    for number in range(2):
        yield f"clicks {number}", _clicks(rng)
        yield f"thump {number}", _thump(rng, 60 + 20 * number)
        yield f"breath {number}", _breath(rng, 1200 + 300 * number)


def _tilted(white: NDArray[np.float64], slope: float) -> NDArray[np.float64]:
    """Noise whose amplitude falls with frequency to the power of `slope`, at a level of 1."""
    return _shaped(white, lambda hz: np.maximum(hz, 20.0) ** -slope)


def _coughs(rng: np.random.Generator) -> NDArray[np.float64]:
    """One to three bursts with the resonances of a throat."""
    sound = rng.normal(0.0, 1e-3, 3 * SAMPLE_RATE_HZ)
    for at_s in rng.uniform(0.2, 2.3, rng.integers(1, 4)):
        length = int(rng.uniform(0.15, 0.4) * SAMPLE_RATE_HZ)
        burst = rng.normal(0.0, 1.0, length)
        burst *= np.exp(-np.arange(length) / (length * rng.uniform(0.15, 0.4)))
        throat = (
            (rng.uniform(300, 700), 300.0),
            (rng.uniform(1000, 1800), 500.0),
            (rng.uniform(2200, 3500), 900.0),
        )
        burst = _shaped(burst, lambda hz, at=throat: sum(np.exp(-(((hz - c) / w) ** 2)) for c, w in at))
        _add(sound, 0.4 * burst / np.abs(burst).max(), at_s)
    return sound


def _clicks(rng: np.random.Generator) -> NDArray[np.float64]:
    sound = rng.normal(0.0, 5e-4, _SECONDS * SAMPLE_RATE_HZ)
    decay = np.exp(-np.arange(480) / 80)
    for at_s in rng.uniform(0.1, 3.8, rng.integers(4, 20)):
        _add(sound, rng.normal(0.0, 0.3, 480) * decay, at_s)
    return sound


def _thump(rng: np.random.Generator, hz: float) -> NDArray[np.float64]:
    sound = rng.normal(0.0, 5e-4, 3 * SAMPLE_RATE_HZ)
    time_s = np.arange(SAMPLE_RATE_HZ // 2) / SAMPLE_RATE_HZ
    knock = 0.2 * rng.normal(0.0, 1.0, len(time_s)) * np.exp(-time_s / 0.03)
    _add(sound, 0.5 * np.sin(2 * np.pi * hz * time_s) * np.exp(-time_s / 0.08) + knock, 1.0)
    return sound


def _breath(rng: np.random.Generator, hz: float) -> NDArray[np.float64]:
    sound = rng.normal(0.0, 3e-4, 3 * SAMPLE_RATE_HZ)
    length = int(1.2 * SAMPLE_RATE_HZ)
    air = rng.normal(0.0, 1.0, length) * np.hanning(length)
    _add(sound, 0.05 * _shaped(air, lambda at: np.exp(-(((at - hz) / 900) ** 2))), 1.0)
    return sound


def _shaped(
    sound: NDArray[np.float64], gain: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Filtered by a gain over frequency, then brought to a level of 1."""
    spectrum = np.fft.rfft(sound)
    shaped = np.fft.irfft(spectrum * gain(np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE_HZ)), len(sound))
    return shaped / shaped.std()


def _add(sound: NDArray[np.float64], part: NDArray[np.float64], at_s: float) -> None:
    first = int(at_s * SAMPLE_RATE_HZ)
    room = sound[first : first + len(part)]
    room += part[: len(room)]
