"""A signed repository with one small bundle, made once; each test works on a copy."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.fleet.bundle import Target
from edge_agent.fleet.fetch import fetch
from edge_agent.fleet.mirrors import mirror
from edge_agent.fleet.trust import Trust
from tests.provisioned import load

FIRST, SECOND = Target(name="m", version=1), Target(name="m", version=2)
FILES = {"model.bin": bytes(range(256)) * 40, "config.json": b'{"a": 1}'}
tool = load("fleet/repository.py")


@dataclass
class Fleet:
    """The publisher's side and one device."""

    home: Path

    @property
    def place(self) -> Path:
        return self.home / "repo"

    def repository(self, days: float = 0) -> tool.Repository:
        """The tool, as if it were so many days later."""
        now = datetime.now(UTC) + timedelta(days=days)
        return tool.Repository(self.place, tool.Keys(self.home / "keys"), now).load()

    def add(self, target: Target, files: dict[str, bytes] = FILES, **about: object) -> None:
        source = self.home / "source"
        shutil.rmtree(source, ignore_errors=True)
        for name, content in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        self.repository().add(target, source, about)

    def get(self, target: Target = FIRST, *mirrors: str) -> dict[str, bytes]:
        """What the device gets: files by name, each digest held."""
        places = [mirror(place) for place in mirrors or (str(self.place),)]
        bundle = Trust(self.home / "root.json", self.home / "seen", places).bundle(target)
        staging = self.home / "staging"
        fetch(bundle, places, staging, lambda *_: None)
        return {file.path: (staging / file.path).read_bytes() for file in bundle.files}

    def keep(self) -> Path:
        """A copy of the repository as it is now."""
        copy = self.home / f"copy-{len(list(self.home.glob('copy-*')))}"
        shutil.copytree(self.place, copy)
        return copy


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("fleet")
    tool.Repository.create(home / "repo", tool.Keys(home / "keys"))
    shutil.copyfile(home / "repo/metadata/1.root.json", home / "root.json")
    Fleet(home).add(FIRST)
    return home


@pytest.fixture
def fleet(made: Path, tmp_path: Path) -> Fleet:
    shutil.copytree(made, tmp_path / "fleet")
    return Fleet(tmp_path / "fleet")
