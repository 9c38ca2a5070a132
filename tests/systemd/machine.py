"""A machine whose first process is a real systemd: a container over the running root, which stays as it is.

An overlay on a tmpfs takes all writes; the checkout, its Python (from wherever it was installed) and the
models are bound in read only. The network is the host's, so that a broker on loopback serves both.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.verbs.common import models_dir

REPOSITORY = Path(__file__).resolve().parents[2]
_SHIM = """#!/bin/sh
export PYTHONPATH=/opt/checkout PYTHONDONTWRITEBYTECODE=1 {environment}
exec /opt/venv/bin/python -m edge_agent "$@"
"""
_TARGET = """[Unit]
Description=Test
Requires=basic.target
After=basic.target
Wants={wants}
"""


def missing() -> str:
    """Why no machine can be booted here, in words; empty when one can."""
    if os.geteuid() != 0:
        return "booting a container needs root"
    for command, package in (
        ("systemd-nspawn", "systemd-container"),
        ("systemctl", "systemd"),
        ("nsenter", "util-linux"),
    ):
        if shutil.which(command) is None:
            return f"{command} is missing (apt install {package})"
    if not Path("/lib/systemd/systemd").exists():
        return "this root has no systemd to boot (apt install systemd-sysv)"
    for place in (REPOSITORY, Path(sys.base_prefix), Path(sys.prefix) / "lib", models_dir()):
        if place.exists() and place.stat().st_mode & 0o005 != 0o005:
            return f"the service's user could not read {place} (chmod o+rx)"
    return ""


class _Python:
    """This interpreter and its packages, as a service sees them that may not look into anybody's home."""

    def __init__(self) -> None:
        base = Path(sys.base_prefix).resolve()
        visible = base == Path("/usr")
        self.home = base if visible else Path("/opt/python")
        self.binds = {} if visible else {str(base): str(self.home)}
        self.binds[str(Path(sys.prefix) / "lib")] = "/opt/venv/lib"
        self.name = Path(sys.executable).resolve().name
        # A Python that was built with a library of its own names the place where that was.
        self.environment = "" if visible else f"LD_LIBRARY_PATH={self.home}/lib"

    def furnish(self, root: Path) -> None:
        """A virtual environment of links at /opt/venv; its packages are bound in."""
        place = root / "opt/venv"
        (place / "bin").mkdir(parents=True)
        (place / "lib").mkdir()
        (place / "pyvenv.cfg").write_text(
            f"home = {self.home}/bin\ninclude-system-site-packages = false\n", encoding="utf-8"
        )
        (place / "bin/python").symlink_to(self.home / "bin" / self.name)


class Machine:
    """Context manager: mounted and booted inside, gone outside.

    Args:
        place: an empty directory.
        config: text of /etc/edge-agent/agent.toml.
        drop_in: added to the unit.
        start: start the agent at boot.
        installed: a root with the package in it, booted as it is, instead of an overlay of this machine's.
        files: path -> text of further files, made before the boot.
    """

    def __init__(
        self,
        place: Path,
        config: str,
        *,
        drop_in: str = "",
        start: bool = True,
        installed: Path | None = None,
        files: dict[str, str] | None = None,
    ) -> None:
        self._place, self._config, self._start = place, config, start
        self._drop_in, self._files = drop_in, files or {}
        self._installed = installed
        self._python = _Python()
        self.root = place / "root" if installed is None else installed
        self.booted_s = 0.0
        """Seconds from the start of the first process until it answered."""
        self.began = 0.0
        """Of the boot, on the monotonic clock."""

    def __enter__(self) -> Machine:
        reason = missing()
        if reason:
            pytest.skip(reason)
        try:
            if self._installed is None:
                self._mount()
                self._furnish()
            else:
                self._place.mkdir(parents=True, exist_ok=True)
                for path, text in (("etc/edge-agent/agent.toml", self._config), *self._files.items()):
                    self._write(path, text)
            self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_leader"):
            self.run("systemctl", "--force", "--force", "poweroff", check=False)
        if hasattr(self, "_nspawn"):
            try:
                self._nspawn.wait(10)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait(10)
        for place in (self.root, self._place) if self._installed is None else ():
            subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)

    def run(self, *command: str, check: bool = True, timeout_s: float = 60) -> str:
        """A command inside; answers its output (stderr too)."""
        done = subprocess.run(
            ["nsenter", "-t", str(self._leader), "-a", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}: {done.stdout}")
        return done.stdout

    def outside(self, path: str) -> Path:
        """Where a path of the machine is for us, as its own processes see it."""
        return Path(f"/proc/{self._leader}/root{path}")

    def show(self, name: str, unit: str = "edge-agent") -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "-P", name, unit).strip()

    @property
    def main_pid(self) -> int:
        """Of the agent, inside; 0 when it does not run."""
        return int(self.show("MainPID") or 0)

    def journal(self, unit: str = "edge-agent") -> list[dict[str, Any]]:
        """All entries about the unit."""
        text = self.run("journalctl", "-o", "json", "--no-pager", "-q", "-u", unit)
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def said(self, unit: str = "edge-agent") -> str:
        """The messages of the journal, a line each."""
        return "\n".join(str(entry.get("MESSAGE")) for entry in self.journal(unit))

    def wait(self, condition: Callable[[], object], timeout_s: float, what: str) -> float:
        """Wait; answers the seconds. The journal is shown when it takes too long."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                raise AssertionError(f"not within {timeout_s} s: {what}\n{self.said()}")
            time.sleep(0.05)
        return time.monotonic() - began

    def _asked(self, *question: str) -> str:
        """What systemctl answers; empty when nobody does."""
        try:
            return self.run("systemctl", *question, check=False, timeout_s=20).strip()
        except subprocess.TimeoutExpired:
            return ""

    def _mount(self) -> None:
        self._place.mkdir(parents=True, exist_ok=True)
        self._mounted("tmpfs", "tmpfs", "size=2g", self._place)
        for name in ("upper", "work", "root"):
            (self._place / name).mkdir()
        options = f"lowerdir=/,upperdir={self._place / 'upper'},workdir={self._place / 'work'}"
        self._mounted("overlay", "overlay", options, self.root)

    def _mounted(self, kind: str, source: str, options: str, target: Path) -> None:
        done = subprocess.run(
            ["mount", "-t", kind, "-o", options, source, str(target)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no {kind} can be mounted here: {done.stderr.strip()}")

    def _furnish(self) -> None:
        for name in ("var/lib/edge-agent", "etc/edge-agent"):  # those of this machine's own agent
            shutil.rmtree(self.root / name, ignore_errors=True)
        units = self.root / "etc/systemd/system"
        units.mkdir(parents=True, exist_ok=True)
        for unit in (REPOSITORY / "systemd").glob("edge-agent*.service"):
            shutil.copy(unit, units)
        wants = "systemd-journald.service" + (" edge-agent.service" if self._start else "")
        self._write("etc/systemd/system/edge-test.target", _TARGET.format(wants=wants))
        self._write("etc/machine-id", "")
        self._python.furnish(self.root)
        environment = self._python.environment
        self._write("usr/bin/edge-agent", _SHIM.format(environment=environment), mode=0o755)
        self._write("etc/edge-agent/agent.toml", self._config)
        given = f"EDGE_AGENT_MODELS=/opt/models {environment}".strip()
        drop_in = f"[Service]\nEnvironment={given}\n{self._drop_in}"
        self._write("etc/systemd/system/edge-agent.service.d/test.conf", drop_in)
        # A journal in memory that every test starts empty.
        self._write("etc/systemd/journald.conf.d/test.conf", "[Journal]\nStorage=volatile\n")
        for path, text in self._files.items():
            self._write(path, text)
        conf = REPOSITORY / "systemd/edge-agent.sysusers.conf"
        subprocess.run(["systemd-sysusers", f"--root={self.root}", "-"], input=conf.read_bytes(), check=True)

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def _boot(self) -> None:
        self.began = time.monotonic()
        log = (self._place / "console.log").open("wb")
        binds = {str(REPOSITORY): "/opt/checkout", str(models_dir()): "/opt/models"}
        if self._installed is None:
            binds |= self._python.binds
        self._nspawn = subprocess.Popen(
            [
                "systemd-nspawn",
                "--quiet",
                "--boot",
                "--register=no",
                "--keep-unit",
                "--console=pipe",
                f"--machine=edge-test-{os.getpid()}",
                *(f"--bind-ro={source}:{target}" for source, target in binds.items()),
                "-D",
                str(self.root),
                "--",
                "--unit=edge-test.target" if self._installed is None else "--unit=multi-user.target",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        while time.monotonic() - self.began < 90:
            if self._nspawn.poll() is not None:
                told = (self._place / "console.log").read_text(errors="replace").strip()
                pytest.skip(f"no container can be booted here: {told[-300:]}")
            found = children.read_text().split()
            if found:
                self._leader = int(found[0])
                if self._asked("is-system-running") in {"running", "degraded"}:
                    self.booted_s = time.monotonic() - self.began
                    return
            time.sleep(0.05)
        told = (self._place / "console.log").read_text(errors="replace")
        if not hasattr(self, "_leader") or self._asked("is-active", "basic.target") != "active":
            pytest.skip(f"no container comes up here: {told[-300:]}")
        raise AssertionError(f"the machine is up, but the agent is not: {self.said()}")
