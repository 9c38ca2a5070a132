"""A capture device made of a recording: real libasound, a plugin of ours, faults on demand."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


@cache
def plugin() -> Path:
    """The compiled plugin; made once per test run."""
    if shutil.which("gcc") is None or not Path("/usr/include/alsa/asoundlib.h").exists():
        pytest.skip("needs gcc and libasound2-dev")
    folder = Path(tempfile.mkdtemp(prefix="edge-agent-room-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "room.so"
    command = ["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-DPIC", "-o", str(library)]
    subprocess.run([*command, str(HERE / "pcm_room.c"), "-lasound"], check=True)
    return library


@dataclass
class Run:
    """What a listener heard."""

    events: list[dict[str, Any]]
    folder: Path
    stderr: str

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    @property
    def end(self) -> dict[str, Any]:
        return self.of("end")[0]

    def sound(self, number: int) -> np.ndarray:
        return np.load(self.folder / f"{number}.npy")

    @property
    def unaccounted_s(self) -> float:
        """Wall time, up to some moment of the stop, that is neither heard nor told as a gap."""
        told_to_stop, ended = self.end["wall_s"]
        accounted = self.end["heard_s"] + self.end["gap_s"]
        return float(max(told_to_stop - accounted, 0.0) + min(ended - accounted, 0.0))


@dataclass
class Room:
    """One PCM "mic" (raw, as the hardware) and "default" (converted by ALSA), playing `sound`."""

    folder: Path
    sound: np.ndarray
    """float32[samples] at 16 kHz"""
    rate_hz: int = 16_000
    channels: int = 1
    ppm: int = 0
    process: subprocess.Popen[str] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        samples = soxr.resample(self.sound, 16_000, self.rate_hz) if self.rate_hz != 16_000 else self.sound
        pcm = np.clip(np.rint(samples * 32767), -32768, 32767).astype("<i2")
        np.repeat(pcm[:, None], self.channels, axis=1).tofile(self.folder / "sound.raw")
        self.control.write_text("")
        (self.folder / "asound.conf").write_text(
            f"""</usr/share/alsa/alsa.conf>
pcm_type.room {{ lib "{plugin()}" }}
pcm.mic {{
    type room file "{self.folder}/sound.raw" control "{self.control}"
    rate {self.rate_hz} channels {self.channels} ppm {self.ppm}
}}
pcm.!default {{ type plug slave.pcm "mic" hint {{ show on description "A room with a recording" }} }}
"""
        )

    @property
    def control(self) -> Path:
        return self.folder / "control"

    @property
    def environment(self) -> dict[str, str]:
        """For any process that shall see this room as its sound card."""
        return {
            **os.environ,
            "ALSA_CONFIG_PATH": str(self.folder / "asound.conf"),
            "PYTHONPATH": str(REPOSITORY),
        }

    def fault(self, word: str = "") -> None:
        """Put the device into a state; no word: well."""
        new = self.control.with_suffix(".new")
        new.write_text(word)
        new.replace(self.control)

    def listen(self, seconds: float, device: str = "mic") -> None:
        """Start a listener and wait until it listens."""
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(HERE / "listener.py"),
                f"alsa:{device}",
                str(seconds),
                str(self.folder / "out"),
            ],
            env=self.environment,
            stdout=(self.folder / "events").open("w"),
            stderr=(self.folder / "stderr").open("w"),
            text=True,
        )
        deadline = time.monotonic() + 20
        while "listening" not in (self.folder / "events").read_text():
            assert time.monotonic() < deadline, (self.folder / "stderr").read_text()
            time.sleep(0.02)

    def result(self, timeout_s: float = 60) -> Run:
        """Wait for the listener's end."""
        assert self.process is not None
        assert self.process.wait(timeout_s) == 0, (self.folder / "stderr").read_text()
        lines = (self.folder / "events").read_text().splitlines()
        return Run(
            events=[json.loads(line) for line in lines],
            folder=self.folder / "out",
            stderr=(self.folder / "stderr").read_text(),
        )


def place(utterance: np.ndarray, sound: np.ndarray) -> tuple[float, float]:
    """Where an utterance lies in the recording (seconds), and how alike they are (1: the same)."""
    padded = np.concatenate((sound, np.zeros(len(utterance), np.float32))).astype(np.float64)
    size = 1 << (len(padded) + len(utterance)).bit_length()
    spectrum = np.fft.rfft(padded, size) * np.conj(np.fft.rfft(utterance, size))
    product = np.fft.irfft(spectrum, size)[: len(sound)]
    energy = np.concatenate(([0.0], np.cumsum(padded**2)))
    there = energy[len(utterance) : len(utterance) + len(sound)] - energy[: len(sound)]
    mine = float(np.sum(utterance.astype(np.float64) ** 2))
    likeness = product / np.sqrt(np.maximum(there, 0.01 * mine) * mine)
    at = int(np.argmax(likeness))
    return at / 16_000, float(likeness[at])
