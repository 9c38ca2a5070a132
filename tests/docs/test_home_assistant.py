"""The example for Home Assistant: against what devices announce, then with the real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import paho.mqtt.publish as publish
import pytest
import yaml

from edge_agent.mqtt import wire
from edge_agent.mqtt.bridges.home_assistant import HomeAssistant
from edge_agent.mqtt.private_broker import PrivateBroker
from tests.broker import Subscriber, wait_until
from tests.docs.pages import REPOSITORY

AUTOMATIONS = REPOSITORY / "provisioning/examples/home-assistant.yaml"


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
