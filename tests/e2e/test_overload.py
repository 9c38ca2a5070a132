"""Other work takes all CPUs: partials go first, finals come late but whole, and it recovers by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from edge_agent.health import load
from edge_agent.mqtt.private_broker import PrivateBroker
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess

SAMPLES = Path(__file__).resolve().parents[2] / "edge_agent/samples"
WORDS = "Let us talk it over and find a way out."
ORDER = ("partials come more rarely", "no partials", "a smaller model recognises")
_HOG = "while True: pass"
_HOGS_A_CORE = 30


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_a_hog_on_all_cores(tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber) -> None:
    """Degraded with the reason, less done in the written order, every sentence heard; online afterwards."""
    source = f"file:{SAMPLES / 'find_a_way_out.flac'}?loop=1"
    settings = (f'mqtt.url="{broker.url}"', 'device.id="box"', f'audio.source="{source}"')
    with AgentProcess(tmp_path / "state", *settings) as box:
        wait_until(lambda: len(subscriber.on("/transcript/final")) > 1, 60, "first finals")
        calm_from = time.monotonic()
        time.sleep(15)
        calm = _partials_per_final(subscriber, calm_from, time.monotonic())
        if _state(subscriber) != "online" or calm < 1:
            pytest.skip("other work takes the CPUs already")
        hogs = [
            subprocess.Popen([sys.executable, "-c", _HOG])
            for _ in range(_HOGS_A_CORE * len(os.sched_getaffinity(0)))
        ]
        try:
            wait_until(lambda: _state(subscriber) == "degraded", 120, "degraded")
            busy_from = time.monotonic()
            time.sleep(30)
            busy = _partials_per_final(subscriber, busy_from, time.monotonic())
        finally:
            for hog in hogs:
                hog.kill()
            for hog in hogs:
                hog.wait(10)
        recovered = _recovers(subscriber)
        assert box.terminate(30) == 0
    assert busy < calm
    _shed_in_order(
        [one.body["reasons"] for one in subscriber.on("/status") if one.body["state"] == "degraded"]
    )
    assert not subscriber.on("/gap")
    finals = [one.body for one in subscriber.on("/transcript/final")]
    numbers = {one["seq"] for one in finals}
    assert numbers == set(range(1, len(numbers) + 1))
    whole = [one for one in finals if "cut:stop" not in one["flags"]]
    assert all(one["text"] == WORDS for one in whole if one["model"].startswith("whisper-base"))
    assert all(one["text"] for one in whole)
    if not recovered and load.read().cpu_pressure > 40:
        pytest.skip("other work still takes the CPUs: all but the recovery was proven")
    assert recovered


def _shed_in_order(told: list[list[str]]) -> None:
    """Each degraded status names its reason; steps follow one another from the first, without a leap."""
    steps = [
        place
        for reasons in told
        for place, step in enumerate(ORDER)
        if any(step in reason for reason in reasons)
    ]
    assert steps, told
    assert steps[0] == 0, told
    assert all(abs(after - before) <= 1 for before, after in pairwise(steps)), told
    words = " ".join(reason for reasons in told for reason in reasons)
    assert any(why in words for why in ("behind", "late", "CPU")), told


def _recovers(subscriber: Subscriber) -> bool:
    """Online within minutes: at most three steps up of half a minute each, one of them taken twice."""
    try:
        wait_until(lambda: _state(subscriber) == "online", 300, "online again")
    except AssertionError:
        return False
    return True


def _state(subscriber: Subscriber) -> str:
    return subscriber.on("/status")[-1].body["state"]


def _partials_per_final(subscriber: Subscriber, since: float, until: float) -> float:
    finals = [one for one in subscriber.on("/final") if since < one.at < until]
    return len([one for one in subscriber.on("/partial") if since < one.at < until]) / max(1, len(finals))
