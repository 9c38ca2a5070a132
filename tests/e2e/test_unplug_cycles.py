"""A microphone with a loose contact: hundreds of losses leave no descriptor, thread or memory behind."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.files import read_audio
from edge_agent.mqtt.private_broker import PrivateBroker
from tests.alsa.room import Room
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess
from tests.systemd.results import Tell, tell

__all__ = ["tell"]
"""Fixtures."""

SAMPLE = Path(__file__).resolve().parents[2] / "edge_agent/samples/find_a_way_out.flac"
CYCLES = 500
LOST = '"level": "warning", "logger": "edge_agent.audio.ears"'
LEAST_RSS_MB = 3.0
"""Growth below this is noise of the allocator."""


def held(pid: int) -> tuple[int, int, float]:
    """Open descriptors, threads, and resident megabytes of a process."""
    process = Path(f"/proc/{pid}")
    pages = int((process / "statm").read_text().split()[1])
    return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())), pages * 4096 / 1e6


def since(box: AgentProcess, place: int) -> str:
    """What the agent logged behind a place of its log."""
    with box.log_path.open("rb") as log:
        log.seek(place)
        return log.read().decode()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_five_hundred_losses_leave_nothing_behind(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, tell: Tell
) -> None:
    """Unplugged and back 500 times: it hears after each, every loss is told, and it still recognises."""
    said = np.concatenate((read_audio(SAMPLE), np.zeros(16_000, np.float32)))
    room = Room(tmp_path / "room", np.tile(said, 300))  # a quarter of an hour; then it would be silent
    settings = (f'mqtt.url="{broker.url}"', 'device.id="box"', "audio.source=alsa:mic")
    box = AgentProcess(tmp_path / "state", *settings, ALSA_CONFIG_PATH=str(room.folder / "asound.conf"))
    longest_s = 0.0
    with box:
        wait_until(lambda: subscriber.on("/transcript/final"), 60, "a first final")
        early = None
        for cycle in range(1, CYCLES + 1):
            place = box.log_path.stat().st_size
            room.fault("unplug")
            wait_until(lambda p=place: LOST in since(box, p), 10, f"loss {cycle}")
            place = box.log_path.stat().st_size
            room.fault("")
            began = time.monotonic()
            wait_until(lambda p=place: "is heard again" in since(box, p), 10, f"return {cycle}")
            longest_s = max(longest_s, time.monotonic() - began)
            if cycle == CYCLES // 5:
                early = held(box.process.pid)
        late = held(box.process.pid)
        moment = time.monotonic()
        wait_until(lambda: any(m.at > moment for m in subscriber.on("/transcript/final")), 30, "words after")
        assert box.terminate() == 0
    assert early is not None
    growth = (
        f"descriptors {late[0] - early[0]:+d}, threads {late[1] - early[1]:+d}, {late[2] - early[2]:+.1f} MB"
    )
    tell(f"{CYCLES} times unplugged and back: growth since the first {CYCLES // 5}", growth)
    tell(f"{CYCLES} times unplugged and back: longest until it heard again", f"{longest_s:.1f} s")
    assert late[:2] == early[:2]
    assert late[2] - early[2] < max(LEAST_RSS_MB, 0.05 * early[2])
    assert longest_s < 3
