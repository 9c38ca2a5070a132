"""A bare Debian 12 (minbase), made once and kept in the cache; tests work on copies of it in containers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.verbs.common import models_dir

REPOSITORY = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("EDGE_AGENT_CACHE") or Path.home() / ".cache/edge-agent")
BUILD = REPOSITORY / "provisioning/build-deb.sh"
APT = ("apt-get", "-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0")


def run(*command: str, **given: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **given
    )


@pytest.fixture(scope="module")
def bare() -> Path:
    """A minbase that nothing was installed on."""
    for command, package in (("debootstrap", "debootstrap"), ("systemd-nspawn", "systemd-container")):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is missing (apt install {package})")
    if os.geteuid() != 0:
        pytest.skip("a root of its own needs root")
    place = CACHE / "minbase-bookworm"
    if not (place / "etc/debian_version").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        made = run("debootstrap", "--variant=minbase", "bookworm", str(place))
        if made.returncode:
            shutil.rmtree(place, ignore_errors=True)
            pytest.skip(f"no bare root can be made here: {made.stdout.splitlines()[-1:]}")
    return place


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built by the one command."""
    made = run(str(BUILD), "--output", str(tmp_path_factory.mktemp("deb")))
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.strip())


class Root:
    """A copy of the bare root; commands run in a container of it, with this machine's network."""

    def __init__(self, place: Path, packages: Path) -> None:
        self.place, self._packages = place, packages

    def run(self, *command: str, check: bool = True) -> str:
        binds = {self._packages: "/opt/packages", REPOSITORY / "edge_agent/samples": "/opt/samples"}
        binds[models_dir()] = "/opt/models"
        done = run(
            "systemd-nspawn",
            "--quiet",
            "--pipe",
            "--register=no",
            "--keep-unit",
            "--setenv=DEBIAN_FRONTEND=noninteractive",
            *(f"--bind-ro={source}:{target}" for source, target in binds.items()),
            "-D",
            str(self.place),
            *command,
        )
        assert not check or done.returncode == 0, (
            f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout + ("" if check else done.stderr)

    def files(self) -> set[str]:
        """All paths but those that apt and dpkg keep for themselves."""
        found = set()
        for folder, folders, names in os.walk(self.place):
            here = "/" + os.path.relpath(folder, self.place)
            folders[:] = [f for f in folders if f"{here}/{f}".removeprefix("/.") not in _NOT_OURS]
            found |= {f"{here}/{name}".replace("/./", "/") for name in [*folders, *names]}
        return {path for path in found if not path.startswith(tuple(_NOT_OURS))}


_NOT_OURS = {
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/tmp",
    "/opt/packages",
    "/opt/samples",
    "/opt/models",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/cache",
    "/var/log",
    # Written by useradd beside the files that it changes.
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/subuid-",
    "/etc/subgid-",
}


@pytest.fixture
def root(bare: Path, package: Path, tmp_path: Path) -> Iterator[Root]:
    place = tmp_path / "root"
    shutil.copytree(bare, place, symlinks=True, ignore=shutil.ignore_patterns("proc", "sys", "dev"))
    for name in ("proc", "sys", "dev"):
        (place / name).mkdir(exist_ok=True)
    yield Root(place, package.parent)
    shutil.rmtree(place, ignore_errors=True)
