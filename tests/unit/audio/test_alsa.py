"""Names, rates and errors of ALSA devices; capture itself is tested end to end."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.alsa import AlsaSource, hardware_rate_hz, pcm_name
from edge_agent.audio.devices import _cards
from edge_agent.clock import SystemClock
from edge_agent.errors import CaptureError, MicrophoneLost
from tests.alsa.room import Room


def edge_agent(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *arguments],
        env=environment or dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_card_id_is_a_device_with_conversion() -> None:
    """A card is named by its id; anything else is a PCM already."""
    assert pcm_name("USB", ["PCH", "USB"]) == "plughw:CARD=USB,DEV=0"
    assert pcm_name("default", ["PCH"]) == "default"
    assert pcm_name("hw:1,0", ["PCH"]) == "hw:1,0"


def test_the_kernel_tells_the_rate_behind_a_converting_device(tmp_path: Path) -> None:
    """The running device's own rate; nothing when there is no card, no file, or no single answer."""
    running = tmp_path / "card1/pcm0c/sub0"
    running.mkdir(parents=True)
    (running / "hw_params").write_text("access: MMAP_INTERLEAVED\nrate: 48000 (48000/1)\n")
    assert hardware_rate_hz(tmp_path, {"card_no": 1}) == 48_000
    assert hardware_rate_hz(tmp_path, {"card_no": 0}) == 0
    assert hardware_rate_hz(tmp_path, {"card_no": -1}) == 0
    (running / "hw_params").write_text("closed\n")
    assert hardware_rate_hz(tmp_path, {"card_no": 1}) == 0


def test_cards_are_listed_by_id(tmp_path: Path) -> None:
    """As the kernel lists them; further devices of a card by their number."""
    for device, name in ((0, "USB Audio"), (2, "Line In")):
        folder = tmp_path / f"card1/pcm{device}c"
        folder.mkdir(parents=True)
        (folder / "info").write_text(f"card: 1\ndevice: {device}\nstream: CAPTURE\nid: x\nname: {name}\n")
    (tmp_path / "card1/id").write_text("Webcam\n")
    assert _cards(tmp_path) == [("Webcam", "USB Audio"), ("plughw:CARD=Webcam,DEV=2", "Line In")]


def test_a_device_that_does_not_exist() -> None:
    """One line with the name and the next step; libasound's own lines do not reach the terminal."""
    with pytest.raises(MicrophoneLost, match=r'"nosuch" is not there; .*edge-agent devices') as caught:
        AlsaSource("nosuch", channels=1, clock=SystemClock()).open()
    assert caught.value.exit_code == 69


def test_opening_and_losing_over_and_over_leaks_nothing(tmp_path: Path) -> None:
    """Five hundred cycles of a microphone that comes and goes: no descriptor and no memory more."""
    room = Room(tmp_path / "room", np.zeros(16_000, np.float32), rate_hz=48_000, channels=2)
    program = """
import os, resource, sys
from edge_agent.audio.alsa import AlsaSource
from edge_agent.clock import SystemClock
from edge_agent.errors import CaptureError
def cycle():
    source = AlsaSource("mic", channels=1, clock=SystemClock())
    source.open()
    try:
        source.read(0.0)
    except CaptureError:
        pass
    source.close()
    try:
        AlsaSource("nosuch", channels=1, clock=SystemClock()).open()
    except CaptureError:
        pass
def state():
    return len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(50):
    cycle()
before = state()
for _ in range(500):
    cycle()
after = state()
print(after[0] - before[0], after[1] - before[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=room.environment, capture_output=True, text=True, check=True
    )
    descriptors, kilobytes = map(int, done.stdout.split())
    assert descriptors == 0
    assert kilobytes < 2_000


def test_without_the_library_the_way_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional dependency is missing: the extra and the system package."""
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "alsaaudio":
            raise ImportError("No module named 'alsaaudio'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CaptureError, match=r"libasound2 .*edge-asr-agent\[alsa\]"):
        AlsaSource("default", channels=1, clock=SystemClock()).open()


def test_the_list_of_a_machine_without_a_microphone(tmp_path: Path) -> None:
    """One line with the next step, exit code 69, nothing else on either stream."""
    nothing = tmp_path / "asound.conf"
    nothing.write_text("</usr/share/alsa/alsa.conf>\n")
    if list(Path("/proc/asound").glob("card*/pcm*c")):
        pytest.skip("this machine has a microphone")
    done = edge_agent("devices", environment={**os.environ, "ALSA_CONFIG_PATH": str(nothing)})
    assert done.returncode == 69
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no microphone was found; plug one in" in done.stderr


def test_the_list_and_the_meter_of_a_machine_with_one(tmp_path: Path) -> None:
    """Name, rate, channels; the meter shows the level of what is played."""
    wave = (0.5 * np.sin(np.arange(16_000 * 20) * 0.2)).astype(np.float32)
    room = Room(tmp_path / "room", wave, rate_hz=48_000, channels=2)
    listed = edge_agent("devices", "--json", environment=room.environment)
    assert listed.returncode == 0, listed.stderr
    devices = {device["source"]: device for device in json.loads(listed.stdout)}
    assert devices["alsa:mic"]["state"] == "ready"
    assert (devices["alsa:mic"]["rate_hz"], devices["alsa:mic"]["channels"]) == (48_000, 2)
    metered = edge_agent(
        "devices", "--meter", "--device", "mic", "--seconds", "1.2", "--json", environment=room.environment
    )
    assert metered.returncode == 0, metered.stderr
    last = json.loads(metered.stdout.splitlines()[-1])
    assert last["peak_dbfs"] == pytest.approx(-6, abs=0.5)


def test_the_list_says_which_device_is_busy(tmp_path: Path) -> None:
    """A microphone that another program holds is listed, with that reason."""
    room = Room(tmp_path / "room", np.zeros(16_000, np.float32))
    room.fault("busy")
    listed = edge_agent("devices", environment=room.environment)
    assert listed.returncode == 0, listed.stderr
    assert "busy" in listed.stdout
    assert "held by another program" in listed.stdout
