"""Recordings of any kind become 16 kHz float, and unusable ones one clear line."""

from __future__ import annotations

import re
import wave
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.files import audio_info, read_audio, stream_audio
from edge_agent.errors import AudioFileError
from tests.corpus import clips

RATE = 16_000


def tone(seconds: float, rate_hz: int, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def write_wav(path: Path, samples: np.ndarray, rate_hz: int, width: int = 2) -> Path:
    """PCM WAV of 1, 2 or 4 bytes a sample; samples float[frames] or float[frames, channels]."""
    frames = samples if samples.ndim == 2 else samples[:, None]
    if width == 1:
        data = np.rint(frames * 127 + 128).astype(np.uint8).tobytes()
    else:
        data = np.rint(frames * (2 ** (8 * width - 1) - 1)).astype(f"<i{width}").tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(frames.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(data)
    return path


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_any_rate_and_width_gives_the_same_tone(tmp_path: Path, rate_hz: int, width: int) -> None:
    """Length and loudness survive."""
    sound = read_audio(write_wav(tmp_path / "a.wav", tone(1.0, rate_hz), rate_hz, width))
    assert sound.dtype == np.float32
    assert abs(len(sound) - RATE) <= 2
    middle = sound[2_000:-2_000]
    assert np.allclose(middle, tone(1.0, RATE)[: len(sound)][2_000:-2_000], atol=0.02)


def test_every_format_of_the_corpus_is_read() -> None:
    """FLAC, MP3, M4A, Opus, mu-law, 24 bit, float: as long as the manifest says."""
    formats = clips(set="formats") or clips()[:5]
    for clip in formats:
        sound = read_audio(clip.path)
        assert len(sound) / RATE == pytest.approx(clip.duration_s, abs=0.1), clip.path
        assert 0.01 < np.abs(sound).max() <= 1.5, clip.path


def test_pieces_are_the_whole(tmp_path: Path) -> None:
    """Reading piece by piece gives the same samples as reading at once."""
    path = write_wav(tmp_path / "a.wav", tone(3.0, 44_100), 44_100)
    pieces = [piece[:, 0] for piece in stream_audio(path)]
    assert len(pieces) > 3
    assert np.array_equal(np.concatenate(pieces), read_audio(path))


def test_channels_are_averaged_or_chosen(tmp_path: Path) -> None:
    """Left holds a tone, right is still: the average is half of it."""
    stereo = np.stack((tone(1.0, RATE), np.zeros(RATE)), axis=1)
    path = write_wav(tmp_path / "a.wav", stereo, RATE)
    left, right, mix = read_audio(path, 0), read_audio(path, 1), read_audio(path)
    assert np.abs(right).max() == 0
    assert np.allclose(mix, left / 2, atol=1e-4)
    with pytest.raises(AudioFileError, match="channel 2 was asked for"):
        read_audio(path, 2)


def test_info_tells_without_decoding(tmp_path: Path) -> None:
    """Rate, channels and length."""
    info = audio_info(write_wav(tmp_path / "a.wav", np.stack((tone(2.0, 8_000),) * 2, 1), 8_000))
    assert (info.rate_hz, info.channels) == (8_000, 2)
    assert info.duration_s == pytest.approx(2.0, abs=0.01)


def test_a_recording_that_breaks_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """Half of a FLAC file gives its words; half of a WAV too."""
    clip = clips(language="en")[0]
    whole = clip.path.read_bytes()
    cut = tmp_path / ("cut" + clip.path.suffix)
    cut.write_bytes(whole[: len(whole) // 2])
    assert 0.2 < len(read_audio(cut)) / RATE / clip.duration_s < 0.9
    path = write_wav(tmp_path / "a.wav", tone(2.0, RATE), RATE)
    path.write_bytes(path.read_bytes()[: RATE * 2 + 44])
    assert len(read_audio(path)) == RATE


def bad_files(folder: Path) -> dict[str, Path]:
    empty = folder / "empty.wav"
    empty.touch()
    no_frames = write_wav(folder / "noframes.wav", np.zeros(0), RATE)
    text = folder / "text.wav"
    text.write_text("this is no recording\n" * 50)
    header = folder / "header.wav"
    header.write_bytes(no_frames.read_bytes()[:20])
    noise = folder / "noise.mp3"
    noise.write_bytes(np.random.default_rng(1).bytes(5_000))
    picture = folder / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    return {
        "missing": folder / "missing.wav",
        "folder": folder,
        "empty": empty,
        "no frames": no_frames,
        "text": text,
        "header": header,
        "noise": noise,
        "picture": picture,
    }


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "empty", "no frames", "text", "header", "noise", "picture"]
)
def test_a_bad_file_is_named_with_the_reason_on_one_line(tmp_path: Path, kind: str) -> None:
    """Whatever is wrong: exit code 2, the path, the cause and the next step, no line break."""
    path = bad_files(tmp_path)[kind]
    with pytest.raises(AudioFileError) as caught:
        read_audio(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)
    assert re.fullmatch(r"[^\n]+; [^\n]+", str(caught.value))
