"""systemd's journal, without a library: one datagram per entry, each fact a field of its own.

The format is systemd's "native journal protocol": NAME=value lines; a value that holds a newline is written
as NAME, newline, its length as 64 bits little endian, the bytes, newline.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
_LONGEST = 48_000
"""Bytes of one value; an entry must fit into a datagram."""


def reads_stderr() -> bool:
    """True when this process's stderr goes to the journal, which then may as well be told directly."""
    try:
        device, inode = map(int, os.environ.get("JOURNAL_STREAM", "").split(":"))
        stderr = os.fstat(2)
    except (ValueError, OSError):
        return False
    return (stderr.st_dev, stderr.st_ino) == (device, inode) and SOCKET.exists()


def encode(fields: Mapping[str, str]) -> bytes:
    """One entry. Names must be what the journal allows: capitals, digits, underscores, a letter first."""
    parts = []
    for name, value in fields.items():
        content = value.encode("utf-8", "replace")[:_LONGEST]
        if b"\n" in content:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(content)) + content + b"\n")
        else:
            parts.append(name.encode() + b"=" + content + b"\n")
    return b"".join(parts)


class Journal:
    """A connection that is made once; thread-safe, because each entry is one datagram.

    Raises:
        OSError: there is no journal.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(1)
        self._socket.connect(str(path))

    def send(self, fields: Mapping[str, str]) -> None:
        """Add an entry.

        Raises:
            OSError: the journal does not take it.
        """
        self._socket.send(encode(fields))
