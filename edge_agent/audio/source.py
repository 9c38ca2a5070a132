"""What every source of sound offers, and the values it hands out."""

from __future__ import annotations

from typing import Any, Protocol

from edge_agent.types import Value


class Block(Value, frozen=True):
    """A piece of sound as the source delivered it."""

    pcm: Any
    """Pcm16 int16[frames, channels]; may be a view into the source's buffer, valid until the next read."""
    start_ns: int
    """Monotonic time of the first frame."""
    behind: bool = False
    """True while older sound waits in the device: `start_ns` may then be too late, and says nothing new."""


class Overrun(Value, frozen=True):
    """The device's own buffer ran over: sound between the last block and the next was lost."""


class EndOfAudio(Exception):
    """The source has delivered all it has. Not an error."""


class AudioSource(Protocol):
    """A microphone, a recording or a pipe. Used by one thread; `close` may be called twice."""

    name: str
    """For messages, for example "alsa:default"."""
    rate_hz: int
    """Frames per second; known after `open`."""
    channels: int
    """Samples per frame; known after `open`."""
    paced: bool
    """False when it can deliver faster than real time; its times then run ahead of the clock."""

    def open(self) -> None:
        """Make ready to read; does nothing when already open.

        Raises:
            MicrophoneLost: not there; a later try may work.
            MicrophoneBusy: held by another program; a later try may work.
            CaptureError: a library is missing, or the device is of no use; no later try will work.
            AudioFileError: a recording cannot be read; no later try will work.
        """
        ...

    def read(self, timeout_s: float) -> Block | Overrun | None:
        """The next block; None when nothing came within the time-out.

        Raises:
            EndOfAudio: there is no more.
            MicrophoneLost: the device is gone; close it and open it again.
        """
        ...

    def close(self) -> None:
        """Free the device or file."""
        ...
