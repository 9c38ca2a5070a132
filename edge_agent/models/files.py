"""Files that survive a power cut: digests, copies, and writes that are there whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edge_agent.errors import ModelError

CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Digest of a file, 64 hexadecimal digits. OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_bytes(source: Path, target: Path, grown: Callable[[int], None]) -> None:
    """Copy in chunks; `grown` hears the bytes done after each. OSError when either side fails."""
    done = 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(CHUNK_BYTES):
            writer.write(chunk)
            done += len(chunk)
            grown(done)


def sync_file(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_dir(path: Path) -> None:
    """Wait until the directory's names are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_dir(path.parent)


def put_in_place(ready: Path, final: Path) -> None:
    """Rename a finished directory to its final name; what was there before goes away after."""
    old = final.with_name(final.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    sync_dir(ready)
    if final.exists():
        final.rename(old)
    ready.rename(final)
    sync_dir(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def tree_bytes(path: Path) -> int:
    """Bytes of all regular files below a directory; files that vanish meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(path):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold an advisory lock file so that two processes do not change one model at once.

    Raises:
        ModelError: another process holds it, or nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise ModelError(
            f"{what} cannot be changed: {path.parent}: {error.strerror}",
            remedy=f"let {path.parent} be writable, or name another directory in EDGE_AGENT_MODELS",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelError(
                f"another process is changing {what} at this moment", remedy="wait for it and try again"
            ) from error
        yield
