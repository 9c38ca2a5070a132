"""From the text in the configuration to a source of sound."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote

from edge_agent.audio.recording import FileSource, PipeSource
from edge_agent.audio.source import AudioSource
from edge_agent.clock import Clock
from edge_agent.errors import ConfigError

_AFTER_S = 2.0
"""Silence after a recording, longer than any endpoint: it ends in a final of its own, in a loop too."""


def open_source(url: str, *, channels: int, clock: Clock, paced: bool = True) -> AudioSource:
    """The source that `url` names; not opened yet.

    Args:
        url: "alsa:<PCM name or card id>", "file:<path>", "file:<path>?loop=1" or "stdin:".
        channels: captured channels wanted; the device may give others, see `AudioSource.channels`.
        paced: for files: at the speed of sound, else as fast as they are read.

    Raises:
        ConfigError: the text names no source.
    """
    kind, colon, rest = url.partition(":")
    if kind == "stdin" and colon and not rest:
        return PipeSource(clock=clock)
    if kind == "file" and rest:
        path, _, query = rest.partition("?")
        options = parse_qs(query, keep_blank_values=True)
        if set(options) <= {"loop"} and options.get("loop", ["0"])[-1] in {"0", "1"}:
            loop = options.get("loop", ["0"])[-1] == "1"
            return FileSource(
                [Path(unquote(path))],
                clock=clock,
                channels=channels,
                paced=paced,
                loop=loop,
                gap_s=_AFTER_S,
            )
    if kind == "alsa" and rest:
        from edge_agent.audio.alsa import AlsaSource

        return AlsaSource(rest, channels=channels, clock=clock)
    raise ConfigError(
        f'audio source "{url}" is not understood',
        remedy='use "alsa:<device>", "file:<path>", "file:<path>?loop=1" or "stdin:"',
    )
