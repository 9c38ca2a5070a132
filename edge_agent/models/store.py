"""The models on this device.

Layout below the root: `NAME/source/` holds the published files, `NAME/prepared/` the form made for this
device, each with a `manifest.json`. Anything called `*.partial` or `*.old` is unfinished work that no reader
looks at.
"""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from edge_agent.errors import DigestMismatch, DiskFull, ModelError, ModelMissing
from edge_agent.models.catalog import CatalogModel, load_catalog, published_name, valid_name
from edge_agent.models.files import copy_bytes, locked, put_in_place, sha256_of, sync_file, tree_bytes
from edge_agent.models.manifest import prepared_is_current, prepared_source
from edge_agent.models.seal import MANIFEST, changed_files, check, read_manifest, seal
from edge_agent.types import Value

log = logging.getLogger(__name__)

_REQUIRED = ("model.bin", "config.json")
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")


class StoredModel(Value, frozen=True):
    """A model on this device."""

    name: str
    published_name: str
    source: bool
    """The published files are here."""
    prepared: bool
    """The prepared form is here and of the current format."""
    size_bytes: int
    """All of it on disk."""


class ModelStore:
    """The models below one directory. Reading needs no lock; every change is one rename."""

    def __init__(self, root: Path, *, catalog: dict[str, CatalogModel] | None = None) -> None:
        self.root = root
        self.catalog = load_catalog() if catalog is None else catalog

    def source_dir(self, name: str) -> Path:
        """Where the published files belong."""
        return self._home(name) / "source"

    def prepared_dir(self, name: str) -> Path:
        """Where the prepared form belongs."""
        return self._home(name) / "prepared"

    def onnx_dir(self, name: str, precision: str) -> Path:
        """Where the ONNX form of a precision belongs."""
        return self._home(name) / f"onnx-{precision}"

    def onnx_path(self, name: str, precision: str) -> Path:
        """The directory of the ONNX form to load; sizes and times checked.

        Raises:
            ModelMissing: it was not made.
            DigestMismatch: its files are damaged.
        """
        directory = self.onnx_dir(name, precision)
        if not (directory / MANIFEST).is_file():
            raise ModelMissing(
                f"the {precision} ONNX form of {name} is not in {self.root}",
                remedy=f"run: edge-agent models convert {name} --to onnx --precision {precision}",
            )
        check(directory)
        return directory

    def onnx_dirs(self, name: str) -> tuple[Path, ...]:
        """Every ONNX form that is here (not that it is sound)."""
        sealed = sorted(self._home(name).glob(f"onnx-*/{MANIFEST}"))
        return tuple(path.parent for path in sealed if not path.parent.name.endswith((".partial", ".old")))

    def lock_path(self, name: str) -> Path:
        """The lock that those who change the model hold."""
        return self._home(name) / ".lock"

    def has_source(self, name: str) -> bool:
        """True when the published files are here (not that they are sound)."""
        return (self.source_dir(name) / MANIFEST).is_file()

    def has_prepared(self, name: str) -> bool:
        """True when a prepared form of the current format is here (not that it is sound)."""
        return prepared_is_current(self.prepared_dir(name))

    def path(self, name: str, *, compute_type: str = "int8") -> Path:
        """The directory to load: the prepared form, else the published files; sizes and times checked.

        The prepared form holds int8 weights, so it is for the int8 compute types only. A damaged one is
        passed over with a warning while the published files are sound.

        Raises:
            ModelMissing: the model is not here.
            DigestMismatch: its files are damaged.
        """
        if compute_type.startswith("int8") and self.has_prepared(name):
            try:
                check(self.prepared_dir(name))
            except ModelError as error:
                if not self.has_source(name):
                    raise
                log.warning("prepared model passed over: %s", error.cause)
            else:
                return self.prepared_dir(name)
        return self.published_dir(name)

    def published_dir(self, name: str) -> Path:
        """The directory of the published files; sizes and times checked.

        Raises:
            ModelMissing: they are not here.
            DigestMismatch: they are damaged.
        """
        if not self.has_source(name):
            raise self._missing(name)
        check(self.source_dir(name))
        return self.source_dir(name)

    def published_name(self, name: str) -> str:
        """`whisper-base@d01c3014881c`: the name and the first digits of the published model.bin's sha256.

        Raises:
            ModelMissing: the model is not here.
        """
        if self.has_source(name):
            return published_name(name, read_manifest(self.source_dir(name)).digests)
        if self.has_prepared(name):
            return published_name(name, prepared_source(self.prepared_dir(name)))
        raise self._missing(name)

    def list(self) -> tuple[StoredModel, ...]:
        """What is here, by name."""
        if not self.root.is_dir():
            return ()
        names = sorted(
            place.name for place in self.root.iterdir() if place.is_dir() and valid_name(place.name)
        )
        return tuple(self._stored(name) for name in names if self.has_source(name) or self.has_prepared(name))

    def verify(self, name: str) -> tuple[str, ...]:
        """Take every digest again; one line per fault, none when all is well.

        Raises:
            ModelMissing: the model is not here.
        """
        if not (self.has_source(name) or self.has_prepared(name)):
            raise self._missing(name)
        faults = []
        if self.has_source(name):
            faults += [*changed_files(self.source_dir(name)), *self._strangers(name)]
        if self.has_prepared(name):
            faults += changed_files(self.prepared_dir(name))
        for form in self.onnx_dirs(name):
            faults += changed_files(form)
        return tuple(faults)

    def import_dir(self, name: str, path: Path) -> Path:
        """Copy a model from a directory; a name of the catalogue admits only the catalogue's bytes.

        Raises:
            ModelError: the directory lacks a needed file, or the name cannot be used.
            DigestMismatch: a file differs from the catalogue.
            DiskFull: not enough room.
        """
        wanted = self._wanted(name, path)
        with locked(self.lock_path(name), name):
            staging = self._home(name) / "source.partial"
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            try:
                digests = {file: self._take(path / file, staging / file) for file in wanted}
                self._admit(name, digests)
                seal(staging, name, digests)
                put_in_place(staging, self.source_dir(name))
                self.drop_made(name)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        return self.source_dir(name)

    def adopt(self, name: str, ready: Path, digests: dict[str, str]) -> Path:
        """Take a directory of this file system whose digests the caller has just verified; one rename.

        Raises:
            ModelError: it lacks a needed file, or another process is at work on this model.
        """
        missing = [file for file in _REQUIRED if file not in digests]
        if missing or name in self.catalog:
            raise ModelError(
                f"{name} cannot be taken as a model: "
                + (f"{', '.join(missing)} missing" if missing else "the catalogue has that name"),
                remedy="sign a directory that holds model.bin and config.json",
            )
        with locked(self.lock_path(name), name):
            seal(ready, name, digests)
            put_in_place(ready, self.source_dir(name))
            self.drop_made(name)
        return self.source_dir(name)

    def take_made(self, name: str, ready: Path) -> Path:
        """Take a directory of this file system that was just made; its files are renamed, not copied. A name
        of the catalogue admits only the catalogue's bytes.

        Raises:
            ModelError, DigestMismatch, DiskFull: as `import_dir`.
            OSError: the disk does not take it.
        """
        if name in self.catalog:
            return self.import_dir(name, ready)
        wanted = self._wanted(name, ready)
        for file in wanted:
            sync_file(ready / file)
        return self.adopt(name, ready, {file: sha256_of(ready / file) for file in wanted})

    def drop_made(self, name: str) -> None:
        """Remove the forms made of published files that are no longer these; the caller holds the lock."""
        for made in (self.prepared_dir(name), *self._home(name).glob("onnx-*")):
            shutil.rmtree(made, ignore_errors=True)

    def prune(self, keep: Collection[str], *, sources: bool = False) -> int:
        """Remove models not named in `keep`, and unfinished work; with `sources`, also the published files of
        models that have a prepared form. Returns the bytes freed."""
        if not self.root.is_dir():
            return 0
        before = tree_bytes(self.root)
        for home in sorted(self.root.iterdir()):
            if not home.is_dir() or not valid_name(home.name):
                continue
            with locked(home / ".lock", home.name):
                self._prune_one(home, keep=home.name in keep, sources=sources)
        return before - tree_bytes(self.root)

    def _prune_one(self, home: Path, *, keep: bool, sources: bool) -> None:
        if not keep:
            shutil.rmtree(home)
            return
        for place in home.iterdir():
            if place.name.endswith((".partial", ".old")):
                shutil.rmtree(place, ignore_errors=True)
        if sources and self.has_prepared(home.name):
            check(self.prepared_dir(home.name))
            shutil.rmtree(self.source_dir(home.name), ignore_errors=True)

    def _home(self, name: str) -> Path:
        if not valid_name(name):
            raise ModelMissing(f'"{name}" is not a model name', remedy="see: edge-agent models list")
        return self.root / name

    def _missing(self, name: str) -> ModelMissing:
        return ModelMissing(
            f"the model {name} is not in {self.root}", remedy=f"run: edge-agent models pull {name}"
        )

    def _stored(self, name: str) -> StoredModel:
        try:
            known_as = self.published_name(name)
        except ModelError:
            known_as = f"{name}@damaged"  # one damaged model must not hide the others
        return StoredModel(
            name=name,
            published_name=known_as,
            source=self.has_source(name),
            prepared=self.has_prepared(name),
            size_bytes=tree_bytes(self._home(name)),
        )

    def _strangers(self, name: str) -> tuple[str, ...]:
        """Files whose recorded digest is not the catalogue's."""
        if name not in self.catalog:
            return ()
        here = read_manifest(self.source_dir(name)).digests
        return tuple(
            f"{self.source_dir(name) / file.path}: not the file of the catalogue"
            for file in self.catalog[name].files
            if here.get(file.path) != file.sha256
        )

    def _wanted(self, name: str, path: Path) -> tuple[str, ...]:
        self._home(name)
        if name in self.catalog:
            wanted = [file.path for file in self.catalog[name].files]
            missing = [file for file in wanted if not (path / file).is_file()]
        else:
            wanted = sorted(file.name for file in _model_files(path))
            missing = [file for file in _REQUIRED if file not in wanted]
            if not any(file in wanted for file in _VOCABULARIES):
                missing.append(_VOCABULARIES[0])
        if missing:
            raise ModelError(
                f"{path} is not a model directory of {name}: {', '.join(missing)} missing",
                remedy="name the directory that holds model.bin",
            )
        return tuple(wanted)

    def _take(self, source: Path, target: Path) -> str:
        try:
            copy_bytes(source, target, lambda _done: None)
            sync_file(target)
            return sha256_of(target)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(
                    f"no room left in {self.root} while copying {source.name}", remedy="free some space"
                ) from error
            raise ModelError(
                f"{source} cannot be copied ({error.strerror})", remedy="check the path"
            ) from error

    def _admit(self, name: str, digests: dict[str, str]) -> None:
        if name not in self.catalog:
            return
        for file in self.catalog[name].files:
            if digests[file.path] != file.sha256:
                raise DigestMismatch(
                    f"{file.path} is not that of {name}: sha256 {digests[file.path][:12]}… instead of "
                    f"{file.sha256[:12]}…",
                    remedy="import it under another name, or take the published files",
                )


def _model_files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return []
    return [
        place
        for place in path.iterdir()
        if place.is_file()
        and place.suffix in (".bin", ".json", ".txt")
        and place.name not in (MANIFEST, "prepared.json")
    ]
