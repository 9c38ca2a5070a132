#!/usr/bin/env python3
"""The fleet's signed repository: a directory of static files, for any web server or a USB stick.

    repository.py init REPO --keys KEYS                 keys and first metadata; move KEYS/root-* off line
    repository.py add REPO --keys KEYS NAME VERSION DIR sign a model (add-profile, add-engine: those)
    repository.py remove REPO --keys KEYS NAME VERSION  take a bundle off the list
    repository.py refresh REPO --keys KEYS              renew what expires soon (daily, by a timer)
    repository.py rotate REPO --keys KEYS ROLE          new key for a role; needs two root keys
    repository.py show REPO                             what is signed, and until when

REPO holds metadata/, targets/ and chunks/; publish it as it is. Devices trust what the root document says
that came with their enrolment (REPO/metadata/1.root.json). Roles: root (three keys, any two sign, off line),
targets (signs bundles, on the publisher's machine), snapshot and timestamp (may live where `refresh` runs).
Keys are PEM files with mode 0600; FLEET_KEY_PASSWORD encrypts them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from edge_agent.errors import EdgeAgentError, UsageError
from edge_agent.files import write_atomically
from edge_agent.fleet.bundle import CHUNK_BYTES, Target, plain_path, read, valid_name

ROLES = ("root", "targets", "snapshot", "timestamp")
DAYS = {"root": 365, "targets": 90, "snapshot": 30, "timestamp": 7}
"""How long each is valid: the shorter, the sooner a device notices that it is kept on an old state."""
ROOT_KEYS, ROOT_THRESHOLD = 3, 2
_PIECE = 1 << 20


class Keys:
    """A directory of PEM files: targets.pem, root-1.pem and so on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        password = os.environ.get("FLEET_KEY_PASSWORD", "")
        self._password = password.encode() or None

    def make(self, name: str) -> CryptoSigner:
        """A new key; never overwrites one."""
        path = self.directory / f"{name}.pem"
        if path.exists():
            raise UsageError(f"{path} exists", remedy="name an empty directory for the keys")
        key = Ed25519PrivateKey.generate()
        locked = (
            serialization.BestAvailableEncryption(self._password)
            if self._password
            else serialization.NoEncryption()
        )
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, pem, mode=0o600)
        return CryptoSigner(key)

    def of(self, role: str, root: Root) -> list[CryptoSigner]:
        """The keys here that may sign for a role now."""
        found = []
        for path in sorted(self.directory.glob(f"{role}*.pem")):
            signer = self._load(path)
            if signer.public_key.keyid in root.roles[role].keyids:
                found.append(signer)
        return found

    def _load(self, path: Path) -> CryptoSigner:
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), self._password)
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(
                f"the key {path} cannot be read ({error})", remedy="set FLEET_KEY_PASSWORD, or check the file"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError(f"{path} is not an Ed25519 key", remedy="use the keys that init made")
        return CryptoSigner(key)


class Repository:
    """The signed lists and the files beside them.

    Args:
        place: its directory.
        keys: those at hand; None for reading only.
        now: the time of signing.
    """

    def __init__(self, place: Path, keys: Keys | None = None, now: datetime | None = None) -> None:
        self.place, self._keys = place, keys
        self.now = (now or datetime.now(UTC)).replace(microsecond=0)
        self.roles: dict[str, Metadata] = {}

    @classmethod
    def create(cls, place: Path, keys: Keys, now: datetime | None = None) -> Repository:
        """A new repository with new keys."""
        if (place / "metadata").exists():
            raise UsageError(f"{place} is a repository already", remedy="name another directory")
        made = cls(place, keys, now)
        root = Root(expires=made._until("root"), consistent_snapshot=True)
        for role in ROLES:
            many = ROOT_KEYS if role == "root" else 1
            for number in range(many):
                signer = keys.make(f"{role}-{number + 1}" if many > 1 else role)
                root.add_key(signer.public_key, role)
        root.roles["root"].threshold = ROOT_THRESHOLD
        made.roles = {
            "root": Metadata(root),
            "targets": Metadata(Targets(expires=made._until("targets"))),
            "snapshot": Metadata(Snapshot(expires=made._until("snapshot"))),
            "timestamp": Metadata(Timestamp(expires=made._until("timestamp"))),
        }
        made._write("root")
        made._publish("targets", first=True)
        return made

    def load(self) -> Repository:
        """Read the newest state."""
        folder = self.place / "metadata"
        if not (folder / "timestamp.json").exists():
            raise UsageError(f"{self.place} is no repository", remedy="make one: repository.py init")
        self.roles = {"timestamp": Metadata.from_file(str(folder / "timestamp.json"))}
        for role in ("root", "targets", "snapshot"):
            newest = max(int(path.name.split(".")[0]) for path in folder.glob(f"*.{role}.json"))
            self.roles[role] = Metadata.from_file(str(folder / f"{newest}.{role}.json"))
        return self

    @property
    def root(self) -> Root:
        """Who may sign what."""
        return self.roles["root"].signed

    @property
    def targets(self) -> Targets:
        """What is signed."""
        return self.roles["targets"].signed

    def add(self, target: Target, source: Path, about: dict[str, object]) -> int:
        """Sign a directory as a bundle; answers its size in bytes. A number is given once."""
        if not valid_name(target.name):
            raise UsageError(
                f'"{target.name}" is no name', remedy="use letters, digits, dot, dash, underscore"
            )
        numbers = [v for name, v in self.bundles(target.kind) if name == target.name]
        if numbers and target.version <= max(numbers):
            raise UsageError(
                f"{target.name} {max(numbers)} is signed already", remedy=f"use {max(numbers) + 1} or more"
            )
        files = [self._store(path, path.relative_to(source).as_posix()) for path in _files_of(source)]
        document = json.dumps(
            {
                "format": 1,
                "kind": target.kind,
                "name": target.name,
                "version": target.version,
                "chunk_bytes": CHUNK_BYTES,
                "files": files,
                **about,
            },
            ensure_ascii=False,
        ).encode()
        bundle = read(document, target)  # what a device would refuse is not signed
        self.targets.targets[target.path] = self._document(target, document)
        self._publish("targets")
        return bundle.size_bytes

    def remove(self, target: Target) -> None:
        """Take a bundle off the list: no device will install it any more. Its chunks stay."""
        if target.path not in self.targets.targets:
            raise UsageError(
                f"{target.name} {target.version} is not signed", remedy="see: repository.py show"
            )
        del self.targets.targets[target.path]
        self._publish("targets")

    def refresh(self) -> list[str]:
        """Sign again what expires within half its life; the timestamp always. Answers the roles."""
        due = [r for r in ROLES if (self.roles[r].signed.expires - self.now).days * 2 < DAYS[r]]
        if "root" in due:
            self.root.version += 1
            self.root.expires = self._until("root")
            self._write("root")
        self._publish("targets" if "targets" in due else "snapshot" if "snapshot" in due else "timestamp")
        return due or ["timestamp"]

    def rotate(self, role: str) -> None:
        """A new key for a role; an old one no longer counts. For root one of the three is replaced."""
        if role not in ROLES:
            raise UsageError(f'"{role}" is no role', remedy=f"use one of {', '.join(ROLES)}")
        assert self._keys is not None
        before = Metadata.from_bytes(self.roles["root"].to_bytes()).signed
        old = min(self.root.roles[role].keyids)
        self.root.revoke_key(old, role)
        self.root.add_key(self._keys.make(f"{role}-v{self.root.version + 1}").public_key, role)
        self.root.version += 1
        self.root.expires = self._until("root")
        self._write("root", also=before)
        if role != "root":
            self._publish(role)

    def bundles(self, kind: str = "") -> list[tuple[str, int]]:
        """(name, version) of all that is signed."""
        found = []
        for path in self.targets.targets:
            its_kind, name, number = path.removesuffix(".json").split("/")
            if kind in ("", its_kind):
                found.append((name, int(number)))
        return sorted(found)

    def _store(self, path: Path, name: str) -> dict[str, object]:
        """Put a file's chunks beside each other under their digests."""
        whole, size, chunks = hashlib.sha256(), 0, []
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                whole.update(chunk)
                size += len(chunk)
                digest = hashlib.sha256(chunk).hexdigest()
                chunks.append(digest)
                place = self.place / "chunks" / digest[:2] / digest
                if not place.exists() or place.stat().st_size != len(chunk):
                    write_atomically(place, chunk)
        return {"path": name, "size_bytes": size, "sha256": whole.hexdigest(), "chunks": chunks}

    def _document(self, target: Target, document: bytes) -> TargetFile:
        digest = hashlib.sha256(document).hexdigest()
        folder, _, name = target.path.rpartition("/")
        write_atomically(self.place / "targets" / folder / f"{digest}.{name}", document)
        return TargetFile.from_data(target.path, document, ["sha256"])

    def _publish(self, lowest: str, *, first: bool = False) -> None:
        """Sign a role and those above it, timestamp last: until then nobody sees any of it."""
        changed = ROLES[ROLES.index(lowest) :]
        if "targets" in changed:
            self._renew("targets", first=first)
            self.roles["snapshot"].signed.meta["targets.json"] = MetaFile(self.targets.version)
        if "snapshot" in changed:
            self._renew("snapshot", first=first)
        snapshot = (
            self.place / "metadata" / f"{self.roles['snapshot'].signed.version}.snapshot.json"
        ).read_bytes()
        self.roles["timestamp"].signed.snapshot_meta = MetaFile.from_data(
            self.roles["snapshot"].signed.version, snapshot, ["sha256"]
        )
        self._renew("timestamp", first=first)

    def _renew(self, role: str, *, first: bool) -> None:
        signed = self.roles[role].signed
        signed.version += 0 if first else 1
        signed.expires = self._until(role)
        self._write(role)

    def _write(self, role: str, also: Root | None = None) -> None:
        """Sign with all keys at hand, and refuse when those are too few."""
        assert self._keys is not None
        metadata, signers = self.roles[role], {}
        for rules in (self.root, also):
            if rules is not None:
                signers |= {s.public_key.keyid: s for s in self._keys.of(role, rules)}
        metadata.signatures.clear()
        for signer in signers.values():
            metadata.sign(signer, append=True)
        for rules in filter(None, (self.root, also)):
            need, have = rules.roles[role].threshold, set(rules.roles[role].keyids) & set(signers)
            if len(have) < need:
                raise UsageError(
                    f"{need} keys of {role} are needed and {len(have)} are in {self._keys.directory}",
                    remedy="bring the keys to this machine for this command",
                )
        name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        write_atomically(self.place / "metadata" / name, metadata.to_bytes(JSONSerializer()))

    def _until(self, role: str) -> datetime:
        return self.now + timedelta(days=DAYS[role])


def _prove(target: Target, source: Path) -> None:
    """Refuse what no device could serve with; of a model, the golden recordings are the proof."""
    if target.kind == "profile":
        from edge_agent.profile.load import load_all

        file = source / f"{target.name}.toml"
        if not file.is_file():
            raise UsageError(f"{source} holds no {file.name}", remedy="call the file like the bundle")
        load_all(more={target.store_name: file})
    elif target.kind == "engine":
        from edge_agent.engine import trtllm_files

        manifest = trtllm_files.read(source)
        if manifest is None:
            raise UsageError(
                f"{source} holds no engine.manifest.json", remedy="name a directory that engines build made"
            )
        changed = trtllm_files.faults(source, manifest)
        if changed:
            raise UsageError(f"the engine is damaged: {changed[0]}", remedy="build it again")


def _files_of(source: Path) -> Iterator[Path]:
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    if not paths:
        raise UsageError(f"{source} holds no files", remedy="name the directory of the bundle")
    for path in paths:
        if not plain_path(path.relative_to(source).as_posix()):
            raise UsageError(f"{path} has no plain name", remedy="use letters, digits, dot, dash, underscore")
        yield path


def _about(args: argparse.Namespace) -> dict[str, object]:
    about: dict[str, object] = {"licence": args.licence, "languages": args.language}
    about["golden"] = [dict(zip(("file", "language", "text"), clip, strict=True)) for clip in args.golden]
    limits = {"rtf_max": args.rtf_max, "ram_max_mb": args.ram_max_mb}
    about["expect"] = {key: value for key, value in limits.items() if value is not None}
    return about


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    kinds = {"add": "model", "add-profile": "profile", "add-engine": "engine"}
    for name in ("init", *kinds, "remove", "refresh", "rotate", "show"):
        action = actions.add_parser(name)
        action.add_argument("repository", type=Path)
        if name != "show":
            action.add_argument("--keys", type=Path, required=True)
        if name in kinds:
            action.set_defaults(kind=kinds[name])
        if name == "remove":
            action.add_argument("--kind", choices=("model", "profile", "engine"), default="model")
        if name in kinds or name == "remove":
            action.add_argument("name")
            action.add_argument("version", type=int)
        if name == "rotate":
            action.add_argument("role", choices=ROLES)
    for name in kinds:
        _ask_about(actions.choices[name])
    return parser


def _ask_about(add: argparse.ArgumentParser) -> None:
    """What the signed document says beside the files."""
    add.add_argument("directory", type=Path)
    add.add_argument("--licence", default="")
    add.add_argument("--language", action="append", default=[], help="a language it knows (repeated)")
    add.add_argument(
        "--golden",
        action="append",
        nargs=3,
        default=[],
        metavar=("FILE", "LANGUAGE", "TEXT"),
        help="a recording in DIR/golden, as golden/NAME, and what is said in it (repeated)",
    )
    add.add_argument("--rtf-max", type=float, help="seconds of work per second of speech, at most")
    add.add_argument("--ram-max-mb", type=int, help="memory, at most")


def _do(args: argparse.Namespace) -> None:
    if args.action == "init":
        Repository.create(args.repository, Keys(args.keys))
        print(f"{args.repository}: made; devices get {args.repository}/metadata/1.root.json")
        print(f"move {args.keys}/root-*.pem off this machine: any two of them can replace all other keys")
        return
    repository = Repository(args.repository, None if args.action == "show" else Keys(args.keys)).load()
    if args.action == "show":
        for role in ROLES:
            signed = repository.roles[role].signed
            print(f"{role:10} version {signed.version:<4} until {signed.expires:%Y-%m-%d}")
        for path, file in sorted(repository.targets.targets.items()):
            print(f"{path}  {file.hashes['sha256'][:12]}")
    elif args.action.startswith("add"):
        target = Target(name=args.name, version=args.version, kind=args.kind)
        _prove(target, args.directory)
        size = repository.add(target, args.directory, _about(args))
        print(f"{target} signed, {size / 1e6:.1f} MB")
    elif args.action == "remove":
        repository.remove(Target(name=args.name, version=args.version, kind=args.kind))
    elif args.action == "refresh":
        print("renewed: " + ", ".join(repository.refresh()))
    else:
        repository.rotate(args.role)


def main() -> int:
    """Do what the action says; a user's mistake is one line."""
    try:
        _do(_parser().parse_args())
    except EdgeAgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
