"""The Ansible role on three booted machines: idempotent, rolling, stopped by the first that is not well."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge_agent.mqtt.private_broker import PrivateBroker
from tests.bare_root import CACHE
from tests.broker import Subscriber, wait_until
from tests.provisioned import PROVISIONING
from tests.systemd.machine import REPOSITORY, Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
NAMES = ("box-1", "box-2", "box-3")
HERE = Path(__file__).parent / "ansible"


@pytest.fixture(scope="module")
def ansible() -> Path:
    """ansible-playbook; installed once into the cache where the machine has none."""
    found = shutil.which("ansible-playbook")
    if found:
        return Path(found)
    place = CACHE / "ansible-core"
    command = place / "bin/ansible-playbook"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        wanted = [str(place / "bin/pip"), "install", "-q", "ansible-core>=2.17,<2.20"]
        done = subprocess.run(wanted, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"ansible-core cannot be installed: {done.stderr.splitlines()[-1:]}")
    return command


class Fleet:
    """Three machines, one broker, one inventory."""

    def __init__(self, place: Path, ansible: Path, broker: PrivateBroker, machines: list[Machine]) -> None:
        self.place, self._ansible, self.broker, self.machines = place, ansible, broker, machines
        self.config: dict = {
            "audio": {"source": f"file:/opt/checkout/{SOUND}?loop=1"},
            "mqtt": {"url": broker.url},
            "recognition": {"model": "whisper-tiny.en"},
        }

    def play(self, *more: str) -> tuple[int, dict[str, dict[str, int]]]:
        """Run the playbook; its exit code and each host's counts."""
        hosts = {
            name: {"ansible_machine_leader": machine._leader}
            for name, machine in zip(NAMES, self.machines, strict=True)
        }
        common = {
            "ansible_connection": "machine",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_remote_tmp": "/tmp/ansible",
            "ansible_become": False,
            "edge_agent_environment": {"EDGE_AGENT_MODELS": "/opt/models"},
            "edge_agent_config": self.config,
            "edge_agent_well_within_s": 90,
        }
        inventory = self.place / "inventory.json"
        inventory.write_text(json.dumps({"edge_agents": {"hosts": hosts, "vars": common}}))
        stats = self.place / "stats.json"
        stats.unlink(missing_ok=True)
        done = subprocess.run(
            [str(self._ansible), "-i", str(inventory), str(PROVISIONING / "ansible/site.yml"), *more],
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            stdin=subprocess.DEVNULL,
            env={
                # This test's own places mean nothing inside.
                **{key: value for key, value in os.environ.items() if "EDGE_AGENT" not in key},
                "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connection_plugins"),
                "ANSIBLE_ROLES_PATH": str(PROVISIONING / "ansible/roles"),
                "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
                "ANSIBLE_CALLBACKS_ENABLED": "counts",
                "COUNTS_FILE": str(stats),
                "ANSIBLE_LOCAL_TEMP": str(self.place / "tmp"),
                "ANSIBLE_HOME": str(self.place / "home"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PIPELINING": "1",
                "LC_ALL": "C.UTF-8",
            },
        )
        self.said = f"{done.stdout}\n{done.stderr}"
        assert stats.exists(), self.said[-3000:]
        return done.returncode, json.loads(stats.read_text())


SOUND = "edge_agent/samples/find_a_way_out.flac"


@pytest.fixture(scope="module")
def fleet(ansible: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    place = tmp_path_factory.mktemp("ansible")
    with PrivateBroker() as broker, ExitStack() as stack:
        machines = [stack.enter_context(Machine(place / name, "", start=False)) for name in NAMES]
        yield Fleet(place, ansible, broker, machines)


def test_a_second_run_changes_nothing(fleet: Fleet) -> None:
    """First all three come on line; then the same again leaves every file and process alone."""
    code, stats = fleet.play()
    assert code == 0, fleet.said[-3000:]
    assert all(stats[name]["changed"] for name in NAMES)
    pids = [machine.main_pid for machine in fleet.machines]
    assert all(pids)
    code, stats = fleet.play()
    assert (code, [stats[name]["changed"] for name in NAMES]) == (0, [0, 0, 0]), fleet.said[-3000:]
    assert pids == [machine.main_pid for machine in fleet.machines]


def test_never_two_are_down_at_once(fleet: Fleet) -> None:
    """A new value reaches all three; at each moment of it two or more are on line."""
    with Subscriber(fleet.broker.port, "edge/+/up/status") as heard:
        wait_until(lambda: len({m.topic for m in heard.heard}) == 3, 30)
        fleet.config["endpoint"] = {"silence_ms": 700}
        code, stats = fleet.play()
        assert (code, [stats[name]["changed"] > 0 for name in NAMES]) == (0, [True] * 3), fleet.said[-3000:]
        down: set[str] = set()
        worst = 0
        for message in heard.heard:
            if message.body["state"] in ("stopped", "offline"):
                down.add(message.topic)
            else:
                down.discard(message.topic)
            worst = max(worst, len(down))
    print(f"\nrolling update of {len(NAMES)} machines: at most {worst} down at once")
    assert worst == 1


def test_a_wrong_value_stops_at_the_first(fleet: Fleet) -> None:
    """It is refused by the agent itself; the others are not touched and go on listening."""
    pids = [machine.main_pid for machine in fleet.machines]
    fleet.config["endpoint"] = {"silence_ms": "soon"}
    code, stats = fleet.play("-e", "edge_agent_well_within_s=6")
    assert code != 0
    assert stats["box-1"]["failures"] == 1
    assert "box-2" not in stats
    assert [machine.main_pid for machine in fleet.machines[1:]] == pids[1:]
    fleet.config["endpoint"] = {"silence_ms": 700}
    assert fleet.play()[0] == 0, fleet.said[-3000:]


def test_the_first_boots_recipe_is_whole() -> None:
    """cloud-init's file installs, enrols with a token that no process list shows, and starts."""
    text = (REPOSITORY / "provisioning/cloud-init/user-data.yaml").read_text()
    assert text.startswith("#cloud-config\n")
    for part in (
        "apt-get, install",
        "edge-agent-enroll https://",
        "@TOKEN@",
        "systemctl, restart, edge-agent",
    ):
        assert part in text
