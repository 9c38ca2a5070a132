"""A Wyoming speech-to-text server as a peer, through its public protocol and nothing else.

Wyoming (github.com/rhasspy/wyoming) is events over TCP: a line of JSON with `type`, `data` or the length of
the JSON that follows, and the length of a binary payload. A client sends `transcribe`, `audio-start`,
`audio-chunk` as one speaks and `audio-stop` when its own endpoint is over; the server answers with
`transcript`, streaming ones with `transcript-chunk` before it. One utterance per connection.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import numpy as np

from edge_agent.errors import EngineError, UsageError
from edge_agent.memory import rss_bytes
from edge_agent.types import SAMPLE_RATE_HZ, PcmFloat, Value

NAME = "wyoming"
PROGRAM = "wyoming-faster-whisper"
_CHUNK_SAMPLES = 1024  # what Home Assistant's satellites send
_FORMAT = {"rate": SAMPLE_RATE_HZ, "width": 2, "channels": 1}
_START_S = 90.0
_ANSWER_S = 60.0
_LONGEST_LINE = 1 << 20
_REMEDY = (
    f"install it where it disturbs nothing (python3 -m venv peer && peer/bin/pip install {PROGRAM}), put "
    "peer/bin into PATH, or name a server that runs with --peer-url tcp://HOST:PORT"
)


class Answer(Value, frozen=True):
    """What came back for one utterance."""

    text: str
    final_ms: float
    """From `audio-stop`, the end of the silence window, to the transcript."""
    first_ms: float | None
    """From the first sample to the first words; None when they came with the transcript."""


class Server:
    """`wyoming-faster-whisper` on this machine, in a process of its own, for the length of a `with`.

    Args:
        model_dir: the published files of a model, as on our side.
        language: of all recordings.
        threads: `--cpu-threads`.
        beam: `--beam-size`; 1 is greedy.
        compute_type: as on our side.

    Raises:
        UsageError: it is not installed.
        EngineError: it does not start.
    """

    def __init__(self, model_dir: Path, *, language: str, threads: int, beam: int, compute_type: str) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        program = shutil.which(PROGRAM, path=path)
        if program is None:
            raise UsageError(f"the comparison needs {PROGRAM}, which is not installed", remedy=_REMEDY)
        self._directory = tempfile.TemporaryDirectory(prefix="edge-agent-wyoming-")
        self._log = Path(self._directory.name) / "log"
        self.url = f"tcp://127.0.0.1:{_free_port()}"
        options: Mapping[str, object] = {
            "uri": self.url,
            "model": model_dir,
            "data-dir": self._directory.name,
            "stt-library": "faster-whisper",
            "language": language,
            "cpu-threads": threads,
            "beam-size": beam,
            "compute-type": compute_type,
        }
        self._command = [program, "--local-files-only"]
        self._command += [word for name, value in options.items() for word in (f"--{name}", str(value))]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(_address(self.url), timeout=1):
                return self
            time.sleep(0.1)
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        self.__exit__(None, None, None)
        raise EngineError(
            f"{PROGRAM} does not start: {said[-1][:200] if said else 'it says nothing'}", remedy=_REMEDY
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=5)
        self._directory.cleanup()

    def close(self) -> None:
        """Without having been started."""
        self._directory.cleanup()

    def cpu_s(self) -> float:
        """Seconds of CPU it has used so far."""
        fields = (
            Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        )
        return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))

    def rss_mb(self) -> float:
        """Memory it holds now."""
        return rss_bytes(self._process.pid) / 1e6


def transcribe(url: str, pcm: PcmFloat, language: str) -> Answer:
    """Speak float32[samples] at 16 kHz to a server at the speed of sound, and wait for the words.

    Raises:
        EngineError: no connection, or no transcript in time.
    """
    try:
        with (
            socket.create_connection(_address(url), timeout=_ANSWER_S) as link,
            link.makefile("rb") as answers,
        ):
            return _converse(link, answers, pcm, language)
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"the server at {url} gave no transcript: {error}", remedy=_REMEDY) from error


def _converse(link: socket.socket, answers: BinaryIO, pcm: PcmFloat, language: str) -> Answer:
    heard: list[tuple[float, str, str]] = []
    failed: list[Exception] = []

    def listen() -> None:
        try:
            while not heard or heard[-1][1] != "transcript":
                kind, data = _read(answers)
                heard.append((time.monotonic(), kind, str(data.get("text", ""))))
        except (OSError, ValueError, KeyError) as error:
            failed.append(error)

    listener = threading.Thread(target=listen, name="wyoming", daemon=True)
    link.sendall(_event("transcribe", {"language": language}) + _event("audio-start", _FORMAT))
    listener.start()
    began = time.monotonic()
    sound = (np.clip(pcm, -1, 1) * 32767).astype("<i2")
    for first in range(0, len(sound), _CHUNK_SAMPLES):
        chunk = sound[first : first + _CHUNK_SAMPLES]
        time.sleep(max(0.0, began + (first + len(chunk)) / SAMPLE_RATE_HZ - time.monotonic()))
        link.sendall(_event("audio-chunk", _FORMAT, chunk.tobytes()))
    stopped = time.monotonic()
    link.sendall(_event("audio-stop", {}))
    listener.join(_ANSWER_S)
    if failed:
        raise failed[0]
    words = [one for one in heard if one[1] in {"transcript", "transcript-chunk"}]
    if not words or words[-1][1] != "transcript":
        raise ValueError(f"nothing came within {_ANSWER_S:.0f} s")
    at, _, text = words[-1]
    first_at = words[0][0] if words[0][1] == "transcript-chunk" else None
    return Answer(
        text=" ".join(text.split()),
        final_ms=1e3 * (at - stopped),
        first_ms=None if first_at is None else 1e3 * (first_at - began),
    )


def _event(kind: str, data: Mapping[str, object], payload: bytes = b"") -> bytes:
    body = json.dumps(data).encode()
    header = {"type": kind, "data_length": len(body), "payload_length": len(payload)}
    return json.dumps(header).encode() + b"\n" + body + payload


def _read(stream: BinaryIO) -> tuple[str, dict[str, Any]]:
    """Type and data of the next event.

    Raises:
        ValueError: the connection ended, or no event came.
    """
    line = stream.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise ValueError("the connection ended")
    header = json.loads(line)
    data = header.get("data") or {}
    length, payload = int(header.get("data_length") or 0), int(header.get("payload_length") or 0)
    if not 0 <= length <= _LONGEST_LINE or not 0 <= payload <= _LONGEST_LINE:
        raise ValueError("an event is too long")
    if length:
        data |= json.loads(stream.read(length))
    stream.read(payload)
    return str(header["type"]), data


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.scheme != "tcp":
        raise UsageError(f'"{url}" is no address of a Wyoming server', remedy="use tcp://HOST:PORT")
    return host, port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
