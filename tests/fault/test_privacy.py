"""Audio stays in memory: a real run, traced, with a sound that would be recognised anywhere."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.files import read_audio
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.types import SAMPLE_RATE_HZ
from edge_agent.verbs.common import models_dir
from tests.broker import Subscriber
from tests.e2e.agent_process import COMMAND
from tests.fault.results import record

SAMPLE = Path(__file__).resolve().parents[2] / "edge_agent/samples/find_a_way_out.flac"
SLICE = 24
"""Samples of one needle: so many in a row are never equal by chance."""
ETH_P_ALL = 0x0003
SO_RCVBUFFORCE = 33
"""Of Linux; the module socket names neither."""
CALLS = "trace=network,write,pwrite64,writev,pwritev,pwritev2,sendfile,splice,openat"

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="seeing packets needs root"),
]


@dataclass(frozen=True)
class Needles:
    """Slices of a sound in every form in which it might leave."""

    forms: tuple[bytes, ...]

    @classmethod
    def of(cls, pcm: np.ndarray) -> Needles:
        """Slices from all over int16[samples]: raw, float32, float64 and base64 of the raw bytes."""
        loud = [
            at for at in range(0, len(pcm) - SLICE, SAMPLE_RATE_HZ // 20) if _varied(pcm[at : at + SLICE])
        ]
        forms: list[bytes] = []
        for at in loud:
            piece = pcm[at : at + SLICE]
            raw = piece.astype("<i2").tobytes()
            forms += [raw, piece.astype(">i2").tobytes()]
            forms += [
                (piece / np.float32(32768)).astype("<f4").tobytes(),
                (piece / 32768).astype("<f8").tobytes(),
            ]
            # Base64 of what holds the slice at any of three phases; its edges depend on the neighbours.
            forms += [base64.b64encode(bytes(phase) + raw)[4:-4] for phase in range(3)]
        return cls(tuple(forms))

    def found_in(self, haystack: bytes) -> int:
        """How many of the forms are there."""
        return sum(form in haystack for form in self.forms)


def _varied(piece: np.ndarray) -> bool:
    return len(np.unique(piece)) > SLICE // 2 and int(np.abs(piece).max()) > 500


def make_sound(path: Path) -> np.ndarray:
    """Speech, with a tone of its own before it; written as a recording, returned as int16[samples]."""
    import wave

    speech = read_audio(SAMPLE)
    at = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = 0.2 * np.sin(2 * np.pi * (700 * at + 450 * at**2)) + 0.02 * np.sin(2 * np.pi * 3313.7 * at)
    pcm = np.round(np.concatenate((tone, np.ravel(speech), np.zeros(8000))) * 32767).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(pcm.tobytes())
    return pcm


def traced(command: list[str], trace: Path, environment: dict[str, str]) -> None:
    """Run it to its end under strace, every byte written or sent in the trace as hexadecimals."""
    done = subprocess.run(
        ["strace", "-f", "-qq", "-xx", "-s", "4000000", "-e", CALLS, "-o", str(trace), *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def bytes_out(trace: Path) -> bytes:
    """All strings of all calls, one after the other in the order of the calls."""
    out = bytearray()
    with trace.open("rb") as lines:
        for line in lines:
            for text in re.findall(rb'"((?:\\x[0-9a-f]{2})*)"', line):
                out += bytes.fromhex(text.replace(b"\\x", b"").decode())
    return bytes(out)


def connections(trace: Path) -> set[str]:
    """Where it connected or sent to: "address:port", or the path of a socket."""
    found = set()
    for line in trace.read_text(encoding="ascii", errors="replace").splitlines():
        if not re.search(r" (connect|sendto|sendmsg|sendmmsg)\(", line):
            continue
        port, v4 = re.search(r"sin6?_port=htons\((\d+)\)", line), re.search(r"inet_addr\(\"([^\"]*)\"", line)
        if port and v4:
            found.add(f"{bytes.fromhex(v4[1].replace(chr(92) + 'x', '')).decode()}:{port[1]}")
        elif port:
            found.add(f"IPv6:{port[1]}")
        elif " connect(" in line and (path := re.search(r"sun_path=@?\"([^\"]*)\"", line)):
            found.add(bytes.fromhex(path[1].replace(chr(92) + "x", "")).decode())
    return found


class Packets:
    """Context manager: every frame on every interface of this machine, loopback too; needs root."""

    def __init__(self) -> None:
        self.frames = bytearray()
        self._done = threading.Event()

    def __enter__(self) -> Packets:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        self._socket.settimeout(0.2)
        self._reader = threading.Thread(target=self._read, name="packets")
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.3)  # the last frames
        self._done.set()
        self._reader.join(5)
        self._socket.close()

    def _read(self) -> None:
        while not self._done.is_set():
            with contextlib.suppress(TimeoutError):
                self.frames += self._socket.recv(1 << 17)


def test_a_packet_with_the_sound_is_seen(tmp_path: Path) -> None:
    """Sent over loopback, it is found in the frames."""
    pcm = make_sound(tmp_path / "sound.wav")
    with Packets() as packets, socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as out:
            out.sendall(pcm[:20_000].tobytes())
        server.accept()[0].close()
    assert Needles.of(pcm[:20_000]).found_in(bytes(packets.frames)) > 5


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """A program that does write the sound is caught, in each form."""
    pcm = make_sound(tmp_path / "sound.wav")
    needles = Needles.of(pcm)
    script = (
        "import base64,os,wave,sys\n"
        "pcm = wave.open(sys.argv[1]).readframes(10**9)\n"
        "os.write(os.open('/dev/null', os.O_WRONLY), base64.b64encode(b'x' + pcm) if sys.argv[2:] else pcm)\n"
    )
    for more in ([], ["base64"]):
        trace = tmp_path / "trace"
        traced([sys.executable, "-c", script, str(tmp_path / "sound.wav"), *more], trace, dict(os.environ))
        assert needles.found_in(bytes_out(trace)) > 50


def test_no_sound_is_written_or_sent_and_nobody_else_is_called(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """The real agent hears, recognises and publishes; every byte that leaves it is searched."""
    outside, home = tmp_path / "outside", tmp_path / "home"
    outside.mkdir()
    home.mkdir()
    needles = Needles.of(make_sound(outside / "sound.wav"))
    kept = {key: value for key, value in os.environ.items() if key in {"PATH", "LANG", "VIRTUAL_ENV"}}
    environment = {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(home),
        "EDGE_AGENT_STATE": str(home / "state"),
        "EDGE_AGENT_MODELS": str(models_dir()),
    }
    overrides = [
        part
        for setting in (
            f'mqtt.url="{broker.url}"',
            'device.id="box"',
            f'audio.source="file:{outside / "sound.wav"}"',
            "mqtt.events=true",
        )
        for part in ("--set", setting)
    ]
    trace = outside / "trace"
    assert "CI" not in environment, (
        "libraries that phone home hold back where they take themselves for tested"
    )
    with Packets() as packets:
        traced([*COMMAND, "run", *overrides], trace, environment)
    assert subscriber.on("/transcript/final"), "it heard nothing: the run proves nothing"
    out = bytes_out(trace)
    files = [path for path in home.rglob("*") if path.is_file()]
    in_files = sum(needles.found_in(path.read_bytes()) for path in files)
    in_calls = needles.found_in(out)
    in_packets = needles.found_in(bytes(packets.frames))
    assert b"transcript/final" in packets.frames, "the capture saw nothing: it proves nothing"
    called = connections(trace)
    strangers = {where for where in called if where != f"127.0.0.1:{broker.port}" and ":" in where}
    record(
        "privacy",
        "Privacy: a traced run with a known sound",
        {
            "needles": len(needles.forms),
            "bytes written or sent": len(out),
            "found in them": in_calls,
            "bytes in packets": len(packets.frames),
            "found in packets": in_packets,
            "files left": len(files),
            "found in files": in_files,
            "addresses called besides the broker": len(strangers),
        },
    )
    assert (in_calls, in_packets, in_files) == (0, 0, 0)
    assert strangers == set()
    assert {where for where in called if ":" not in where} <= {"/run/systemd/journal/socket", "/dev/log"}
