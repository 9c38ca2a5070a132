"""The catalogue: which models exist, told apart by content, and where their bytes can be had."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

import msgspec

from edge_agent.errors import ConfigError, ModelMissing
from edge_agent.types import Value

DEFAULT_MODEL = "whisper-base"
"""What `models pull` fetches when no name is given."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class CatalogFile(Value, frozen=True):
    """One file of a model, known by its content."""

    path: str
    """Name inside the model's directory."""
    size_bytes: int
    sha256: str
    """64 lower-case hexadecimal digits."""


class Wheel(Value, frozen=True):
    """A Python package that carries files of a model as data."""

    package: str
    version: str
    size_bytes: int
    """Of the archive; used to check the disk and to show progress, not to judge the content."""
    members: dict[str, str]
    """File of the model -> member of the archive."""


class WheelSource(Value, frozen=True, tag="wheel", tag_field="kind"):
    """Packages of the Python index pip is set up for. A file found in several is their members joined."""

    wheels: tuple[Wheel, ...]


class HubSource(Value, frozen=True, tag="hub", tag_field="kind"):
    """A model hub's repository at one revision."""

    repo: str
    revision: str


class DirSource(Value, frozen=True, tag="dir", tag_field="kind"):
    """A directory that holds the files by their names, for example on a memory stick."""

    path: str


class UrlSource(Value, frozen=True, tag="url", tag_field="kind"):
    """A web server that holds the files by their names below `base`."""

    base: str


def kind_of(source: Source) -> str:
    """What the catalogue calls this kind of source: wheel, hub, dir or url."""
    return str(type(source).__struct_config__.tag)


Source: TypeAlias = WheelSource | HubSource | DirSource | UrlSource


class CatalogModel(Value, frozen=True):
    """One model: its files by content and the sources to try, in order."""

    name: str
    licence: str
    description: str
    files: tuple[CatalogFile, ...]
    languages: tuple[str, ...] = ()
    """BCP-47 primary tags; empty: all languages of the vocabulary."""
    engine: Literal["ctranslate2"] = "ctranslate2"
    mels: int = 80
    sources: tuple[Source, ...] = ()

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def published_name(self) -> str:
        """Name and the first 12 digits of model.bin's sha256, as transcripts carry it."""
        return published_name(self.name, {file.path: file.sha256 for file in self.files})


def published_name(name: str, digests: dict[str, str]) -> str:
    """`whisper-base@d01c3014881c`: the name and the first 12 digits of model.bin's sha256."""
    return f"{name}@{digests.get('model.bin', '')[:12]}"


def load_catalog(extra: Path | None = None) -> dict[str, CatalogModel]:
    """The models of the package, then those of the operator's own catalogue; a name there replaces one here.

    Raises:
        ConfigError: a catalogue cannot be read or says something it must not.
    """
    own = resources.files("edge_agent.models").joinpath("catalog.toml")
    models = _parse(own.read_text(encoding="utf-8"), "catalog.toml")
    if extra is not None:
        try:
            text = extra.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the catalogue {extra} cannot be read ({error})", remedy="check the path and its permissions"
            ) from error
        models |= _parse(text, str(extra))
    return models


def find_model(catalog: dict[str, CatalogModel], name: str) -> CatalogModel:
    """The model of that name.

    Raises:
        ModelMissing: there is none.
    """
    if name not in catalog:
        raise ModelMissing(
            f'the catalogue has no model "{name}"', remedy=f"use one of {', '.join(sorted(catalog))}"
        )
    return catalog[name]


def valid_name(name: str) -> bool:
    """True for a name that is safe as a directory: letters, digits, dot, dash, underscore; 64 at most."""
    return _NAME.fullmatch(name) is not None


def _parse(text: str, where: str) -> dict[str, CatalogModel]:
    try:
        tables = tomllib.loads(text)
        return {name: _model(name, table) for name, table in tables.items()}
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"the catalogue {where} is wrong: {error}", remedy="correct that line") from error


def _model(name: str, table: Any) -> CatalogModel:
    if not isinstance(table, dict):
        raise ValueError(f'"{name}" is not a table')  # noqa: TRY004 - the caller gathers one kind
    try:
        model = msgspec.convert({"name": name, **table}, CatalogModel)
    except msgspec.ValidationError as error:
        raise ValueError(f"{name}: {error}") from error
    if not valid_name(name):
        raise ValueError(f'"{name}" is not a usable name (letters, digits, ".", "-", "_")')
    for file in model.files:
        _check_file(name, file)
    if not any(file.path == "model.bin" for file in model.files):
        raise ValueError(f"{name}: model.bin is missing among the files")
    return model


def _check_file(name: str, file: CatalogFile) -> None:
    parts = PurePosixPath(file.path).parts
    if len(parts) != 1 or not valid_name(file.path):
        raise ValueError(f'{name}: "{file.path}" is not a plain file name')
    if not _SHA256.fullmatch(file.sha256):
        raise ValueError(f"{name}: {file.path}: sha256 wants 64 lower-case hexadecimal digits")
    if file.size_bytes < 0:
        raise ValueError(f"{name}: {file.path}: size_bytes is negative")
