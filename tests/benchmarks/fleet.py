"""A full roll-out to a thousand devices on one broker: time, messages, memory of the broker.

    .venv/bin/python -m tests.benchmarks.fleet [--devices 1000]

First 3 % of the devices fail and the broker is restarted in the middle; then 10 % fail, which stops it;
then those 10 % are allowed. Devices are real MQTT clients in one process with scripted engines
(tests/fleet_devices.py)."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.fleet.bundle import Target
from edge_agent.mqtt.private_broker import PrivateBroker
from tests.fleet_devices import Devices
from tests.provisioned import PROVISIONING

_SAVES = ("autosave_on_changes false", "autosave_interval 1")
"""Once a second instead of after each change: of a thousand devices the whole state is some megabytes. What a
killed broker forgets of that second, the programme finds and tells again."""
TARGET = Target(name="m", version=2)


def memory_mb(pid: int) -> float:
    """The broker's peak."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+)", text)[1]) / 1024


def one(name: str, count: int, fate: Callable[[int], str], *more: str, restart: bool = False) -> None:
    """One roll-out from the first word to the last."""
    with PrivateBroker(config=_SAVES) as broker, tempfile.TemporaryDirectory() as place:
        with Devices(broker.port, count, fate) as devices:
            began = time.monotonic()
            while not all(device.client.is_connected() for device in devices.all):
                time.sleep(0.1)
            connected_s = time.monotonic() - began
            if restart:
                threading.Thread(target=_restart, args=(broker, devices, count), daemon=True).start()
            began, told = time.monotonic(), _roll_out(broker, Path(place) / "state.json", *more)
            took_s = time.monotonic() - began
            messages = sum(2 + 2 * len(device.changed_at) + device.version for device in devices.all)
            touched = len(devices.touched())
            peak = memory_mb(broker.pid)
        print(
            f"{name}: {told['phase']} in {took_s:.1f} s (connecting {connected_s:.1f} s), "
            f"{told['done']} done, {told['failed']} failed, {touched} touched of {count}, "
            f"{messages} messages of devices and to them, broker peak {peak:.1f} MB. {told['reason']}",
            flush=True,
        )


def _restart(broker: PrivateBroker, devices: Devices, count: int) -> None:
    while len(devices.touched()) < count // 4:
        time.sleep(0.05)
    broker.restart()
    threading.Event().wait()  # the broker ends with the thread that started it


def _roll_out(broker: PrivateBroker, state: Path, *more: str) -> dict[str, object]:
    done = subprocess.run(
        [
            *(sys.executable, str(PROVISIONING / "fleet/rollout.py"), TARGET.name, str(TARGET.version)),
            *("--state", str(state), "--url", broker.url, "--json", "--soak-min", "0.02", *more),
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROVISIONING.parent)},
        check=False,
    )
    return json.loads(done.stdout)


def main() -> None:
    """The three of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    count = parser.parse_args().devices
    one("3 % failing, broker restarted", count, lambda n: "bad" if n % 33 == 7 else "good", restart=True)
    one("10 % failing", count, lambda n: "bad" if n % 10 == 7 else "good")
    ten = ("--max-failures", "30")
    one("10 % failing, allowed", count, lambda n: "bad" if n % 10 == 7 else "good", *ten, restart=True)


if __name__ == "__main__":
    main()
