"""Install one package on a bare Debian, boot: the kiosk listens."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from edge_agent.fleet.bundle import Target
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.verbs.common import models_dir
from tests.bare_root import APT, Root, bare, package, root
from tests.broker import Subscriber
from tests.provisioned import load
from tests.systemd.machine import Machine, missing
from tests.systemd.results import Tell, tell
from tests.systemd.test_boot import WORDS, finals, reasons, states

__all__ = ["bare", "package", "root", "tell"]
"""Fixtures."""


OFFLINE = {
    "etc/systemd/system/edge-agent-models.service.d/t.conf": "[Service]\nExecStart=\nExecStart=/bin/true\n"
}
"""No network is to be needed for models here: the service that would fetch them is kept quiet."""


def install(root: Root, package: Path) -> None:
    """The package on the bare root, with a systemd to boot it."""
    if missing():
        pytest.skip(missing())
    root.run("apt-get", "-qq", "update")
    root.run(*APT, "install", "systemd", "systemd-sysv", f"/opt/packages/{package.name}")


def settings(broker: PrivateBroker, name: str) -> str:
    source = "file:/opt/checkout/edge_agent/samples/find_a_way_out.flac?loop=1"
    return f'[device]\nid = "{name}"\n[mqtt]\nurl = "{broker.url}"\n[audio]\nsource = "{source}"\n'


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_package_one_boot_and_it_listens(
    root: Root, package: Path, tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """Enabled by its installation; it says that it waits for its model; two microphones, two instances."""
    install(root, package)
    files = {"etc/edge-agent/lobby.toml": settings(broker, "lobby"), **OFFLINE}
    with Machine(tmp_path / "m", settings(broker, "box"), installed=root.place, files=files) as box:
        box.wait(lambda: "models pull" in reasons(subscriber), 30, "what it waits for, on the broker")
        assert states(subscriber)[-1] == "degraded"
        assert box.show("User") == "edge-agent"
        put_there = time.monotonic()
        box.run("edge-agent", "models", "import", "whisper-base", "/opt/models/whisper-base/source")
        box.run("systemctl", "start", "edge-agent-models")
        box.wait(lambda: finals(subscriber, put_there), 60, "a first final")
        tell(
            "package: model imported, to the first final",
            f"{finals(subscriber, put_there)[0] - put_there:.1f} s",
        )
        assert subscriber.on("/transcript/final")[0].body["text"] == WORDS
        box.run("systemctl", "start", "edge-agent@lobby")
        box.wait(
            lambda: [m for m in subscriber.on("/transcript/final") if m.topic.startswith("edge/lobby/")],
            60,
            "a final of the second microphone",
        )
        assert box.run("systemctl", "--failed", "--no-legend", "--plain").strip() == ""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_installed_box_takes_a_signed_model(
    root: Root, package: Path, tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """The package alone is enough: signatures, fetching, rehearsal and trial inside the unit's sandbox."""
    install(root, package)
    tool, source = load("fleet/repository.py"), tmp_path / "small"
    shutil.copytree(
        models_dir() / "whisper-tiny.en/source", source, ignore=shutil.ignore_patterns("manifest.json")
    )
    repository = tool.Repository.create(root.place / "srv/fleet", tool.Keys(tmp_path / "keys"))
    repository.add(Target(name="small", version=1), source, {"languages": ["en"]})
    fleet = (
        '[fleet]\nroot_file = "/srv/fleet/metadata/1.root.json"\nmirrors = ["/srv/fleet"]\n'
        'trial_min = 0.05\nmodel = "small"\nmodel_version = 1\n'
    )
    text = settings(broker, "box") + fleet
    with Machine(tmp_path / "m", text, installed=root.place, files=OFFLINE) as box:
        box.run("edge-agent", "models", "import", "whisper-base", "/opt/models/whisper-base/source")
        box.run("systemctl", "start", "edge-agent-models")

        def serving() -> list[str]:
            return [message.body["model"] for message in subscriber.on("/transcript/final")]

        box.wait(serving, 60, "a first final")
        asked = time.monotonic()
        box.wait(lambda: serving()[-1].startswith("small.v1@"), 180, "the signed model")
        tell("package: signed model, to its first final", f"{time.monotonic() - asked:.1f} s")
        told = [message.body.get("fleet", {}) for message in subscriber.on("/up/info")]
        box.wait(
            lambda: subscriber.on("/up/info")[-1].body["fleet"]["state"] == "done", 60, f"done: {told[-1:]}"
        )
