"""The roll-out programme against a real broker and two hundred devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from edge_agent.fleet.bundle import Target
from edge_agent.mqtt.private_broker import PrivateBroker
from tests.broker import wait_until
from tests.fleet_devices import Devices
from tests.provisioned import PROVISIONING

TARGET = Target(name="m", version=2)
COUNT = 200


def start(broker: PrivateBroker, state: Path, *more: str, target: Target = TARGET) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            str(PROVISIONING / "fleet/rollout.py"),
            target.name,
            str(target.version),
            *("--state", str(state), "--url", broker.url, "--json"),
            *("--soak-min", "0.005", "--look-s", "0.1", *more),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROVISIONING.parent)},
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 120) -> tuple[int, dict]:
    out, complaints = process.communicate(timeout=timeout_s)
    assert out, complaints
    return process.returncode, json.loads(out)


def test_a_rollout_survives_the_broker_and_its_own_end(broker: PrivateBroker, tmp_path: Path) -> None:
    """Killed in the middle and started again, the broker restarted: every device has the model, told once."""
    state = tmp_path / "rollout.json"
    with Devices(broker.port, COUNT, lambda n: "bad" if n % 50 == 7 else "good") as devices:
        first = start(broker, state)
        wait_until(lambda: len(devices.touched()) >= COUNT // 10, 60, "the second ring")
        first.kill()
        first.communicate()
        broker.restart()
        code, told = finish(start(broker, state))
        assert (code, told["phase"]) == (0, "done"), told
        assert (told["done"], told["failed"]) == (COUNT - 4, 4)
        assert len(devices.with_model(TARGET)) == COUNT - 4
        assert all(device.state.tried(TARGET) == 1 for device in devices.all), "tried more than once"


def test_a_bad_model_reaches_the_first_ring_only(broker: PrivateBroker, tmp_path: Path) -> None:
    """It fails on the first devices: the roll-out stops, says why, and starts no more by itself."""
    state = tmp_path / "rollout.json"
    with Devices(broker.port, COUNT, lambda _n: "bad") as devices:
        wait_until(lambda: all(device.client.is_connected() for device in devices.all), 30)
        began = time.monotonic()
        code, told = finish(start(broker, state))
        assert (code, told["phase"]) == (1, "stopped")
        assert "2 of 2 devices failed in ring 1" in told["reason"] or "1 of 2" in told["reason"]
        assert len(devices.touched()) == 2
        assert finish(start(broker, state))[0] == 1
        assert len(devices.touched()) == 2
        print(f"\nstopped after {time.monotonic() - began:.1f} s with 2 of {COUNT} devices touched")
