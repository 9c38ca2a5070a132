"""The examples for those who write subscribers, run as they are against a real broker."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import paho.mqtt.publish as publish
import pytest

from edge_agent.clock import SystemClock
from edge_agent.mqtt import wire
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.mqtt.publisher import Courier
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.outbox.store import Outbox
from tests.broker import Subscriber, wait_until
from tests.docs.pages import REPOSITORY
from tests.e2e.test_courier import final

EXAMPLES = REPOSITORY / "provisioning/examples"
PYTHON, FLOW = EXAMPLES / "subscriber.py", EXAMPLES / "node-red-flow.json"


class Device:
    """A device that speaks when it is told to: the real outbox and courier."""

    def __init__(self, broker: PrivateBroker, place: Path) -> None:
        self.outbox = Outbox(place / "device/outbox.sqlite3", clock=SystemClock())
        self.courier = Courier(
            MqttSettings(url=broker.url),
            wire.Topics("edge", "dev"),
            self.outbox,
            clock=SystemClock(),
            boot_id="b",
        )
        self.courier.start()

    def say(self, *texts: str) -> None:
        """Commit finals, and wait until the broker has them."""
        for text in texts:
            final(self.outbox, text)
        self.delivered()

    def delivered(self) -> None:
        """Wait until nothing is queued."""
        self.courier.notify()
        wait_until(lambda: self.outbox.stats().queued == 0, 10, "delivered")

    def close(self) -> None:
        """Leave."""
        assert self.courier.stop(3.0)
        self.outbox.close()


@pytest.fixture
def device(broker: PrivateBroker, tmp_path: Path) -> Iterator[Device]:
    """A device on the broker."""
    made = Device(broker, tmp_path)
    yield made
    made.close()


class Running:
    """The Python example as a process, and what it printed."""

    def __init__(self, broker: PrivateBroker, folder: Path, *options: str) -> None:
        self.out = folder / "printed"
        with self.out.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(PYTHON), "127.0.0.1", "--port", str(broker.port), *options], stdout=out
            )

    @property
    def lines(self) -> list[str]:
        return self.out.read_text(encoding="utf-8").splitlines()

    def waits_for(self, line: str) -> None:
        wait_until(lambda: line in self.lines, 15, f"{line} in {self.out}")

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0


def test_python_prints_each_final_once_and_what_came_while_it_was_away(
    broker: PrivateBroker, device: Device, tmp_path: Path
) -> None:
    """A replay repeats nothing; the broker keeps what is said between two runs; a hole is said."""
    status = wire.encode_status(state="online", since_utc_ms=0, reasons=["cold"], boot_id="b")
    publish.single("edge/other/up/status", status, qos=1, retain=True, hostname="127.0.0.1", port=broker.port)
    first = Running(broker, tmp_path, "--patience-s", "1")
    first.waits_for("other is online; cold")
    device.say("one", "two")
    first.waits_for("dev 2: two")
    device.outbox.replay(from_seq=1)
    device.delivered()
    device.say("three")
    first.waits_for("dev 3: three")
    first.end()

    device.say("while it was away")
    second = Running(broker, tmp_path, "--patience-s", "1")
    second.waits_for("dev 4: while it was away")
    gap = wire.encode_gap(seq=7, id="g7", start_utc_ms=0, duration_ms=900, cause="xrun")
    publish.single("edge/dev/up/gap", gap, qos=1, hostname="127.0.0.1", port=broker.port)
    second.waits_for("dev 7: 900 ms not heard, xrun")
    second.waits_for("dev 5: missing; edge-agent outbox replay --from-seq 5")
    second.end()
    told = [line for line in second.lines if " is " not in line]
    assert sorted(told) == sorted(
        [
            "dev 1: one",
            "dev 2: two",
            "dev 3: three",
            "dev 4: while it was away",
            "dev 7: 900 ms not heard, xrun",
            "dev 5: missing; edge-agent outbox replay --from-seq 5",
            "dev 6: missing; edge-agent outbox replay --from-seq 6",
        ]
    )


@pytest.fixture
def example() -> ModuleType:
    """The Python example as a module."""
    spec = importlib.util.spec_from_file_location("subscriber_example", PYTHON)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_backlog_after_what_is_said_now_is_no_hole(example: ModuleType) -> None:
    """After an outage live finals come first; numbers given up over the quota are not waited for."""
    ledger = example.Ledger()
    for seq in (1, 5, 2, 3):
        assert ledger.is_new("dev", {"id": str(seq), "seq": seq})
    assert ledger.overdue(-1) == [("dev", 4)]
    assert ledger.overdue(-1) == [], "told once"
    assert ledger.is_new("dev", {"id": "9", "seq": 9, "from_seq": 6, "to_seq": 7})
    assert ledger.overdue(-1) == [("dev", 8)]
    assert not ledger.is_new("dev", {"id": "9", "seq": 9})
    assert ledger.is_new("other", {"id": "o", "seq": 400}), "another device counts by itself"
    assert ledger.overdue(-1) == []


def node_red() -> Path:
    """Node-RED's start script; fetched once by npm into the cache, or NODE_RED names an installed one."""
    if os.environ.get("NODE_RED"):
        return Path(os.environ["NODE_RED"])
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so Node-RED cannot be fetched; NODE_RED may name its red.js")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-agent/node-red"
    script = base / "node_modules/node-red/red.js"
    if not script.exists():
        base.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [
                "npm",
                "install",
                "--no-audit",
                "--no-fund",
                "--omit=optional",
                "--prefix",
                str(base),
                "node-red@4",
            ],
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"npm could not fetch Node-RED: {done.stderr.strip().splitlines()[-1:]}")
    return script


@pytest.mark.peers
def test_node_red_passes_the_words_on_once(broker: PrivateBroker, device: Device, tmp_path: Path) -> None:
    """The real Node-RED with the flow as it is; a replay passes nothing twice."""
    script = node_red()
    place = tmp_path / "node-red"
    place.mkdir()
    (place / "settings.js").write_text(
        "module.exports = {uiPort: 0, httpAdminRoot: false, httpNodeRoot: false};\n"
    )
    shutil.copy(FLOW, place / "flow.json")
    environment = {**os.environ, "EDGE_BROKER": "127.0.0.1", "EDGE_BROKER_PORT": str(broker.port)}
    with (place / "log").open("wb") as log:
        red = subprocess.Popen(
            [
                "node",
                str(script),
                "-u",
                str(place),
                "-s",
                str(place / "settings.js"),
                str(place / "flow.json"),
            ],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        with Subscriber(broker.port, topic="heard/#", client_id="lamp") as lamp:
            said = lambda: (place / "log").read_text(encoding="utf-8", errors="replace")  # noqa: E731 - one line, used once
            wait_until(lambda: "Connected to broker" in said(), 90, said())
            device.say("light on", "light off")
            wait_until(lambda: len(lamp.heard) == 2, 10, said())
            device.outbox.replay(from_seq=1)
            device.delivered()
            device.say("good night")
            wait_until(lambda: len(lamp.heard) > 2, 10, said())
            assert [(m.topic, m.payload) for m in lamp.heard] == [
                ("heard/dev", b"light on"),
                ("heard/dev", b"light off"),
                ("heard/dev", b"good night"),
            ]
    finally:
        red.terminate()
        red.wait(20)


def test_the_flow_listens_where_devices_publish() -> None:
    """Topic, quality of service and a session that is kept; every wire ends at a node that is there."""
    nodes = {node["id"]: node for node in json.loads(FLOW.read_text(encoding="utf-8"))}
    heard = nodes["edge-finals"]
    assert heard["topic"] == wire.Topics("edge", "dev").final.replace("dev", "+")
    assert (heard["qos"], nodes[heard["broker"]]["cleansession"]) == ("1", False)
    assert nodes[heard["broker"]]["protocolVersion"] == "5"
    for node in nodes.values():
        assert all(end in nodes for wires in node.get("wires", ()) for end in wires)


def test_the_flow_knows_what_it_has_seen() -> None:
    """Its function by itself, in the runtime it is for."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed; the whole flow is run by `./provisioning/test.sh peers`")
    nodes = {node["id"]: node for node in json.loads(FLOW.read_text(encoding="utf-8"))}
    body = {"id": "a", "text": "light on"}
    script = (
        "const kept = {}; const context = {get: k => kept[k], set: (k, v) => { kept[k] = v; }};"
        f"const once = msg => {{ {nodes['edge-once']['func']} }};"
        f"const msg = () => ({{topic: 'edge/dev/up/transcript/final', payload: {json.dumps(body)}}});"
        "console.log(JSON.stringify([once(msg()), once(msg()),"
        " once({topic: 'edge/dev/up/transcript/final', payload: {id: 'b', text: ''}})]));"
    )
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout) == [
        {"topic": "heard/dev", "payload": "light on", "transcript": body},
        None,
        None,
    ]
