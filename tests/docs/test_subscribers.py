"""The examples for those who write subscribers, run as they are against a real broker."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import paho.mqtt.publish as publish
import pytest
import yaml

from edge_agent.clock import SystemClock
from edge_agent.mqtt import wire
from edge_agent.mqtt.bridges.home_assistant import HomeAssistant
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.mqtt.publisher import Courier
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.outbox.store import Outbox
from tests.broker import Subscriber, wait_until
from tests.docs.pages import REPOSITORY
from tests.e2e.test_courier import final

EXAMPLES = REPOSITORY / "provisioning/examples"
PYTHON, FLOW, AUTOMATIONS = (
    EXAMPLES / name for name in ("subscriber.py", "node-red-flow.json", "home-assistant.yaml")
)


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
            said = lambda: (place / "log").read_text(encoding="utf-8", errors="replace")  # noqa: E731
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


def test_home_assistants_automations_meet_the_entities_that_are_announced() -> None:
    """Entity names as Home Assistant makes them of our discovery, attributes that the event has."""
    (_, payload), *_ = HomeAssistant(wire.Topics("edge", "kiosk-0042"), site="lobby", profiles=()).retained()
    body = json.loads(payload)
    slug = body["device"]["name"].replace("-", "_")
    entities = {
        f"{part['platform']}.{slug}_{part['name'].lower().replace(' ', '_')}"
        for part in body["components"].values()
    }
    text = AUTOMATIONS.read_text(encoding="utf-8")
    automations = yaml.safe_load(text)
    wanted = {t["entity_id"] for automation in automations for t in automation["triggers"]}
    assert wanted == {"event.kiosk_0042_transcript", "binary_sensor.kiosk_0042_degraded"}
    assert wanted <= entities
    told = set(re.findall(r"'(\w+)': value_json", body["components"]["transcript"]["value_template"]))
    assert set(re.findall(r"attributes\.(\w+)", text)) <= told


def test_home_assistants_condition_is_true_for_the_words_it_waits_for() -> None:
    """The template as Home Assistant renders it."""
    import jinja2

    (condition,) = yaml.safe_load(AUTOMATIONS.read_text(encoding="utf-8"))[0]["conditions"]
    template = jinja2.Environment().from_string(condition["value_template"])

    def holds(state: str, text: str = "", confidence: float = 0.9) -> bool:
        to_state = {"state": state, "attributes": {"text": text, "confidence": confidence}}
        return template.render(trigger={"to_state": to_state}).strip() == "True"

    assert holds("2026-11-20T13:00:00.000+00:00", "Turn the Light on, please.")
    assert not holds("2026-11-20T13:00:00.000+00:00", "Light on", confidence=0.3)
    assert not holds("2026-11-20T13:00:00.000+00:00", "Good morning")
    assert not holds("unavailable", "light on")


def works(python: str) -> bool:
    """Whether an interpreter is here; some launchers exist for versions that are not."""
    if shutil.which(python) is None:
        return False
    return not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode


def home_assistant() -> Path:
    """The command `hass`; fetched once by pip into the cache, or HASS names an installed one."""
    if os.environ.get("HASS"):
        return Path(os.environ["HASS"])
    python = next(filter(works, ("python3.13", "python3.12")), None)
    if python is None:
        pytest.skip("Home Assistant needs Python 3.12 or later, which is not here; HASS may name its `hass`")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-agent/home-assistant"
    hass = base / "bin/hass"
    if not hass.exists():
        subprocess.run([python, "-m", "venv", str(base)], check=True)
        pip = [str(base / "bin/pip"), "install", "--quiet"]
        first = subprocess.run([*pip, "homeassistant==2024.12.5"], timeout=600, check=False)
        bounds = next(base.glob("lib/*/site-packages/homeassistant/package_constraints.txt"), None)
        needed = (
            "paho-mqtt",
            "numpy",
            "home-assistant-frontend",
            "hassil",
            "home-assistant-intents",
            "mutagen",
        )
        rest = (*needed, "PyTurboJPEG", "ha-ffmpeg", "pymicro-vad", "pyspeex-noise")
        if (
            first.returncode
            or subprocess.run([*pip, "-c", str(bounds), *rest], timeout=600, check=False).returncode
        ):
            hass.unlink(missing_ok=True)
            pytest.skip("pip could not fetch Home Assistant; see its message")
    return hass


def configured(place: Path, broker_port: int) -> None:
    """As a user leaves it: the MQTT integration set up, one lamp, our automations. States go out by MQTT."""
    (place / ".storage").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        web_port = probe.getsockname()[1]
    day = "2026-01-01T00:00:00+00:00"
    entry = {
        "entry_id": "broker", "domain": "mqtt", "title": "broker", "source": "user", "version": 1,
        "minor_version": 2, "created_at": day, "modified_at": day, "unique_id": None, "options": {},
        "data": {"broker": "127.0.0.1", "port": broker_port, "protocol": "5", "discovery": True},
        "disabled_by": None, "discovery_keys": {}, "pref_disable_new_entities": False,
        "pref_disable_polling": False,
    }  # fmt: skip
    entries = {"version": 1, "minor_version": 4, "key": "core.config_entries", "data": {"entries": [entry]}}
    (place / ".storage/core.config_entries").write_text(json.dumps(entries))
    (place / "configuration.yaml").write_text(
        f"http: {{server_host: 127.0.0.1, server_port: {web_port}}}\n"
        "input_boolean: {lobby_light: }\n"
        "mqtt_statestream: {base_topic: states}\n"
        "automation: !include automations.yaml\n"
    )
    shutil.copy(AUTOMATIONS, place / "automations.yaml")


@pytest.mark.peers
@pytest.mark.timeout(1500)
def test_home_assistant_switches_a_lamp_when_it_is_asked(broker: PrivateBroker, tmp_path: Path) -> None:
    """The real Home Assistant finds the device by itself; its automation acts on the words, on no others."""
    hass = home_assistant()
    place = tmp_path / "config"
    configured(place, broker.port)
    topics = wire.Topics("edge", "kiosk-0042")

    def send(topic: str, payload: bytes | str, *, retain: bool = False) -> None:
        publish.single(topic, payload, qos=1, retain=retain, hostname="127.0.0.1", port=broker.port)

    def say(number: int, text: str) -> None:
        body = {
            "id": str(number), "seq": number, "text": text, "language": "en", "confidence": 0.9, "channel": 0,
            "start": "2026-11-20T13:00:00.120Z", "latency_ms": {"total": 493},
        }  # fmt: skip
        send(topics.final, json.dumps(body))

    for topic, payload in HomeAssistant(topics, site="lobby", profiles=()).retained():
        send(topic, payload, retain=True)
    online = wire.encode_status(state="online", since_utc_ms=0, reasons=[], boot_id="b")
    send(topics.status, online, retain=True)
    with Subscriber(broker.port, topic="states/#", client_id="watcher") as watcher:

        def states(entity: str) -> list[bytes]:
            return [m.payload for m in list(watcher.heard) if m.topic == f"states/{entity}/state"]

        with (tmp_path / "log").open("wb") as log:
            running = subprocess.Popen([str(hass), "-c", str(place), "--skip-pip"], stdout=log, stderr=log)
        try:
            wait_until(lambda: states("event/kiosk_0042_transcript")[-1:] == [b"unknown"], 180, "discovered")
            say(1, "Good morning.")
            wait_until(lambda: states("sensor/kiosk_0042_last_text")[-1:] == [b"Good morning."], 20)
            assert b"on" not in states("input_boolean/lobby_light")
            say(2, "Turn the light on, please.")
            wait_until(lambda: b"on" in states("input_boolean/lobby_light"), 20, "the lamp is on")
            assert states("binary_sensor/kiosk_0042_degraded")[-1] == b"off"
        finally:
            running.terminate()
            running.wait(60)
