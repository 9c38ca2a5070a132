"""`edge-agent detect` and `edge-agent profiles` as a user runs them: real processes, real exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.profile.load import PACKAGE, load_all
from tests import machines

SHIPPED = PACKAGE.parent / "profiles"


def _run(*arguments: str | Path, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [*command, sys.executable, "-m", "edge_agent", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def _refused(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """One line on stderr with these parts, this exit code, no traceback."""
    assert done.returncode == code, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def test_this_machine_in_words() -> None:
    """The machine, the profile, the reasons, and each other profile, on less than a screen."""
    done = _run("detect")
    assert done.returncode == 0, done.stderr
    for word in ("CPU", "Memory", "Profile", "because", "Not"):
        assert f"\n{word}" in f"\n{done.stdout}"
    assert len(done.stdout.splitlines()) < 40
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("name", ["jetson-agx-orin-64gb-jp621", "raspberry-pi-4", "pc-rtx-3060"])
def test_copied_machine_in_json(name: str) -> None:
    """--root judges another machine; the JSON holds its facts, the choice and the reasons."""
    wanted = machines.expected(name)
    done = _run("detect", "--root", machines.HERE / name, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["profile"] == wanted["profile"]
    assert told["workers"] == wanted["workers"]
    assert told["device"]["cpu_model"] == wanted["device"]["cpu_model"]
    assert told["device"]["gpus"] == [] or "found" in " ".join(told["reasons"])
    profiles = {name for name, loaded in load_all([SHIPPED]).items() if not loaded.profile.abstract}
    assert {entry["profile"] for entry in told["rejected"]} == profiles - {wanted["profile"]}


def test_machine_that_no_profile_fits() -> None:
    """It is still described; the error is one line and tells a service manager not to restart."""
    root = machines.HERE / "xeon-x5650-without-avx"
    done = _run("detect", "--root", root)
    _refused(done, 78, "no AVX", "illegal instruction")
    assert "X5650" in done.stdout
    told = json.loads(_run("detect", "--root", root, "--json").stdout)
    assert told["profile"] is None
    assert "no AVX" in told["error"]


def test_named_profile() -> None:
    """One that cannot run is refused; one that does not exist gets the nearest names."""
    root = machines.HERE / "raspberry-pi-4"
    _refused(_run("detect", "--root", root, "--profile", "cpu-arm64"), 78, "lacks asimddp", "cpu-minimal")
    _refused(_run("detect", "--profile", "cpu-av2"), 78, 'no profile "cpu-av2"', "did you mean cpu-avx2")


def test_root_that_does_not_exist(tmp_path: Path) -> None:
    """A wrong usage."""
    _refused(_run("detect", "--root", tmp_path / "nowhere"), 2, "nowhere is not a directory")


def test_broken_profile_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A circle of extends, an unknown key and a wrong type: file, key and next step in one line."""
    monkeypatch.setenv("EDGE_AGENT_PROFILES", str(tmp_path))
    mine = tmp_path / "mine.toml"
    for text, parts in (
        ('extends = "mine"\n', ("mine.toml", "circle: mine -> mine")),
        ('extends = "base"\n[decode]\nbaem = 2\n', ("mine.toml", "decode.baem", "did you mean decode.beam?")),
        ('extends = "base"\n[decode]\nbeam = "2"\n', ("mine.toml", "decode.beam", "Expected `int`")),
    ):
        mine.write_text(text, encoding="utf-8")
        _refused(_run("detect"), 78, *parts)


def test_profiles_list_and_show() -> None:
    """The list names them all; show prints TOML with the file of each key."""
    listed = _run("profiles")
    assert listed.returncode == 0, listed.stderr
    assert "cpu-arm64" in listed.stdout
    shown = _run("profiles", "show", "cpu-minimal")
    assert 'model = "whisper-tiny.en"' in shown.stdout
    origins = {line.partition(" = ")[0]: line.rpartition("# ")[2] for line in shown.stdout.splitlines()}
    assert origins["model"].endswith("cpu-minimal.toml")
    assert origins["silence_ms"].endswith("base.toml")
    told = json.loads(_run("profiles", "show", "cpu-minimal", "--json").stdout)
    assert told["profile"]["extends"] == ["base"]
    _refused(_run("profiles", "show", "cpu-arm46"), 2, "did you mean cpu-arm64")
    _refused(_run("profiles", "show"), 2, "needs the name of a profile")


def _can_mount() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="needs root and mount namespaces")
def test_real_paths_with_another_cpu() -> None:
    """With the CPU text of another machine mounted over the real one, the live probe believes it."""
    other = machines.HERE / "xeon-e5-2650v2-ivy-bridge/proc/cpuinfo"
    script = 'mount --make-rprivate / && mount --bind "$0" /proc/cpuinfo && exec "$@"'
    done = _run("detect", "--json", command=("unshare", "-m", "sh", "-c", script, str(other)))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["device"]["cpu_model"] == "Intel(R) Xeon(R) CPU E5-2650 v2 @ 2.60GHz"
    assert told["profile"] == "cpu-minimal"
