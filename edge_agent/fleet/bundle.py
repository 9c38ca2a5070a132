"""What is signed: one small document per bundle, which names every file by its digest, chunk by chunk. Pure.

The document is a TUF target called `KIND/NAME/VERSION.json`; the chunks lie beside it under their own sha256
and need no signature. The document is parsed after its digest was seen to hold, a chunk is never parsed.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from edge_agent.errors import Untrusted
from edge_agent.types import Value

Kind: TypeAlias = Literal["model", "profile", "engine"]

DOCUMENT_BYTES = 1 << 20
"""The longest document: 16,000 chunks."""
BUNDLE_BYTES = 32 << 30
CHUNK_BYTES = 4 << 20
"""What a lost connection costs at most."""

ENGINE_FILES = frozenset(
    {
        "engine.manifest.json",
        "encoder/config.json",
        "encoder/rank0.engine",
        "decoder/config.json",
        "decoder/rank0.engine",
    }
)
"""Of an engine for TensorRT-LLM."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
_FILE = re.compile(r"((golden|encoder|decoder)/)?[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Size = Annotated[int, Meta(ge=0, le=BUNDLE_BYTES)]


class Target(Value, frozen=True):
    """A bundle by its name and number, as the fleet asks for it."""

    name: str
    version: int
    kind: Kind = "model"

    @property
    def path(self) -> str:
        """Its name in the signed list."""
        return f"{self.kind}/{self.name}/{self.version}.json"

    @property
    def store_name(self) -> str:
        """The directory that holds it on the device, beside other versions."""
        return f"{self.name}.v{self.version}"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class BundleFile(Value, frozen=True):
    """One file, known by its content."""

    path: str
    size_bytes: _Size
    sha256: _Digest
    chunks: tuple[_Digest, ...]
    """Digests of its pieces of `chunk_bytes`; the last is shorter."""


class Golden(Value, frozen=True):
    """A recording in the bundle, and what must be heard in it."""

    file: str
    text: Annotated[str, Meta(min_length=1, max_length=1000)]
    language: Annotated[str, Meta(max_length=16)] = "en"


class Expect(Value, frozen=True):
    """What the publisher promises; the profile's own promise holds too."""

    rtf_max: Annotated[float, Meta(gt=0)] | None = None
    """Seconds of work per second of speech."""
    ram_max_mb: Annotated[int, Meta(ge=1)] | None = None


class Bundle(Value, frozen=True):
    """The signed document."""

    format: Literal[1]
    kind: Kind
    name: str
    version: Annotated[int, Meta(ge=1, le=2**53)]
    chunk_bytes: Annotated[int, Meta(ge=1 << 10, le=64 << 20)]
    files: Annotated[tuple[BundleFile, ...], Meta(min_length=1, max_length=64)]
    licence: str = ""
    languages: tuple[str, ...] = ()
    golden: Annotated[tuple[Golden, ...], Meta(max_length=16)] = ()
    expect: Expect = Expect()

    @property
    def target(self) -> Target:
        """What it is called."""
        return Target(name=self.name, version=self.version, kind=self.kind)

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files)


def valid_name(name: str) -> bool:
    """True for a name that can be a topic's, a file's and a directory's."""
    return _NAME.fullmatch(name) is not None


def plain_path(path: str) -> bool:
    """True for a path that a bundle may hold."""
    return _FILE.fullmatch(path) is not None


def read(document: bytes, wanted: Target) -> Bundle:
    """Parse a document whose digest was seen to hold.

    Raises:
        Untrusted: it is not a bundle of this programme's format, or not the one that was asked for.
    """
    try:
        bundle = msgspec.json.decode(document, type=Bundle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(wanted, f"its document cannot be read: {error}") from error
    if bundle.target != wanted:
        raise _refused(wanted, f"its document is that of {bundle.kind} {bundle.target}")
    wrong = _fault(bundle)
    if wrong:
        raise _refused(wanted, wrong)
    return bundle


def _fault(bundle: Bundle) -> str:
    """What is wrong with it; empty when nothing is."""
    paths = [file.path for file in bundle.files]
    for file in bundle.files:
        if not plain_path(file.path):
            return f'"{file.path[:80]}" is not a plain file name'
        if len(file.chunks) != -(-file.size_bytes // bundle.chunk_bytes):
            return f"{file.path} has {len(file.chunks)} chunks for {file.size_bytes} bytes"
    if len(set(paths)) != len(paths):
        return "it names a file twice"
    if bundle.size_bytes > BUNDLE_BYTES:
        return f"it is larger than {BUNDLE_BYTES >> 30} GB"
    missing = [clip.file for clip in bundle.golden if clip.file not in paths]
    return f"{missing[0]} is not among its files" if missing else _unfit(bundle)


def _unfit(bundle: Bundle) -> str:
    """Why the files are not those of a bundle of this kind; empty when they are."""
    own = {file.path for file in bundle.files if not file.path.startswith("golden/")}
    if bundle.kind == "profile":
        wanted = f"{bundle.name}.toml"
        return "" if own == {wanted} else f"it does not hold {wanted} alone"
    if bundle.kind == "engine":
        missing = sorted(ENGINE_FILES - own)
        return f"{missing[0]} is not among its files" if missing else ""
    strange = sorted(path for path in own if "/" in path)
    return f"{strange[0]} is not a file of a model" if strange else ""


def _refused(wanted: Target, why: str) -> Untrusted:
    return Untrusted(
        f"{wanted.kind} {wanted} is refused: {why}", remedy="sign a right one under a new number"
    )
