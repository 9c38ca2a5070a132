"""The voice activity model: right, steady, and silent on the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio import vad as vad_module
from edge_agent.audio.files import read_audio
from edge_agent.audio.vad import MODEL, Vad
from edge_agent.errors import EngineLoadFailed
from tests.corpus import REPOSITORY, clips


def probabilities(vad: Vad, sound: np.ndarray) -> np.ndarray:
    frames = sound[: len(sound) // 512 * 512].reshape(-1, 512, 1)
    return np.array([vad.probability(frame)[0] for frame in frames])


def a_sentence() -> np.ndarray:
    return read_audio(next(clip for clip in clips(language="en") if 2.0 < clip.duration_s < 4.0).path)


def test_speech_is_told_from_noise() -> None:
    """Most of a sentence is speech, nothing of hiss is."""
    assert np.mean(probabilities(Vad(), a_sentence()) > 0.5) > 0.5
    hiss = (np.random.default_rng(3).standard_normal(32_000) * 0.02).astype(np.float32)
    assert np.max(probabilities(Vad(), hiss)) < 0.5


def test_a_quiet_voice_after_a_loud_one_is_heard_in_a_room_that_is_never_silent() -> None:
    """Sixteen times quieter, 1.5 s later, over room tone: at least three quarters of what is heard alone."""
    sentences = [read_audio(clip.path) for clip in clips(language="en") if 2.0 < clip.duration_s < 4.0][:8]
    sentences = [sound / np.abs(sound).max() for sound in sentences]
    rng = np.random.default_rng(1)
    for loud, quiet in pairwise(sentences):
        before = np.concatenate((loud, loud, np.zeros(24_000, np.float32)))
        sound = np.concatenate((before, quiet / 16))
        sound += (rng.standard_normal(len(sound)) * 0.003).astype(np.float32)
        heard = probabilities(Vad(), sound)[len(before) // 512 :] > 0.5
        assert np.count_nonzero(heard) >= 0.75 * np.count_nonzero(probabilities(Vad(), quiet) > 0.5)


def test_a_minute_of_noise_does_not_wake_it() -> None:
    """Room tone is raised for the model and stays noise, however long it lasts."""
    rng = np.random.default_rng(7)
    for level in (0.001, 0.03):
        hiss = (rng.standard_normal(60 * 16_000) * level).astype(np.float32)
        assert np.max(probabilities(Vad(), hiss)) < 0.5


def test_a_reset_forgets_everything() -> None:
    """The same sound gives the same probabilities after a reset."""
    vad = Vad()
    first = probabilities(vad, a_sentence())
    vad.reset()
    assert np.array_equal(first, probabilities(vad, a_sentence()))


def test_several_channels_at_once_are_as_good_as_one_by_one() -> None:
    """Channels do not hear each other."""
    sound = a_sentence()
    still = np.full_like(sound, 1e-5)
    both = np.stack((sound, still), axis=1)
    vad = Vad(2)
    together = np.array([vad.probability(both[i : i + 512]) for i in range(0, len(sound) - 511, 512)])
    assert np.allclose(together[:, 0], probabilities(Vad(), sound), atol=0.02)
    assert np.allclose(together[:, 1], probabilities(Vad(), still), atol=0.02)


def test_digital_silence_ends_in_the_resting_state() -> None:
    """After a muted stretch a sentence is heard as at the start."""
    vad = Vad()
    fresh = probabilities(vad, a_sentence())
    probabilities(vad, np.zeros(16_000, np.float32))
    assert np.array_equal(fresh, probabilities(vad, a_sentence()))


def test_a_broken_model_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to do about it is in the error."""
    broken = tmp_path / "model.onnx"
    broken.write_bytes(MODEL.read_bytes()[:1000])
    monkeypatch.setattr(vad_module, "MODEL", broken)
    with pytest.raises(EngineLoadFailed, match="reinstall edge-asr-agent"):
        Vad()


def test_the_licence_lies_beside_the_model() -> None:
    """The bundled model is MIT and says so."""
    assert "MIT License" in MODEL.with_suffix(".LICENSE.txt").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_loading_and_running_touches_neither_network_nor_home(tmp_path: Path) -> None:
    """Some releases of the runtime report to their maker: here no socket is opened, no file written."""
    home = tmp_path / "home"
    home.mkdir()
    trace = tmp_path / "trace"
    program = (
        "import numpy, time; from edge_agent.audio.vad import Vad;"
        "Vad().probability(numpy.ones((512, 1), numpy.float32)); time.sleep(1)"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=socket,connect",
        "-o",
        str(trace),
        sys.executable,
        "-c",
        program,
    ]
    subprocess.run(command, env=environment, check=True, timeout=60, cwd=tmp_path)
    assert list(home.rglob("*")) == []
    calls = [line for line in trace.read_text().splitlines() if "socket(" in line or "connect(" in line]
    assert calls == []
