"""The Debian package on a bare root: install, work, upgrade in place, go back, purge without a trace."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.bare_root import APT, BUILD, Root, bare, package, root, run
from tests.systemd.results import Tell, tell

__all__ = ["bare", "package", "root", "tell"]
"""Fixtures."""

SAMPLE = "/opt/samples/find_a_way_out.flac"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


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


def test_install_work_upgrade_go_back_and_purge(root: Root, package: Path, tell: Tell) -> None:
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
    kept = queued(root)
    assert kept == 3

    # Removed, the state stays; purged, nothing does.
    root.run(*APT, "remove", "edge-agent")
    assert (root.place / "var/lib/edge-agent/outbox.sqlite3").exists()
    assert not (root.place / "opt/edge-agent").exists()
    root.run(*APT, "purge", "edge-agent")
    left = root.files() - before
    tell("package: size", f"{package.stat().st_size / 1e6:.1f} MB")
    tell("package: installed on a bare root", f"{install_s:.1f} s")
    tell("package: transcripts in the outbox after an upgrade and a downgrade, of 3", str(kept))
    tell("package: files left after purge", str(len(left)))
    assert left == set()
    assert (
        "edge-agent" not in (root.place / "etc/passwd").read_text() + (root.place / "etc/group").read_text()
    )


def test_the_arm64_recipe_lays_out_whole_packages(tell: Tell) -> None:
    """A dry build: every wheel exists for the boards, and nothing of this machine gets in."""
    made = run(str(BUILD), "--arch", "arm64", "--dry")
    assert made.returncode == 0, made.stderr
    laid_out = next(line for line in made.stderr.splitlines() if "arm64:" in line)
    tell("package: arm64, dry build", laid_out.partition("arm64: ")[2])
