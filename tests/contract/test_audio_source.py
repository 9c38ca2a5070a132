"""What every source of sound must do, whichever it is."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.open import open_source
from edge_agent.audio.recording import FileSource, PipeSource
from edge_agent.audio.source import AudioSource, Block, EndOfAudio
from edge_agent.clock import SystemClock
from edge_agent.errors import AudioFileError, ConfigError
from tests.unit.audio.test_files import tone, write_wav

RATE = 16_000
SECONDS = 0.5


def from_file(folder: Path, *, paced: bool) -> AudioSource:
    path = write_wav(folder / "a.wav", tone(SECONDS, RATE), RATE)
    return FileSource([path], clock=SystemClock(), paced=paced)


def from_pipe(folder: Path) -> AudioSource:
    """A pipe whose writer sends odd pieces, as pipes do."""
    reader, writer = os.pipe()
    data = np.rint(tone(SECONDS, RATE) * 32767).astype("<i2").tobytes()

    def write() -> None:
        for first in range(0, len(data), 1_001):
            os.write(writer, data[first : first + 1_001])
        os.close(writer)

    threading.Thread(target=write, daemon=True).start()
    return PipeSource(clock=SystemClock(), descriptor=reader)


SOURCES: dict[str, Callable[[Path], AudioSource]] = {
    "file in real time": lambda folder: from_file(folder, paced=True),
    "file as fast as it goes": lambda folder: from_file(folder, paced=False),
    "pipe": from_pipe,
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AudioSource]:
    made = SOURCES[request.param](tmp_path)
    yield made
    made.close()
    made.close()


def read_all(source: AudioSource) -> list[Block]:
    """All blocks, their samples copied."""
    blocks = []
    while True:
        try:
            item = source.read(0.2)
        except EndOfAudio:
            return blocks
        if isinstance(item, Block):
            blocks.append(Block(pcm=item.pcm.copy(), start_ns=item.start_ns))


def test_all_sound_comes_once_and_in_order(source: AudioSource) -> None:
    """The blocks, joined, are the sound, in the shape and type promised."""
    source.open()
    source.open()
    assert (source.rate_hz, source.channels) == (RATE, 1)
    blocks = read_all(source)
    assert all(block.pcm.dtype == np.int16 and block.pcm.shape[1] == 1 for block in blocks)
    sound = np.concatenate([block.pcm[:, 0] for block in blocks])
    assert np.max(np.abs(sound - np.rint(tone(SECONDS, RATE) * 32767))) <= 1


def test_times_run_with_the_frames(source: AudioSource) -> None:
    """Each block starts where the one before ended."""
    source.open()
    blocks = read_all(source)
    for one, two in itertools.pairwise(blocks):
        assert abs(two.start_ns - one.start_ns - len(one.pcm) * 62_500) < 50_000_000


def test_a_read_keeps_to_its_time_out(source: AudioSource) -> None:
    """No read lasts much longer than it may."""
    source.open()
    for _ in range(5):
        began = time.monotonic()
        try:
            source.read(0.01)
        except EndOfAudio:
            break
        assert time.monotonic() - began < 0.2


def test_after_the_end_it_stays_the_end(source: AudioSource) -> None:
    """EndOfAudio again and again."""
    source.open()
    read_all(source)
    for _ in range(3):
        with pytest.raises(EndOfAudio):
            source.read(0.01)


def test_a_paced_file_takes_as_long_as_it_sounds(tmp_path: Path) -> None:
    """Half a second of sound takes half a second, and no block comes before its sound has ended."""
    source = from_file(tmp_path, paced=True)
    source.open()
    began = time.monotonic()
    while True:
        try:
            item = source.read(1.0)
        except EndOfAudio:
            break
        assert isinstance(item, Block)
        assert time.monotonic_ns() >= item.start_ns + len(item.pcm) * 62_500
    assert SECONDS - 0.05 < time.monotonic() - began < SECONDS + 0.4


def test_files_follow_each_other_with_silence_after_each(tmp_path: Path) -> None:
    """Two files and their pauses; afterwards it is known when each was played."""
    paths = [write_wav(tmp_path / f"{n}.wav", tone(0.25, RATE), RATE) for n in range(2)]
    source = FileSource(paths, clock=SystemClock(), gap_s=0.5, paced=False)
    source.open()
    blocks = read_all(source)
    sound = np.concatenate([block.pcm[:, 0] for block in blocks])
    assert len(sound) == 2 * (4_000 + 8_000)
    assert not sound[4_000:12_000].any()
    assert not sound[16_000:].any()
    assert [span.path for span in source.spans] == paths
    assert source.spans[1].start_ns - source.spans[0].end_ns == 500_000_000
    assert source.spans[0].start_ns == blocks[0].start_ns


def test_a_loop_starts_over(tmp_path: Path) -> None:
    """loop=1 plays on without a seam."""
    path = write_wav(tmp_path / "a b.wav", tone(0.1, RATE), RATE)
    source = open_source(f"file:{path}?loop=1", channels=1, clock=SystemClock(), paced=False)
    source.open()
    total = 0
    while total < RATE:
        item = source.read(0.1)
        assert isinstance(item, Block)
        total += len(item.pcm)


def test_a_file_that_cannot_be_read_is_found_when_opening(tmp_path: Path) -> None:
    """The last of several, even: before anything is played."""
    good = write_wav(tmp_path / "a.wav", tone(0.1, RATE), RATE)
    source = FileSource([good, tmp_path / "missing.wav"], clock=SystemClock())
    with pytest.raises(AudioFileError, match=r"missing\.wav"):
        source.open()


@pytest.mark.parametrize(
    "url", ["", "alsa", "alsa:", "file:", "file:a.wav?pace=2", "file:a?loop=x", "stdin:x", "tcp:1"]
)
def test_text_that_names_no_source_is_refused(url: str) -> None:
    """With what could be written instead, and the exit code of a wrong configuration."""
    with pytest.raises(ConfigError, match="is not understood; use") as caught:
        open_source(url, channels=1, clock=SystemClock())
    assert caught.value.exit_code == 78
