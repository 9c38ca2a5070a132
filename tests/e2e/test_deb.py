"""The Debian package on a bare root: install, work, upgrade in place, go back, purge without a trace.

The bare root is a minbase of Debian 12, made once (debootstrap) and kept in the cache; a test works
on a copy of it, inside a container without a boot.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.verbs.common import models_dir

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("EDGE_AGENT_CACHE") or Path.home() / ".cache/edge-agent")
BUILD = REPOSITORY / "provisioning/build-deb.sh"
SAMPLE = "/opt/samples/find_a_way_out.flac"
APT = ("apt-get", "-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


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


def with_version(package: Path, version: str) -> Path:
    """The same package under another version."""
    inside = package.parent / "inside"
    shutil.rmtree(inside, ignore_errors=True)
    subprocess.run(["dpkg-deb", "-R", str(package), str(inside)], check=True)
    control = inside / "DEBIAN/control"
    lines = control.read_text().splitlines()
    control.write_text(
        "\n".join(f"Version: {version}" if x.startswith("Version:") else x for x in lines) + "\n"
    )
    other = package.parent / f"edge-agent_{version}_amd64.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "-b", str(inside), str(other)], check=True
    )
    shutil.rmtree(inside)
    return other


_QUEUE = """
from pathlib import Path
from edge_agent.clock import SystemClock
from edge_agent.outbox.store import Outbox
box = Outbox(Path("/var/lib/edge-agent/outbox.sqlite3"), clock=SystemClock())
for number in range(3):
    box.append(id=f"id-{number}", kind="final", make_payload=lambda seq: b'{"seq": %d}' % seq)
box.close()
"""


def queued(root: Root) -> int:
    told = json.loads(root.run("edge-agent", "outbox", "status", "--json"))
    return int(told["queued"])


def test_install_work_upgrade_go_back_and_purge(
    root: Root, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One story, because each step needs the one before; figures are printed."""
    root.run("apt-get", "-qq", "update")
    root.run(*APT, "install", "ca-certificates", "python3", "libasound2")  # what is Debian's, not ours
    before = root.files()
    began = time.monotonic()
    root.run(*APT, "install", f"/opt/packages/{package.name}")
    install_s = time.monotonic() - began

    # It works: the command, the libraries, a whole decode; and it knows what it lacks.
    assert root.run("edge-agent", "--version").startswith("edge-agent")
    heard = root.run("env", "EDGE_AGENT_MODELS=/opt/models", "edge-agent", "transcribe", SAMPLE)
    assert "find a way out" in heard
    health = root.run("edge-agent", "health", check=False)
    assert "edge-agent models pull" in health

    # An upgrade in place keeps the outbox, the configuration and what the administrator wrote into it.
    root.run("/opt/edge-agent/bin/python3", "-I", "-c", _QUEUE)
    settings = root.place / "etc/edge-agent/agent.toml"
    settings.write_text('[device]\nid = "kiosk-7"\n')
    newer = with_version(package, "0.9.9")
    root.run(*APT, "install", f"/opt/packages/{newer.name}")
    assert (queued(root), settings.read_text()) == (3, '[device]\nid = "kiosk-7"\n')
    assert "0.9.9" in root.run("dpkg-query", "-W", "edge-agent")

    # Back to the one before.
    root.run(*APT, "--allow-downgrades", "install", f"/opt/packages/{package.name}")
    assert queued(root) == 3

    # Removed, the state stays; purged, nothing does.
    root.run(*APT, "remove", "edge-agent")
    assert (root.place / "var/lib/edge-agent/outbox.sqlite3").exists()
    assert not (root.place / "opt/edge-agent").exists()
    root.run(*APT, "purge", "edge-agent")
    left = root.files() - before
    with capsys.disabled():
        size_mb = package.stat().st_size / 1e6
        print(f"\n  package {size_mb:.1f} MB, installed in {install_s:.1f} s, left after purge: {len(left)}")
    assert left == set()
    assert (
        "edge-agent" not in (root.place / "etc/passwd").read_text() + (root.place / "etc/group").read_text()
    )


def test_the_arm64_recipe_lays_out_whole_packages() -> None:
    """A dry build: every wheel exists for the boards, and nothing of this machine gets in."""
    made = run(str(BUILD), "--arch", "arm64", "--dry")
    assert made.returncode == 0, made.stderr
    assert "arm64:" in made.stderr
