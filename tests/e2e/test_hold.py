"""A box without its model says so, delivers what it has, and goes on by itself when the model is there."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.verbs.common import models_dir
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess

SAMPLE = Path(__file__).resolve().parents[2] / "edge_agent/samples/find_a_way_out.flac"


def test_under_a_service_manager_a_missing_model_is_waited_for(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """READY and degraded with the remedy at once; online and words after the model was put there."""
    store = tmp_path / "models"
    settings = (f'mqtt.url="{broker.url}"', 'device.id="box"', f'audio.source="file:{SAMPLE}?loop=1"')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        managed = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "EDGE_AGENT_MODELS": str(store)}
        with AgentProcess(tmp_path / "state", *settings, **managed) as box:
            told = b""
            while b"READY=1" not in told:
                told = manager.recv(4096)
            assert b"edge-agent models pull" in told
            wait_until(lambda: subscriber.on("/up/status"), 10)
            waiting = subscriber.on("/up/status")[-1].body
            assert waiting["state"] == "degraded"
            assert "edge-agent models pull whisper-base" in waiting["reasons"][0]
            shutil.copytree(models_dir() / "whisper-base/source", store / "whisper-base/source")
            wait_until(lambda: subscriber.on("/transcript/final"), 60, "words after the repair")
            assert subscriber.on("/up/status")[-1].body["state"] == "online"
            assert box.terminate() == 0


def test_told_to_stop_while_it_waits_it_stops(tmp_path: Path, broker: PrivateBroker) -> None:
    """SIGTERM ends the waiting at once, and well."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        managed = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "EDGE_AGENT_MODELS": str(tmp_path / "none")}
        settings = (f'mqtt.url="{broker.url}"', f'audio.source="file:{SAMPLE}?loop=1"')
        with AgentProcess(tmp_path / "state", *settings, **managed) as box:
            wait_until(lambda: "waiting for the repair" in box.log, 20)
            assert box.terminate(5) == 0
