"""The seal of a model directory: `manifest.json`, written after every digest was seen to hold.

It records each file's size, sha256 and modification time. A load compares sizes and times, which costs
microseconds; only when a time differs is the digest taken again (0.1-0.4 s). A truncated, rewritten or
patched file is thus caught before any library parses it; decay that leaves the time alone is found by `models
verify`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_agent.errors import DigestMismatch, ModelError
from edge_agent.models.files import sha256_of, write_json
from edge_agent.types import Value

MANIFEST = "manifest.json"


class SealedFile(Value, frozen=True):
    """A file as it was when its digest held."""

    path: str
    size_bytes: int
    sha256: str
    modified_ns: int


class Manifest(Value, frozen=True):
    """What a model directory holds."""

    name: str
    files: tuple[SealedFile, ...]
    format: int = 1

    @property
    def digests(self) -> dict[str, str]:
        """File name -> sha256."""
        return {file.path: file.sha256 for file in self.files}


def seal(directory: Path, name: str, digests: dict[str, str]) -> Manifest:
    """Record files whose digests the caller has just verified. OSError when it cannot be written."""
    files = []
    for path, sha256 in digests.items():
        stat = (directory / path).stat()
        files.append(
            SealedFile(path=path, size_bytes=stat.st_size, sha256=sha256, modified_ns=stat.st_mtime_ns)
        )
    manifest = Manifest(name=name, files=tuple(files))
    write_json(directory / MANIFEST, msgspec.to_builtins(manifest))
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a directory.

    Raises:
        ModelError: it is missing or damaged.
    """
    path = directory / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path} cannot be read ({error})", remedy=f"run: edge-agent models pull {_name_of(directory)}"
        ) from error


def check(directory: Path) -> Manifest:
    """Compare sizes and times with the manifest, and digests where a time differs.

    Raises:
        DigestMismatch: a file is missing, truncated or changed.
        ModelError: the manifest itself cannot be read.
    """
    manifest = read_manifest(directory)
    touched = False
    for file in manifest.files:
        touched = _check_file(directory, manifest.name, file) or touched
    if touched:
        _renew(directory, manifest)
    return manifest


def changed_files(directory: Path) -> list[str]:
    """Every digest taken again: one line per file that is not what the manifest says; empty when all are."""
    manifest = read_manifest(directory)
    faults = []
    for file in manifest.files:
        path = directory / file.path
        try:
            found = sha256_of(path)
        except OSError as error:
            faults.append(f"{path}: {error.strerror}")
            continue
        if found != file.sha256:
            faults.append(f"{path}: sha256 is {found[:12]}… and should be {file.sha256[:12]}…")
    return faults


def _check_file(directory: Path, name: str, file: SealedFile) -> bool:
    """True when the content holds but the recorded time does not."""
    path = directory / file.path
    remedy = f"run: edge-agent models pull {name}"
    try:
        stat = path.stat()
        if stat.st_size != file.size_bytes:
            raise DigestMismatch(
                f"the model file {path} is damaged: {stat.st_size:,} bytes instead of {file.size_bytes:,}",
                remedy=remedy,
            )
        if stat.st_mtime_ns == file.modified_ns:
            return False
        if sha256_of(path) != file.sha256:
            raise DigestMismatch(f"the model file {path} is damaged: its digest is wrong", remedy=remedy)
    except OSError as error:
        raise DigestMismatch(
            f"the model file {path} cannot be read ({error.strerror})", remedy=remedy
        ) from error
    return True


def _renew(directory: Path, manifest: Manifest) -> None:
    try:
        seal(directory, manifest.name, manifest.digests)
    except OSError:
        return  # a read-only store: the digests are taken again at the next load


def _name_of(directory: Path) -> str:
    return directory.parent.name
