"""The pages for fleets: their commands one after the other, as an operator types them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.mqtt import contract
from tests.broker import wait_until
from tests.contract.test_trtllm import Room
from tests.docs.pages import REPOSITORY, commands, fences
from tests.e2e.test_fleet_broker import Client, _free_port, _mosquitto
from tests.provisioned import load

PROVISIONING = REPOSITORY / "provisioning"


def shell(command: str, folder: Path) -> str:
    """One line; answers what it printed."""
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def test_a_broker_is_set_up_told_and_listened_to(tmp_path: Path) -> None:
    """Certificates, configuration and permissions by the page; then one commands, one listens."""
    page = commands(PROVISIONING / "mosquitto/README.md")
    folder = tmp_path / "mosquitto"
    shutil.copytree(PROVISIONING / "mosquitto", folder)
    etc = tmp_path / "etc"
    (etc / "conf.d").mkdir(parents=True)
    for line in page[:3]:
        shell(
            line.replace("/etc/mosquitto", str(etc)).replace(
                "broker.example,192.168.1.10", "localhost,127.0.0.1"
            ),
            folder,
        )
    port, config = _free_port(), etc / "conf.d/fleet.conf"
    text = config.read_text().replace("listener 8883", f"listener {port} 127.0.0.1")
    text = text.replace("/var/lib/mosquitto/", f"{tmp_path}/")
    config.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
    broker = subprocess.Popen(
        [_mosquitto(), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    heard = tmp_path / "heard"
    listener = None
    try:
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 10, "the broker answers")
        listen = next(line for line in page if line.startswith("edge-agent listen"))
        listen = listen.replace("broker.example:8883", f"localhost:{port}")
        with heard.open("wb") as out:
            listener = subprocess.Popen(
                ["bash", "-c", f"exec {listen} --raw"],
                cwd=etc / "fleet",
                stdout=out,
                env={**os.environ, "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"},
            )
        place = type("Place", (), {"certificates": etc / "fleet", "port": port})()
        device = Client(place, "kiosk-0042")
        device.subscribe("edge/kiosk-0042/down/command")
        say = next(line for line in page if line.startswith("mosquitto_pub"))
        body = json.loads(shell('mosquitto_pub() { printf %s "${@: -1}"; }; ' + say, folder))
        assert contract.problems("command", body, strict=True) == []
        fleet = Client(place, "fleet")
        fleet.publish("edge/kiosk-0042/down/command", json.dumps(body).encode())
        wait_until(lambda: device.heard, 10, "the command at the device")
        device.publish("edge/kiosk-0042/up/status", b"{}", retain=True)
        wait_until(lambda: "edge/kiosk-0042/up/status" in heard.read_text(), 20, "the device at the listener")
    finally:
        if listener is not None:
            listener.send_signal(signal.SIGINT)
            listener.wait(10)
        broker.terminate()
        broker.wait(10)


BUILT = "/var/lib/edge-agent/models/breeze-asr-25/trtllm/KEY"


def test_bundles_are_signed_and_renewed(tmp_path: Path) -> None:
    """The repository's page, with small files in the place of a model's and of an engine's."""
    folder = tmp_path / "fleet"
    folder.mkdir()
    (folder / "repository.py").symlink_to(PROVISIONING / "fleet/repository.py")
    source = folder / "models/whisper-base/source"
    (source / "golden").mkdir(parents=True)
    (source / "model.bin").write_bytes(b"weights")
    shutil.copy(REPOSITORY / "edge_agent/samples/find_a_way_out.flac", source / "golden/hello.flac")
    run = [line for line in commands(PROVISIONING / "fleet/README.md") if line.startswith("./repository.py")]
    assert [line.split()[1] for line in run] == ["init", "add", "refresh", "add-profile", "add-engine"]
    profile, engine = folder / "profiles/kiosk", Room(tmp_path).build()
    profile.mkdir(parents=True)
    (profile / "kiosk.toml").write_text('extends = "cpu-avx2"\ndescription = "of the fleet"\n')
    said = [shell(line.replace(BUILT, str(engine)), folder) for line in run]
    assert "whisper-base" in said[1]
    assert "kiosk" in said[3]
    assert "breeze-h100" in said[4]
    assert (folder / "fleet/metadata/1.root.json").exists()


def test_the_settings_of_an_enrolment_are_json(tmp_path: Path) -> None:
    """The line that writes them, as the page has it; the CA reads what it wrote."""
    line = next(c for c in commands(PROVISIONING / "enroll/README.md") if c.startswith("echo"))
    shell(line.replace("/srv/fleet-ca/settings.json", str(tmp_path / "settings.json")), tmp_path)
    assert json.loads((tmp_path / "settings.json").read_text())["mqtt_url"].startswith("mqtts://")


@pytest.mark.parametrize(
    ("page", "script"), [("enroll", "ca.py"), ("fleet", "repository.py"), ("fleet", "rollout.py")]
)
def test_options_are_those_of_the_scripts(page: str, script: str) -> None:
    """Every line with one of our scripts is taken by its own parser."""
    lines = [
        part.strip()
        for line in commands(PROVISIONING / page / "README.md")
        for part in line.split("&&")
        if part.strip().startswith(f"./{script}")
    ]
    assert lines
    for line in lines:
        load(f"{page}/{script}")._parser().parse_args(shlex.split(line)[1:])
    assert fences(PROVISIONING / page / "README.md", "sh")
