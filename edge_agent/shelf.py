"""The signed bundles that are on this device: put there whole, with their documents, in one rename each."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.fleet import places
from edge_agent.fleet.bundle import Bundle, Target, read
from edge_agent.models.files import put_in_place, sync_file
from edge_agent.models.store import ModelStore


class Shelf:
    """Reads and fills it.

    Args:
        models_dir: of the model store.
        fleet_dir: of everything else that the fleet keeps.
    """

    def __init__(self, models_dir: Path, fleet_dir: Path) -> None:
        self.store, self.fleet_dir = ModelStore(models_dir), fleet_dir

    def staging(self, target: Target) -> Path:
        """Where its files are fetched to."""
        return places.staging(target, models_dir=self.store.root, fleet_dir=self.fleet_dir)

    def papers(self, target: Target) -> Path:
        """The directory of its document and of its golden recordings."""
        return places.papers(target, models_dir=self.store.root, fleet_dir=self.fleet_dir)

    def bundle(self, target: Target) -> Bundle:
        """Its signed document.

        Raises:
            EdgeAgentError: it is not here.
        """
        try:
            document = (self.papers(target) / places.DOCUMENT).read_bytes()
        except OSError as error:
            raise ModelError(f"{target} is not on this device", remedy="it is fetched again") from error
        return read(document, target)

    def holds(self, target: Target) -> bool:
        """True when all its files are here: of a model sound by size and time, of others by digest."""
        return self._whole(target, digests=True)

    def seems_to_hold(self, target: Target) -> bool:
        """The same without reading an engine's gigabytes, which is done again when it is opened."""
        return self._whole(target, digests=target.kind != "engine")

    def _whole(self, target: Target, *, digests: bool) -> bool:
        try:
            bundle, place = self.bundle(target), self.papers(target)
            if target.kind == "model":
                self.store.published_dir(target.store_name)
                return True
            sizes = all((place / file.path).stat().st_size == file.size_bytes for file in bundle.files)
            return sizes and (
                not digests or all(_is(place / file.path, file.sha256) for file in bundle.files)
            )
        except (EdgeAgentError, OSError):
            return False

    def adopt(self, bundle: Bundle, place: Path) -> None:
        """From the fetched files; it is there in one rename.

        Raises:
            EdgeAgentError: it cannot be taken.
        """
        if bundle.kind == "model":
            self._adopt_model(bundle, place)
            return
        _write(bundle, place)
        home = self.papers(bundle.target)
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        put_in_place(place, home)

    def _adopt_model(self, bundle: Bundle, place: Path) -> None:
        """To the store; the document goes first, so that a model of the fleet is never without it."""
        papers = self.papers(bundle.target)
        ready = papers.with_name("bundle.partial")
        shutil.rmtree(ready, ignore_errors=True)
        ready.mkdir(parents=True)
        for file in bundle.files:
            if file.path.startswith("golden/"):
                (ready / "golden").mkdir(exist_ok=True)
                shutil.copyfile(place / file.path, ready / file.path)
                sync_file(ready / file.path)
        _write(bundle, ready)
        put_in_place(ready, papers)
        shutil.rmtree(place / "golden", ignore_errors=True)
        digests = {file.path: file.sha256 for file in bundle.files if not file.path.startswith("golden/")}
        self.store.adopt(bundle.target.store_name, place, digests)

    def clean_up(self, needed: Iterable[Target | None]) -> None:
        """Remove versions and half-fetched bundles that no step needs any more."""
        names = {(target.kind, target.store_name) for target in needed if target is not None}
        for home in self.store.root.glob("*.v*"):
            if (home / "bundle").is_dir() and ("model", home.name) not in names:
                shutil.rmtree(home, ignore_errors=True)
        for place in (self.store.root / ".fleet").glob("*"):
            if ("model", place.name) not in names:
                shutil.rmtree(place, ignore_errors=True)
        for kind in places.KINDS[1:]:
            for pattern in ("*.v*", ".partial/*"):
                for place in (self.fleet_dir / kind).glob(pattern):
                    if (kind, place.name) not in names:
                        shutil.rmtree(place, ignore_errors=True)


def _write(bundle: Bundle, place: Path) -> None:
    (place / places.DOCUMENT).write_bytes(msgspec.json.encode(bundle))
    sync_file(place / places.DOCUMENT)


def _is(path: Path, digest: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest
