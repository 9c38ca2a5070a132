"""The files of a bundle, chunk by chunk: an interruption costs one chunk, any mirror may give any."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from edge_agent.errors import DiskFull, EdgeAgentError, FleetError, NoMirror, Untrusted
from edge_agent.files import sync_directory
from edge_agent.fleet.bundle import Bundle, BundleFile
from edge_agent.fleet.mirrors import Absent, Mirror, TooLong, Unreachable, read_whole

SPARE_BYTES = 16 << 20
"""Left for everything else that writes on this disk, the outbox before all."""
PREPARED_SHARE = 1.6
"""A model and its prepared form, as a share of the bundle."""

Progress = Callable[[int, int], None]
"""Bytes done, bytes in all."""


class Hash(Protocol):
    """A digest that is growing."""

    def update(self, data: bytes, /) -> None: ...


def check_disk(bundle: Bundle, place: Path) -> None:
    """Refuse before anything is fetched when it cannot fit, prepared form included.

    Raises:
        DiskFull: naming both figures.
    """
    have = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) if place.is_dir() else 0
    need = int(bundle.size_bytes * PREPARED_SHARE) + SPARE_BYTES - have
    nearest = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(nearest).free
    if need > free:
        raise DiskFull(
            f"{bundle.target} needs {need / 1e6:.0f} MB in {nearest} and {free / 1e6:.0f} MB are free",
            remedy="free some space (edge-agent models prune)",
        )


def fetch(bundle: Bundle, mirrors: Sequence[Mirror], place: Path, progress: Progress) -> None:
    """Bring all files into `place`; what is there and right is kept, anything else there is removed.

    Raises:
        Untrusted: every mirror that answers has other bytes than were signed.
        NoMirror: none answers.
        DiskFull: no room left.
        FleetError: `place` cannot be written.
    """
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(bundle, place)
        done = 0
        for file in bundle.files:
            (place / file.path).parent.mkdir(exist_ok=True)
            if not _holds(place / file.path, file):
                _fetch_file(bundle, file, mirrors, place, partial(_grown, progress, bundle, done))
            done += file.size_bytes
            progress(done, bundle.size_bytes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(place, ignore_errors=True)  # room is worth more to the device than half a model
            raise DiskFull(f"no room left for {bundle.target}", remedy="free some space") from error
        raise FleetError(
            f"{place} cannot be written ({error.strerror or error})", remedy="check the disk"
        ) from error


def _grown(progress: Progress, bundle: Bundle, before: int, more: int) -> None:
    progress(before + more, bundle.size_bytes)


def _fetch_file(
    bundle: Bundle, file: BundleFile, mirrors: Sequence[Mirror], place: Path, grown: Callable[[int], None]
) -> None:
    growing = place / f"{file.path}.partial"
    whole = hashlib.sha256()
    with growing.open("r+b" if growing.exists() else "w+b") as out:
        kept = _kept_chunks(out, file, bundle.chunk_bytes, whole)
        # The last chunk is shorter: a file that is whole already must not grow.
        begin = min(kept * bundle.chunk_bytes, file.size_bytes)
        out.truncate(begin)
        out.seek(begin)
        for number in range(kept, len(file.chunks)):
            size = min(bundle.chunk_bytes, file.size_bytes - number * bundle.chunk_bytes)
            chunk = _chunk(file.chunks[number], size, mirrors)
            whole.update(chunk)
            out.write(chunk)
            grown(out.tell())
        out.flush()
        os.fsync(out.fileno())
    if whole.hexdigest() != file.sha256 or growing.stat().st_size != file.size_bytes:
        growing.unlink()
        raise Untrusted(
            f"{file.path} of {bundle.target} is not what was signed", remedy="sign the bundle anew"
        )
    growing.replace(place / file.path)
    sync_directory((place / file.path).parent)


def _kept_chunks(out: IO[bytes], file: BundleFile, chunk_bytes: int, whole: Hash) -> int:
    """How many chunks an interrupted fetch left whole: each is read again, a power cut may have holed it."""
    for number, digest in enumerate(file.chunks):
        data = out.read(chunk_bytes)
        if hashlib.sha256(data).hexdigest() != digest:
            return number
        whole.update(data)
    return len(file.chunks)


def _holds(path: Path, file: BundleFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


def _sweep(bundle: Bundle, place: Path) -> None:
    """Remove what does not belong to the bundle: a model's directory holds what was signed, no more."""
    ours = {name for file in bundle.files for name in (file.path, f"{file.path}.partial")}
    for path in sorted(place.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(place).as_posix() not in ours or path.is_symlink():
            path.unlink()


def _chunk(digest: str, size: int, mirrors: Sequence[Mirror]) -> bytes:
    """One chunk whose digest holds, from the first mirror that has it."""
    faults: list[EdgeAgentError] = []
    path = f"chunks/{digest[:2]}/{digest}"
    for source in mirrors:
        try:
            data = read_whole(source, path, size)
        except (Absent, Unreachable) as error:
            why = str(error) or f"{source.name} has no {path}"
            faults.append(NoMirror(f"a piece of the bundle is missing: {why}", remedy="check the mirror"))
            continue
        except TooLong:
            data = b""
        if len(data) == size and hashlib.sha256(data).hexdigest() == digest:
            return data
        faults.insert(
            0,
            Untrusted(
                f"{source.name} has other bytes than were signed ({path})",
                remedy="copy the repository to the mirror again",
            ),
        )
    raise faults[0] if faults else NoMirror("fleet.mirrors names no mirror", remedy="name one")
