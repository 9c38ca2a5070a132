"""Recordings of any container to 16 kHz float, whole or piece by piece."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.audio.resample import Resampler
from edge_agent.errors import AudioFileError
from edge_agent.types import PcmFloat, Value

if TYPE_CHECKING:
    import av

Frames: TypeAlias = NDArray[np.float32]
"""float32[frames, channels]"""

_WAVE_FRAMES = 16_384


class AudioInfo(Value, frozen=True):
    """What a recording says of itself."""

    rate_hz: int
    channels: int
    duration_s: float | None
    """None when the container does not tell."""


def read_audio(path: Path, channel: int | None = None) -> PcmFloat:
    """A whole recording as float32[samples] at 16 kHz.

    Args:
        path: any container and codec that FFmpeg reads.
        channel: index of the channel wanted; None: the average of all.

    Raises:
        AudioFileError: missing, unreadable, no audio stream, no such channel, or no sound in it.
    """
    use = () if channel is None else (channel,)
    return np.concatenate([block[:, 0] for block in stream_audio(path, use)])


def stream_audio(path: Path, use_channels: tuple[int, ...] = ()) -> Iterator[Frames]:
    """A recording piece by piece as float32[samples, streams] at 16 kHz.

    With `use_channels` each of these channels is a stream; without, one stream holds their average.

    Raises:
        AudioFileError: as in `read_audio`, from the first piece on.
    """
    resampler: Resampler | None = None
    for rate_hz, frames in _decode(path):
        if use_channels and max(use_channels) >= frames.shape[1]:
            raise AudioFileError(
                f"{path} has {frames.shape[1]} channel(s), channel {max(use_channels)} was asked for",
                remedy="channels count from 0; choose another one",
            )
        if resampler is None:
            resampler = Resampler(rate_hz, use_channels)
        block = resampler.process_float(frames)
        if len(block):
            yield block
    if resampler is None:
        raise AudioFileError(f"{path} holds no sound", remedy="check the recording, or leave the file out")
    block = resampler.finish()
    if len(block):
        yield block


def audio_info(path: Path) -> AudioInfo:
    """Rate, channels and length without decoding.

    Raises:
        AudioFileError: missing, unreadable or without an audio stream.
    """
    with _open_container(path) as container:
        stream = _audio_stream(container, path)
        seconds = None
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / 1_000_000
        return AudioInfo(rate_hz=stream.rate, channels=stream.channels, duration_s=seconds)


def _decode(path: Path) -> Iterator[tuple[int, Frames]]:
    """Pieces at the recording's own rate, with that rate."""
    _check_file(path)
    yielded = False
    for piece in _decode_wave(path):
        yielded = True
        yield piece
    if not yielded:
        yield from _decode_av(path)


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise AudioFileError(
            f"{path} cannot be read ({error.strerror})", remedy="check the path and its permissions"
        ) from error
    if path.is_dir():
        raise AudioFileError(f"{path} is a folder", remedy="name the recordings in it")
    if size == 0:
        raise AudioFileError(f"{path} is empty", remedy="check the recording, or leave the file out")


def _decode_wave(path: Path) -> Iterator[tuple[int, Frames]]:
    """Plain 16-bit PCM WAV by the standard library; nothing when it is anything else."""
    try:
        with wave.open(str(path), "rb") as reader:
            if reader.getsampwidth() != 2:
                return
            channels, rate_hz = reader.getnchannels(), reader.getframerate()
            while data := reader.readframes(_WAVE_FRAMES):
                whole = len(data) - len(data) % (2 * channels)
                samples = np.frombuffer(data[:whole], "<i2").reshape(-1, channels)
                if len(samples):
                    yield rate_hz, samples * np.float32(1 / 32768)
    except (wave.Error, EOFError):
        return
    except OSError as error:
        raise _unreadable(path, error) from error


def _decode_av(path: Path) -> Iterator[tuple[int, Frames]]:
    import av

    with _open_container(path) as container:
        stream = _audio_stream(container, path)
        heard = False
        try:
            for frame in container.decode(stream):
                heard = True
                yield frame.sample_rate, _to_float(frame)
        except av.FFmpegError as error:
            if not heard:
                raise _unreadable(path, error) from error
            # A recording that breaks off is worth what came before: a crash while recording ends like this.


def _open_container(path: Path) -> Any:
    import av

    _check_file(path)
    try:
        return av.open(str(path), metadata_errors="ignore")
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from error


def _audio_stream(container: Any, path: Path) -> Any:
    if not container.streams.audio:
        raise AudioFileError(f"{path} has no audio stream", remedy="name a recording")
    return container.streams.audio[0]


def _unreadable(path: Path, error: Exception) -> AudioFileError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return AudioFileError(
        f"{path} cannot be decoded ({reason})", remedy="check that it is a recording and that it is complete"
    )


def _to_float(frame: av.AudioFrame) -> Frames:
    """float32[frames, channels] from any sample format, planar or interleaved."""
    data: NDArray[Any] = frame.to_ndarray()
    channels = frame.layout.nb_channels
    if not frame.format.is_planar:
        data = data.reshape(-1, channels).T
    samples: Frames = np.ascontiguousarray(data.T, dtype=np.float32)
    if data.dtype == np.uint8:
        samples -= 128.0
        samples /= 128.0
    elif np.issubdtype(data.dtype, np.integer):
        samples /= -float(np.iinfo(data.dtype).min)
    return samples
