"""Profiles and engines as bundles: what they may hold, what is not even signed, what a start serves."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge_agent.config import Config
from edge_agent.entrance import at_start
from edge_agent.errors import Untrusted
from edge_agent.fleet.activation import Activation
from edge_agent.fleet.bundle import Kind, Target
from edge_agent.fleet.keep import Keep
from edge_agent.fleet.places import activation_file, profile_file
from edge_agent.opening import Wish, choose_profile
from edge_agent.shelf import Shelf
from edge_agent.verbs.common import models_dir
from tests.e2e.agent_process import edge_agent
from tests.provisioned import PROVISIONING
from tests.unit.fleet.conftest import Fleet

PROFILE = Target(name="kiosk", version=1, kind="profile")


@pytest.mark.parametrize(
    ("kind", "files", "why"),
    [
        ("profile", {"kiosk.toml": b"", "more.toml": b""}, "kiosk.toml alone"),
        ("profile", {"other.toml": b""}, "kiosk.toml alone"),
        ("engine", {"engine.manifest.json": b"{}"}, "decoder/config.json is not among its files"),
        ("model", {"model.bin": b"", "encoder/rank0.engine": b""}, "is not a file of a model"),
    ],
    ids=["two profiles", "another name", "half an engine", "an engine in a model"],
)
def test_a_bundle_holds_what_its_kind_takes(
    fleet: Fleet, kind: Kind, files: dict[str, bytes], why: str
) -> None:
    """Refused by the tool that signs, by the rule that the device reads it with."""
    with pytest.raises(Untrusted, match=why):
        fleet.add(Target(name="kiosk", version=1, kind=kind), files)


def tool(fleet: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    keys = ["--keys", str(fleet.home / "keys")]
    program = [sys.executable, str(PROVISIONING / "fleet/repository.py")]
    where = [arguments[0], str(fleet.place), *keys, *arguments[1:]]
    return subprocess.run([*program, *where], capture_output=True, text=True, check=False, timeout=60)


def test_what_no_device_could_serve_with_is_not_signed(fleet: Fleet, tmp_path: Path) -> None:
    """One line, exit code of a usage or configuration error; the list stays as it was."""
    profile, engine = tmp_path / "profile", tmp_path / "engine"
    profile.mkdir()
    engine.mkdir()
    (profile / "kiosk.toml").write_text('extends = "base"\ndescription = "k"\n[endpoint]\nsilense_ms = 700\n')
    refused = tool(fleet, "add-profile", "kiosk", "1", str(profile))
    assert (refused.returncode, "did you mean endpoint.silence_ms" in refused.stderr) == (78, True)
    refused = tool(fleet, "add-engine", "breeze", "1", str(engine))
    assert (refused.returncode, "engine.manifest.json" in refused.stderr) == (2, True)
    (profile / "kiosk.toml").write_text('extends = "base"\ndescription = "k"\n[endpoint]\nsilence_ms = 700\n')
    assert tool(fleet, "add-profile", "kiosk", "1", str(profile)).returncode == 0
    assert fleet.repository().bundles("profile") == [("kiosk", 1)]
    assert fleet.repository().bundles("engine") == []


def here(state: Path, text: str) -> Shelf:
    """A device on which the profile has passed its trial."""
    shelf = Shelf(models_dir(), state / "fleet")
    path = profile_file(PROFILE, state / "fleet")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    file = {"path": "kiosk.toml", "size_bytes": len(text), "sha256": digest}
    about = {"format": 1, "kind": "profile", "name": "kiosk", "version": 1, "chunk_bytes": 1 << 20}
    document = {**about, "files": [{**file, "chunks": [digest]}]}
    (path.parent / "bundle.json").write_bytes(msgspec.json.encode(document))
    assert Keep(activation_file("profile", state / "fleet")).write(Activation(current=PROFILE))
    return shelf


def start(state: Path) -> Wish:
    fleet = msgspec.structs.replace(Config().fleet, root_file="/etc/edge-agent/root.json")
    config = msgspec.structs.replace(Config(), fleet=fleet)
    return at_start(config, state, Wish(models_dir=models_dir()), "")


def test_a_start_serves_the_profile_that_has_proven_itself(tmp_path: Path) -> None:
    """Under its name and number, beside those of the package."""
    shelf = here(tmp_path, 'extends = "base"\ndescription = "k"\n[endpoint]\nsilence_ms = 700\n')
    assert shelf.holds(PROFILE)
    profile = choose_profile(start(tmp_path))[1].profile
    assert (profile.name, profile.endpoint.silence_ms) == ("kiosk.v1", 700)


def test_a_profile_of_the_fleet_can_be_shown_on_the_device(tmp_path: Path) -> None:
    """By the name that is in the transcripts; one that is not here is no profile."""
    here(tmp_path, 'extends = "base"\ndescription = "k"\n[endpoint]\nsilence_ms = 700\n')
    shown = edge_agent("profiles", "show", "kiosk.v1", EDGE_AGENT_STATE=str(tmp_path))
    assert (shown.returncode, "silence_ms = 700" in shown.stdout) == (0, True)
    assert str(profile_file(PROFILE, tmp_path / "fleet")) in shown.stdout
    assert edge_agent("profiles", "show", "kiosk.v2", EDGE_AGENT_STATE=str(tmp_path)).returncode == 2


@pytest.mark.parametrize("how", ["changed", "gone", "of a newer format"])
def test_a_start_goes_on_without_what_can_no_longer_serve(tmp_path: Path, how: str) -> None:
    """A flipped bit, a lost file, an update that knows its keys no more: the usual profile serves."""
    text = 'extends = "base"\ndescription = "k"\n'
    here(tmp_path, f"{text}[future]\nkey = 1\n" if how == "of a newer format" else text)
    path = profile_file(PROFILE, tmp_path / "fleet")
    if how == "changed":
        path.write_text(text + "\n")
    elif how == "gone":
        path.unlink()
    wish = start(tmp_path)
    assert (wish.profile, wish.more_profiles) == ("auto", ())
    state = Keep(activation_file("profile", tmp_path / "fleet")).value
    assert (state.current, bool(state.reason)) == (None, True)
