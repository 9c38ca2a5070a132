"""Other work takes all CPUs: partials go first, finals come late but whole, and it recovers by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.health import load
from edge_agent.mqtt.private_broker import PrivateBroker
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess

SAMPLES = Path(__file__).resolve().parents[2] / "edge_agent/samples"
WORDS = "Let us talk it over and find a way out."
_HOG = "while True: pass"
_HOGS_A_CORE = 12


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_hog_on_all_cores(tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber) -> None:
    """Degraded with the reason and fewer partials while it lasts; every sentence heard; online afterwards."""
    if load.read().cpu_pressure > 30:
        pytest.skip("other work takes the CPUs already: it would not recover")
    source = f"file:{SAMPLES / 'find_a_way_out.flac'}?loop=1"
    settings = (f'mqtt.url="{broker.url}"', 'device.id="box"', f'audio.source="{source}"')
    with AgentProcess(tmp_path / "state", *settings) as box:
        wait_until(lambda: subscriber.on("/transcript/final"), 40, "a first final")
        calm_from = time.monotonic()
        time.sleep(15)
        calm = _partials_per_final(subscriber, calm_from)
        hogs = [
            subprocess.Popen([sys.executable, "-c", _HOG])
            for _ in range(_HOGS_A_CORE * len(os.sched_getaffinity(0)))
        ]
        try:
            wait_until(lambda: _state(subscriber) == "degraded", 90, "degraded")
            reasons = subscriber.on("/status")[-1].body["reasons"]
            busy_from = time.monotonic()
            time.sleep(30)
            busy = _partials_per_final(subscriber, busy_from)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait(10)
        wait_until(lambda: _state(subscriber) == "online", 200, "online again")
        assert box.terminate() == 0
    assert any("CPU" in reason or "behind" in reason for reason in reasons), reasons
    assert busy < calm
    assert not subscriber.on("/gap")
    finals = [one.body for one in subscriber.on("/transcript/final")]
    assert sorted({one["seq"] for one in finals}) == list(range(1, len({one["seq"] for one in finals}) + 1))
    assert all(one["text"] == WORDS for one in finals if "cut:stop" not in one["flags"])


def _state(subscriber: Subscriber) -> str:
    return subscriber.on("/status")[-1].body["state"]


def _partials_per_final(subscriber: Subscriber, since: float) -> float:
    finals = [one for one in subscriber.on("/final") if one.at > since]
    return len([one for one in subscriber.on("/partial") if one.at > since]) / max(1, len(finals))
