"""The Wyoming client against a server that speaks the protocol and notes what it was told."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.bench import live_peer, wyoming
from edge_agent.cli import main
from edge_agent.errors import EngineError, UsageError

SOUND = np.full(4800, 0.25, np.float32)


def event(kind: str, data: dict, *, inline: bool = False) -> bytes:
    """As servers write it: data after the header, or, by old ones, in it."""
    if inline:
        return json.dumps({"type": kind, "data": data}).encode() + b"\n"
    body = json.dumps(data).encode()
    return json.dumps({"type": kind, "data_length": len(body)}).encode() + b"\n" + body


class Server:
    """One connection at a time; answers with `answers` once the sound has ended."""

    def __init__(self, *answers: bytes, before: bytes = b"", after_s: float = 0.0) -> None:
        self.answers, self.before, self.after_s = answers, before, after_s
        self.events: list[tuple[str, dict]] = []
        self.sound = b""
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        while not self._closing:
            try:
                link, _ = self._listener.accept()
            except TimeoutError:
                continue
            with link, link.makefile("rb") as stream:
                for line in stream:
                    header = json.loads(line)
                    data = json.loads(stream.read(header["data_length"]))
                    self.sound += stream.read(header["payload_length"])
                    self.events.append((header["type"], data))
                    if header["type"] == "audio-start":
                        link.sendall(self.before)
                    if header["type"] == "audio-stop":
                        time.sleep(self.after_s)
                        link.sendall(b"".join(self.answers))
                        break


@pytest.fixture
def server() -> Iterator[Server]:
    """Answers after a tenth of a second."""
    made = Server(event("transcript", {"text": " Turn on  the crane. "}), after_s=0.1)
    yield made
    made.close()


def test_sound_goes_out_at_its_own_speed_and_words_come_back(server: Server) -> None:
    """0.3 s of sound take 0.3 s; the delay is counted from the stop."""
    began = time.monotonic()
    answer = wyoming.transcribe(server.url, SOUND, "en")
    assert time.monotonic() - began > 0.39
    assert answer.text == "Turn on the crane."
    assert 100 <= answer.final_ms < 5000
    assert answer.first_ms is None
    kinds = [kind for kind, _ in server.events]
    assert kinds == ["transcribe", "audio-start", *["audio-chunk"] * 5, "audio-stop"]
    assert server.events[0][1] == {"language": "en"}
    assert server.events[2][1] == {"rate": 16000, "width": 2, "channels": 1}
    assert len(server.sound) == 2 * len(SOUND)


def test_a_streaming_server_has_first_words() -> None:
    """`transcript-chunk` before the transcript; events inline, as old servers write them."""
    server = Server(
        event("transcript", {"text": "Turn on."}, inline=True),
        before=event("transcript-chunk", {"text": "Turn"}, inline=True),
    )
    answer = wyoming.transcribe(server.url, SOUND, "en")
    server.close()
    assert answer.text == "Turn on."
    assert answer.first_ms is not None
    assert answer.first_ms < 300


@pytest.mark.parametrize("answers", [(), (b"not JSON\n",), (b'{"type": "transcript", "data_length": -1}\n',)])
def test_a_server_that_says_nothing_of_use_is_an_error(answers: tuple[bytes, ...]) -> None:
    """One line with the address."""
    server = Server(*answers)
    with pytest.raises(EngineError, match="gave no transcript"):
        wyoming.transcribe(server.url, SOUND[:1024], "en")
    server.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:80", "tcp://nowhere", "tcp://host:port", "10300"])
def test_a_wrong_address_is_refused(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(UsageError, match="no address"):
        wyoming.transcribe(url, SOUND, "en")


def test_a_peer_is_measured_from_the_end_of_the_silence(server: Server) -> None:
    """Its sound ends `silence_ms` after the last word; loading is not counted."""
    calls = iter([10.0, 12.5])
    figures = live_peer.measure(
        "some peer",
        [(Path("a.flac"), SOUND), (Path("b.flac"), SOUND)],
        lambda sound: wyoming.transcribe(server.url, sound, "en"),
        silence_ms=64,
        cpu_s=lambda: next(calls),
    )
    told = live_peer.summary(figures)
    assert len(server.sound) == 3 * 2 * (len(SOUND) + 1024)
    assert told["utterances"] == 2
    assert told["final_beyond_silence_p50_ms"] >= 100
    assert told["cpu_s_per_speech_s"] == pytest.approx(2.5 / 0.6, abs=0.01)
    assert told["rss_mb"] is None


def test_a_missing_server_is_named_with_the_way_to_install_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is played; and measured live only."""
    monkeypatch.setattr("shutil.which", lambda *_args, **_more: None)
    assert main(["bench", "latency", "--live", "--against", "wyoming", "-q"]) == 2
    error = capsys.readouterr().err
    assert "pip install wyoming-faster-whisper" in error
    assert "--peer-url" in error
    assert main(["bench", "latency", "--against", "wyoming"]) == 2
    assert "add --live" in capsys.readouterr().err
