"""Which microphones are there, under names that survive a reboot and another USB socket."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from edge_agent.audio.alsa import AlsaSource, import_alsaaudio
from edge_agent.clock import Clock
from edge_agent.errors import CaptureError, MicrophoneBusy
from edge_agent.types import Value

_PROC = Path("/proc/asound")
_NOT_DEVICES = {"null", "jack", "lavrate", "oss", "samplerate", "speex", "speexrate", "upmix", "vdownmix"}


class CaptureDevice(Value, frozen=True):
    """One device that can be named in the configuration."""

    source: str
    """For `audio.source`, for example "alsa:USB"."""
    description: str
    state: Literal["ready", "busy", "unusable"]
    rate_hz: int = 0
    """The rate and channels it gives when one channel at 16 kHz is asked; 0 when it cannot be opened."""
    channels: int = 0
    problem: str = ""


def capture_devices(clock: Clock, proc: Path = _PROC) -> list[CaptureDevice]:
    """All capture devices: the cards by their id, then PCMs that the ALSA configuration names.

    Each is opened for a moment. PCMs of the configuration that cannot be opened (a "default" without a card)
    are left out; a card that cannot be opened is a fact worth knowing.

    Raises:
        CaptureError: pyalsaaudio or libasound is missing.
    """
    alsa = import_alsaaudio()
    found = [_try(name, description, clock) for name, description in _cards(proc)]
    for name in alsa.pcms(alsa.PCM_CAPTURE):
        if ":" in name or name in _NOT_DEVICES:
            continue
        device = _try(name, "named in the ALSA configuration", clock)
        if device.state != "unusable":
            found.append(device)
    return found


def _cards(proc: Path) -> list[tuple[str, str]]:
    """Name for ALSA and description of each hardware capture device, as the kernel lists them."""
    found = []
    for info in sorted(proc.glob("card[0-9]*/pcm*c/info")):
        fields = _fields(info)
        card = info.parents[1]
        try:
            card_id = (card / "id").read_text(encoding="utf-8").strip()
        except OSError:
            continue
        number = re.sub(r"\D", "", info.parent.name)
        device = card_id if number == "0" else f"plughw:CARD={card_id},DEV={number}"
        found.append((device, fields.get("name", "")))
    return found


def _fields(info: Path) -> dict[str, str]:
    try:
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _try(device: str, description: str, clock: Clock) -> CaptureDevice:
    source = AlsaSource(device, channels=1, clock=clock)
    try:
        source.open()
    except CaptureError as error:
        busy = isinstance(error, MicrophoneBusy)
        return CaptureDevice(
            source=source.name,
            description=description,
            state="busy" if busy else "unusable",
            problem=str(error),
        )
    finally:
        source.close()
    return CaptureDevice(
        source=source.name,
        description=description,
        state="ready",
        rate_hz=source.rate_hz,
        channels=source.channels,
    )
