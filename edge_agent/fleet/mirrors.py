"""Bytes from mirrors: a static web server, a USB stick, a directory. None of them is trusted with anything.

Every read is bounded in size and in time; who judges the bytes is the caller.
"""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from edge_agent import __version__
from edge_agent.errors import ConfigError

SILENCE_S = 20.0
"""Longest wait for a server to say anything."""
_SLOWEST_BYTES_PER_S = 2_000
"""Slower than this for a whole file is as good as not there: a server that drips must not hold a device."""
_PIECE = 1 << 16


class Absent(Exception):
    """The mirror answers, and has no such file. Never leaves the room."""


class Unreachable(Exception):
    """The mirror does not answer; the message is a short reason. Never leaves the room."""


class TooLong(Exception):
    """The mirror sends more than there may be. Never leaves the room."""


class Mirror(Protocol):
    """One place that holds the tree `metadata/`, `targets/`, `chunks/`."""

    name: str

    def read(self, path: str, limit: int) -> Iterator[bytes]:
        """Pieces of a file of at most `limit` bytes.

        Raises:
            Absent, Unreachable, TooLong.
        """
        ...


def mirror(place: str) -> Mirror:
    """A web address or an absolute path.

    Raises:
        ConfigError: it is neither.
    """
    if place.startswith(("http://", "https://")) and urllib.parse.urlsplit(place).hostname:
        return Web(place)
    if place.startswith("/"):
        return Directory(Path(place))
    raise ConfigError(
        f'fleet.mirrors: "{place}" is no mirror', remedy="use an http(s) address or an absolute path"
    )


class Directory:
    """A directory, which may come and go with a stick."""

    def __init__(self, root: Path) -> None:
        self._root, self.name = root, str(root)

    def read(self, path: str, limit: int) -> Iterator[bytes]:
        """See Mirror."""
        if not self._root.is_dir():
            raise Unreachable(f"{self.name} is not there")
        done = 0
        try:
            with (self._root / path).open("rb") as file:
                while piece := file.read(_PIECE):
                    done += len(piece)
                    if done > limit:
                        raise TooLong
                    yield piece
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise Absent from error
        except OSError as error:
            raise Unreachable(f"{self.name}: {error.strerror}") from error


class Web:
    """A static web server. Proxies are those of the environment."""

    def __init__(self, base: str) -> None:
        self._base, self.name = base.rstrip("/"), urllib.parse.urlsplit(base).netloc

    def read(self, path: str, limit: int) -> Iterator[bytes]:
        """See Mirror."""
        url = f"{self._base}/{urllib.parse.quote(path)}"
        deadline = time.monotonic() + SILENCE_S + limit / _SLOWEST_BYTES_PER_S
        headers = {"User-Agent": f"edge-agent/{__version__}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme was checked by `mirror`
        done = 0
        try:
            with urllib.request.urlopen(request, timeout=SILENCE_S) as answer:  # noqa: S310 - as above
                while piece := answer.read1(_PIECE):
                    done += len(piece)
                    if done > limit:
                        raise TooLong
                    if time.monotonic() > deadline:
                        raise Unreachable(f"{self.name}: too slow")
                    yield piece
        except urllib.error.HTTPError as error:
            if error.code in {403, 404, 410}:
                raise Absent from error
            raise Unreachable(f"{self.name}: HTTP {error.code}") from error
        except urllib.error.URLError as error:
            reason = getattr(error.reason, "strerror", None) or error.reason
            raise Unreachable(f"{self.name}: {reason}") from error
        except (http.client.HTTPException, OSError, ssl.SSLError, ValueError) as error:
            raise Unreachable(f"{self.name}: {error or type(error).__name__}") from error


def read_whole(source: Mirror, path: str, limit: int) -> bytes:
    """A file of at most `limit` bytes.

    Raises:
        Absent, Unreachable, TooLong.
    """
    return b"".join(source.read(path, limit))
