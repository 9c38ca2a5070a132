"""Capture from ALSA. Never blocks for ever and never spins, whatever the device or the sound server does."""

from __future__ import annotations

import ctypes
import logging
import select
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.audio.source import Block, Overrun
from edge_agent.clock import Clock
from edge_agent.errors import CaptureError, MicrophoneBusy, MicrophoneLost
from edge_agent.types import SAMPLE_RATE_HZ, Pcm16

_log = logging.getLogger(__name__)
_PERIOD_MS = 32  # one VAD frame: whole frames arrive without waiting for a second period
_PERIODS = 64  # about 2 s of buffer: the reader may be late by that much
_OVERRUN = -32  # -EPIPE; the stream has been prepared again by the library
_SILENT_S = 1.0  # a device that stops delivering for so long is gone
_FIRST_S = 5.0  # a sound server may take two seconds to deliver its first sound
_OVERRUNS_IN_A_ROW = 8
_BEHIND_PERIODS = 4
_CLOSE_NS = 1_000_000
_PAUSE_S = 0.005


class AlsaSource:
    """A microphone.

    Args:
        device: an ALSA PCM name ("default", "plughw:CARD=USB,DEV=0") or a card id ("USB").
        channels: channels wanted; the device may give others.
        clock: for the time of each block.
        proc: where the kernel's sound files are; tests pass their own.
    """

    def __init__(
        self, device: str, *, channels: int, clock: Clock, proc: Path = Path("/proc/asound")
    ) -> None:
        self.name = f"alsa:{device}"
        self.rate_hz = SAMPLE_RATE_HZ
        self.channels = channels
        self.paced = True
        self._device = device
        self._wanted_channels = channels
        self._clock = clock
        self._proc = proc
        self._pcm: Any = None
        self._poll = select.poll()
        self._delivered = False
        self._empty_s = 0.0
        self._overruns = 0
        self._period = 1
        self._waiting = 0
        self._pause = threading.Event()  # never set: a wait that libfaketime leaves alone

    def open(self) -> None:
        """Open and start the device: 16 kHz if it has that, else its own rate; S16_LE always.

        Raises:
            MicrophoneBusy: another program holds it.
            MicrophoneLost: it is not there.
            CaptureError: pyalsaaudio is missing, or the device cannot deliver 16-bit samples.
        """
        if self._pcm is not None:
            return
        alsa = import_alsaaudio()
        name = pcm_name(self._device, alsa.cards())
        pcm = self._open_pcm(alsa, name, SAMPLE_RATE_HZ)
        native_hz = hardware_rate_hz(self._proc, pcm.info()) or pcm.info()["rate"]
        if native_hz != SAMPLE_RATE_HZ:
            # Again with that rate: its period fits, and ALSA's converter, which is poor, stays out of it.
            pcm.close()
            pcm = self._open_pcm(alsa, name, native_hz)
        info = pcm.info()
        if info["format_name"] != "S16_LE":
            pcm.close()
            raise CaptureError(
                f'microphone "{self._device}" delivers {info["format_name"]}, not 16-bit samples',
                remedy=f'use "alsa:plughw:CARD={self._device}" or another converting device',
            )
        self.rate_hz, self.channels = info["rate"], info["channels"]
        self._poll = select.poll()
        for descriptor, events in pcm.polldescriptors():
            self._poll.register(descriptor, events)
        self._pcm = pcm
        self._period = info["period_size"]
        self._waiting = 0  # frames known to wait in the device
        self._delivered = False
        self._empty_s, self._overruns = 0.0, 0
        self._call(pcm.read)  # starts the capture; there is nothing to take yet

    def read(self, timeout_s: float) -> Block | Overrun | None:
        """The next period.

        Raises:
            MicrophoneLost: unplugged, or nothing comes any more, or nothing but overruns.
        """
        if self._pcm is None:
            raise self._lost("is not open")
        deadline_ns = self._clock.monotonic_ns() + int(timeout_s * 1e9)
        while True:
            # Some plugins wake the poll once per period, not while data waits: a backlog is read without it.
            if self._waiting < self._period and not self._wait(deadline_ns):
                self._count_empty(timeout_s)
                return None
            self._waiting = 0
            frames, data = self._call(self._pcm.read)
            if frames > 0:
                self._delivered = True
                self._empty_s, self._overruns = 0.0, 0
                return self._block(frames, data)
            if frames == _OVERRUN:
                return self._overrun()
            self._pause.wait(_PAUSE_S)  # ready but empty: a sound server that went away does this for ever

    def close(self) -> None:
        pcm, self._pcm = self._pcm, None
        if pcm is not None:
            pcm.close()

    def _wait(self, deadline_ns: int) -> bool:
        """True when the device has something, be it an error; False at the deadline."""
        while (left_ms := (deadline_ns - self._clock.monotonic_ns()) / 1e6) > 0:
            ready = self._poll.poll(left_ms)
            if ready and self._call(self._pcm.polldescriptors_revents, ready):
                return True
        return False

    def _open_pcm(self, alsa: Any, name: str, rate_hz: int) -> Any:
        return self._call(
            alsa.PCM,
            type=alsa.PCM_CAPTURE,
            mode=alsa.PCM_NONBLOCK,
            device=name,
            rate=rate_hz,
            channels=self._wanted_channels,
            format=alsa.PCM_FORMAT_S16_LE,
            periodsize=rate_hz * _PERIOD_MS // 1000,
            periods=_PERIODS,
        )

    def _block(self, frames: int, data: bytes) -> Block:
        pcm: Pcm16 = np.frombuffer(data, "<i2").reshape(-1, self.channels)[:frames]
        at_ns, waiting = self._position()
        # A sound server may hold more than it admits: only a reader that has caught up knows the time.
        return Block(
            pcm=pcm,
            start_ns=at_ns - (frames + waiting) * 1_000_000_000 // self.rate_hz,
            behind=waiting >= _BEHIND_PERIODS * self._period,
        )

    def _position(self) -> tuple[int, int]:
        """A time, and the frames that waited in the device then: the closest of up to three looks.

        The library looks right after it is called; coming back it may wait for the interpreter. So the time
        before the call is the right one, unless we were held up in between.
        """
        best_ns, at_ns = 1 << 62, 0
        for _ in range(3):
            before_ns = self._clock.monotonic_ns()
            waiting = max(0, self._call(self._pcm.avail))
            took_ns = self._clock.monotonic_ns() - before_ns
            if took_ns < best_ns:
                best_ns, at_ns, self._waiting = took_ns, before_ns, waiting
            if took_ns < _CLOSE_NS:
                break
        return at_ns, self._waiting

    def _count_empty(self, timeout_s: float) -> None:
        # Time spent in reads, not on the clock: a process that was stopped did not wait for the device.
        self._empty_s += timeout_s
        limit_s = _SILENT_S if self._delivered else _FIRST_S
        if self._empty_s >= limit_s:
            raise self._lost(f"has delivered nothing for {limit_s:.0f} s")

    def _overrun(self) -> Overrun:
        self._overruns += 1
        if self._overruns >= _OVERRUNS_IN_A_ROW:
            raise self._lost("reports nothing but overruns")
        if self._overruns > 1:
            self._pause.wait(_PAUSE_S * self._overruns)
        self._call(self._pcm.read)  # starts the capture again
        return Overrun()

    def _lost(self, how: str) -> MicrophoneLost:
        return MicrophoneLost(
            f'microphone "{self._device}" {how}',
            remedy='check the cable; "edge-agent devices" lists what is there',
        )

    def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the library; its errors carry nothing but a text."""
        alsa = import_alsaaudio()
        try:
            return function(*args, **kwargs)
        except alsa.ALSAAudioError as error:
            text = str(error)
            if "busy" in text:
                raise MicrophoneBusy(
                    f'microphone "{self._device}" is held by another program',
                    remedy="stop that program (fuser -v /dev/snd/* names it), or use a shared device",
                ) from error
            if "No such" in text:
                raise self._lost("is not there") from error
            raise self._lost(f"cannot be used ({text})") from error


def import_alsaaudio() -> Any:
    """The module, imported when first needed; what libasound has to say goes to the log.

    Raises:
        CaptureError: it is not installed, or libasound is not.
    """
    try:
        import alsaaudio
    except ImportError as error:
        raise CaptureError(
            f"microphones need pyalsaaudio, which cannot be imported ({error})",
            remedy='install libasound2 (apt) and "edge-asr-agent[alsa]" (pip; building needs libasound2-dev)',
        ) from error
    _hear_libasound()
    return alsaaudio


@cache
def _hear_libasound() -> Any:
    """Send libasound's own messages to the log: it writes to stderr, at every try to open a lost device."""
    handler_type = ctypes.CFUNCTYPE(
        None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p
    )

    def handle(_file: bytes, _line: int, function: bytes, _error: int, text: bytes) -> None:
        _log.debug("libasound: %s: %s", function.decode(errors="replace"), text.decode(errors="replace"))

    handler = handler_type(handle)
    try:
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(handler)
    except (OSError, AttributeError) as error:
        _log.debug("libasound keeps writing to stderr: %s", error)
    return handler  # kept by the cache: the library holds only its address


def pcm_name(device: str, cards: list[str]) -> str:
    """The ALSA PCM for a card id; any other name is one already. A card is opened with format conversion."""
    return f"plughw:CARD={device},DEV=0" if device in cards else device


def hardware_rate_hz(proc: Path, info: dict[str, Any]) -> int:
    """The rate an open capture device really runs at, 0 when the kernel does not say.

    Converting PCMs hide it; the kernel shows it while the device is open.
    """
    card = info.get("card_no", -1)
    if card is None or card < 0:
        return 0
    rates = set()
    for file in sorted((proc / f"card{card}").glob("pcm*c/sub*/hw_params")):
        try:
            text = file.read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("rate:"):
                rates.add(int(line.split()[1]))
    return rates.pop() if len(rates) == 1 else 0
