"""Recordings and pipes as sources: what a microphone would deliver, from files or standard input."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_agent.audio.files import stream_audio
from edge_agent.audio.source import Block, EndOfAudio
from edge_agent.clock import Clock
from edge_agent.errors import AudioFileError, UsageError
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, Pcm16, Value

_FAST_FRAMES = 8 * FRAME_SAMPLES


class FileSpan(Value, frozen=True):
    """Where a file lies on the time line of its source."""

    path: Path
    start_ns: int
    end_ns: int


class FileSource:
    """Recordings one after the other, at 16 kHz.

    Args:
        paths: played in this order.
        clock: paces; also the origin of the time line.
        channels: 1: the average of a file's channels; more: its first `channels` channels.
        gap_s: digital silence after each file, the last one too, so that each ends in its own final.
        paced: as fast as sound; else as fast as it is read, on a time line that then runs ahead of the clock.
        loop: start over after the last file, for ever.
    """

    def __init__(
        self,
        paths: list[Path],
        *,
        clock: Clock,
        channels: int = 1,
        gap_s: float = 0.0,
        paced: bool = True,
        loop: bool = False,
    ) -> None:
        if not paths:
            raise AudioFileError("no recording was named", remedy="name at least one")
        self.name = "file:" + ",".join(map(str, paths))
        self.rate_hz = SAMPLE_RATE_HZ
        self.channels = channels
        self.paced = paced
        self.spans: list[FileSpan] = []
        """Files that have been played to their end."""
        self._paths = paths
        self._clock = clock
        self._silence = np.zeros((round(gap_s * SAMPLE_RATE_HZ), channels), np.int16)
        self._loop = loop
        self._pieces: Iterator[Pcm16] | None = None
        self._block = FRAME_SAMPLES if paced else _FAST_FRAMES
        self._piece: Pcm16 = self._silence[:0]
        self._start_ns = 0
        self._frames = 0
        self._closed = threading.Event()

    def open(self) -> None:
        """Check that every file holds sound and start the time line.

        Raises:
            AudioFileError: one of them cannot be read or is empty.
        """
        if self._pieces is not None:
            return
        use = self._use_channels()
        for path in self._paths:
            next(stream_audio(path, use))
        self._closed.clear()
        self._frames = 0
        self._start_ns = self._clock.monotonic_ns()
        self._pieces = self._play()

    def read(self, timeout_s: float) -> Block | None:
        pcm = self._ahead()
        if self.paced and not self._wait_until(self._time_ns(self._frames + len(pcm)), timeout_s):
            return None
        self._piece = self._piece[len(pcm) :]
        block = Block(pcm=pcm, start_ns=self._time_ns(self._frames))
        self._frames += len(pcm)
        return block

    def close(self) -> None:
        self._closed.set()
        self._pieces = None
        self._piece = self._silence[:0]

    def _use_channels(self) -> tuple[int, ...]:
        return () if self.channels == 1 else tuple(range(self.channels))

    def _ahead(self) -> Pcm16:
        """The next block; all have the same length, as those of a device have, except the very last.

        Raises:
            EndOfAudio: there is no more.
        """
        while len(self._piece) < self._block:
            piece = next(self._pieces, None) if self._pieces is not None else None
            if piece is None:
                break
            self._piece = np.concatenate((self._piece, piece)) if len(self._piece) else piece
        if not len(self._piece):
            raise EndOfAudio
        return self._piece[: self._block]

    def _play(self) -> Iterator[Pcm16]:
        played = 0  # frames handed to `read`, which may not have delivered all of them yet
        while True:
            for path in self._paths:
                first = played
                for sound in stream_audio(path, self._use_channels()):
                    played += len(sound)
                    yield np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.int16)
                self.spans.append(
                    FileSpan(path=path, start_ns=self._time_ns(first), end_ns=self._time_ns(played))
                )
                if self._loop:
                    del self.spans[: -len(self._paths)]
                if len(self._silence):
                    played += len(self._silence)
                    yield self._silence
            if not self._loop:
                return

    def _time_ns(self, frame: int) -> int:
        return self._start_ns + frame * 1_000_000_000 // SAMPLE_RATE_HZ

    def _wait_until(self, due_ns: int, timeout_s: float) -> bool:
        wait_s = (due_ns - self._clock.monotonic_ns()) / 1e9
        if wait_s > 0:
            self._closed.wait(min(wait_s, timeout_s))
        return wait_s <= timeout_s


class PipeSource:
    """Raw s16le mono at 16 kHz from a file descriptor, by default standard input.

    A pipe can hold its writer back, so the source is not paced: nothing is lost when the reader is slow.
    """

    def __init__(self, *, clock: Clock, descriptor: int | None = None) -> None:
        self.name = "stdin:"
        self.rate_hz = SAMPLE_RATE_HZ
        self.channels = 1
        self.paced = False
        self._clock = clock
        self._descriptor = descriptor
        self._odd = b""
        self._end_ns: int | None = None

    def open(self) -> None:
        """Take standard input unless a descriptor was given.

        Raises:
            UsageError: standard input is a terminal.
        """
        if self._descriptor is not None:
            return
        if sys.stdin.isatty():
            raise UsageError(
                "standard input is a terminal, not sound",
                remedy='pipe s16le mono at 16 kHz into it, as "arecord -t raw -f S16_LE -r 16000" writes it',
            )
        self._descriptor = sys.stdin.fileno()

    def read(self, timeout_s: float) -> Block | None:
        if self._descriptor is None:
            raise EndOfAudio
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return None
        data = os.read(self._descriptor, 2 * _FAST_FRAMES)
        if not data:
            raise EndOfAudio
        data = self._odd + data
        self._odd = data[len(data) & ~1 :]
        pcm = np.frombuffer(data[: len(data) & ~1], "<i2").reshape(-1, 1)
        if not len(pcm):
            return None
        return Block(pcm=pcm, start_ns=self._place(len(pcm)))

    def close(self) -> None:
        """Leaves the descriptor open: it is not ours."""

    def _place(self, frames: int) -> int:
        length_ns = frames * 1_000_000_000 // SAMPLE_RATE_HZ
        arrived_ns = self._clock.monotonic_ns() - length_ns
        # A writer that is ahead of real time defines the time line; one that paused moves it on.
        start_ns = arrived_ns if self._end_ns is None else max(self._end_ns, arrived_ns)
        self._end_ns = start_ns + length_ns
        return start_ns
