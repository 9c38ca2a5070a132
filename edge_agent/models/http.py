"""One file over HTTP, resumed where it broke off. Proxies are those of the environment."""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Protocol

from edge_agent import __version__
from edge_agent.models.catalog import CatalogFile
from edge_agent.models.transport import Progress, ProgressFn, SourceFailed

TIMEOUT_S = 30.0
"""Longest wait for the server to say anything."""
RETRY_S = 0.5
"""First wait before another try; it doubles while nothing arrives."""
_CHUNK_BYTES = 1 << 16
_TRIES_WITHOUT_PROGRESS = 3
_TRIES = 50
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206
_WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Answer(Protocol):
    status: int
    headers: http.client.HTTPMessage

    def read(self, amount: int) -> bytes: ...


def download(url: str, file: CatalogFile, partial: Path, progress: ProgressFn) -> None:
    """Fetch `url` into `partial`, beginning after what is already there. The caller judges the content.

    Raises:
        SourceFailed: the server cannot be reached, refuses, or has a file of another size.
        OSError: the file cannot be written.
    """
    idle = 0
    for _ in range(_TRIES):
        have = _size(partial)
        if have == file.size_bytes and have > 0:
            return
        if have > file.size_bytes:
            partial.unlink()
            continue
        reason = _attempt(url, file, partial, progress)
        idle = 0 if _size(partial) > have else idle + 1
        if _size(partial) >= file.size_bytes:
            return
        if idle >= _TRIES_WITHOUT_PROGRESS:
            break
        time.sleep(RETRY_S * 2**idle)
    raise SourceFailed(reason)


def _attempt(url: str, file: CatalogFile, partial: Path, progress: ProgressFn) -> str:
    """One connection. Returns why it ended early, for the caller to retry."""
    have = _size(partial)
    headers = {"User-Agent": f"edge-agent/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    host = urllib.parse.urlsplit(url).netloc
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme is checked by the caller
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
            return _receive(answer, file, partial, progress)
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_NOT_SATISFIABLE:
            partial.unlink(missing_ok=True)
        elif error.code not in _WORTH_RETRYING:
            raise SourceFailed(f"{host}: HTTP {error.code} {error.reason}") from error
        return f"{host}: HTTP {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return f"{host}: {getattr(error.reason, 'strerror', None) or error.reason}"
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        return f"{host}: connection lost ({error or type(error).__name__})"
    except ValueError as error:
        raise SourceFailed(f"{url}: {error}") from error


def _receive(answer: _Answer, file: CatalogFile, partial: Path, progress: ProgressFn) -> str:
    done = _first_byte(answer, _size(partial))
    _check_size(answer, done, file)
    with partial.open("r+b" if done else "wb") as out:
        out.truncate(done)
        out.seek(done)
        while chunk := answer.read(_CHUNK_BYTES):
            done += len(chunk)
            if done > file.size_bytes:
                raise SourceFailed(f"{file.path} is larger there than {file.size_bytes:,} bytes")
            out.write(chunk)
            progress(Progress(label=file.path, done_bytes=done, total_bytes=file.size_bytes))
    return f"{file.path}: connection closed after {done:,} of {file.size_bytes:,} bytes"


def _first_byte(answer: _Answer, have: int) -> int:
    """Where the server's bytes begin: 0 when it sends the whole file."""
    if answer.status != _PARTIAL_CONTENT:
        return 0
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if match is None or int(match[1]) > have:
        raise SourceFailed("the server answers another range than asked")
    return int(match[1])


def _check_size(answer: _Answer, done: int, file: CatalogFile) -> None:
    length = answer.headers.get("Content-Length", "")
    if length.isdigit() and done + int(length) != file.size_bytes:
        raise SourceFailed(
            f"{file.path} has {done + int(length):,} bytes there instead of {file.size_bytes:,}"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
