"""Messages in the documents are those that the program prints: each is provoked, by fault or by rule."""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent import cli
from edge_agent.clock import SystemClock
from edge_agent.health import checks, deep, ladder
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.outbox.rows import OutboxStats
from edge_agent.outbox.store import Outbox
from edge_agent.supervise import Death, plan_start
from tests.alsa.room import Room
from tests.broker import wait_until
from tests.docs.pages import REPOSITORY, path
from tests.e2e.test_courier import courier, final

SAMPLE = str(REPOSITORY / "edge_agent/samples/find_a_way_out.flac")
PAGE = path("provisioning/docs/troubleshooting", "en")
Say = Callable[..., str]
"""Runs a verb in this process and answers what it said on stderr and stdout."""


def messages(page: Path) -> list[str]:
    """The messages that a page explains: the first cells of its tables that are code with words in it."""
    rows = re.findall(r"^\| `([^`]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [row for row in rows if " " in row]


def pattern(message: str) -> re.Pattern[str]:
    """A message as a pattern; "…" is anything on the same line."""
    return re.compile(".+".join(re.escape(part.strip("…")) for part in re.split("…", message)))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Iterator[Say]:
    """The command in this process: the same code without half a second of start each time."""

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str) -> str:
        try:
            cli.main(arguments)
        except SystemExit as ended:
            print(ended)
        told = capsys.readouterr()
        return told.err + told.out

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def wrong(*settings: str) -> Callable[[Say], str]:
    """`edge-agent run` with settings that cannot work."""
    parts = [part for setting in settings for part in ("--set", setting)]
    return lambda say: say("run", *parts)


def stats(**other: object) -> OutboxStats:
    """An outbox that is well but for what is told."""
    well: dict = {
        "queued": 0, "delivered": 0, "set_aside": 0, "in_memory": 0, "oldest_queued_age_s": 0.0,
        "size_bytes": 0, "dropped_over_quota": 0, "last_seq": 0, "state": "durable", "fault": "",
        "corrupt_files": 0,
    }  # fmt: skip
    return OutboxStats(**{**well, **other})


def foreign_profile() -> str:
    """One for another architecture than this machine's."""
    return "sbc" if platform.machine() == "x86_64" else "cpu-avx2"


def small_machine(say: Say, tmp_path: Path) -> str:
    place = tmp_path
    (place / "proc").mkdir()
    (place / "proc/cpuinfo").write_text("processor\t: 0\nFeatures\t: half thumb vfp\nCPU part\t: 0xb76\n")
    (place / "proc/meminfo").write_text("MemTotal: 443080 kB\nMemAvailable: 300000 kB\n")
    return say("detect", "--root", str(place))


def written(place: Path, text: str) -> str:
    (place / "agent.toml").write_text(text, encoding="utf-8")
    return str(place / "agent.toml")


def locked(say: Say) -> str:
    state = Path(os.environ["EDGE_AGENT_STATE"])
    state.mkdir(parents=True)
    with (state / "agent.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return say("run", "--set", f"audio.source=file:{SAMPLE}")


def without_models(say: Say, monkeypatch: pytest.MonkeyPatch, place: Path, *arguments: str) -> str:
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(place / "none"))
    return say(*arguments)


def crashed() -> str:
    deaths = tuple(Death(at_ns=second * 10**9, cause="killed", in_engine=True) for second in range(5))
    return plan_start(deaths, 6 * 10**9).reason


def overloaded() -> str:
    """The ladder of load steps after seconds in which finals come late."""
    steps = ladder.Ladder()
    for second in range(60):
        steps.update(ladder.Load(queued_s=100.0, busy_share=1.0, mean_share=1.0), second * 10**9)
        if steps.step != "full":
            return steps.reason
    return ""


STARTS: dict[str, Callable[..., str]] = {
    "the model … is not in …": lambda say, monkeypatch, tmp_path: without_models(
        say, monkeypatch, tmp_path, "run", "--set", f"audio.source=file:{SAMPLE}"
    ),
    "… could not be fetched": lambda say, monkeypatch, tmp_path: without_models(
        say, monkeypatch, tmp_path, "models", "pull", "whisper-tiny.en", "--source", "http://127.0.0.1:1/"
    ),
    "another edge-agent already runs on …": locked,
    "no profile fits this machine": small_machine,
    "profile … cannot run here: …": wrong(f"recognition.profile={foreign_profile()}"),
    'there is no profile "…"': wrong("recognition.profile=cpu-avx3"),
    "…: unknown key …": lambda say, tmp_path: say("run", "--config", written(tmp_path, "[mqtt]\nurll = 1")),
    "… is not valid TOML: …": lambda say, tmp_path: say("run", "--config", written(tmp_path, "[mqtt\n")),
    "…: Expected …": wrong("endpoint.silence_ms=9"),
    '"…" is not a language tag': wrong("recognition.language=english"),
    "…: audio.use_channels: … is beyond channels = …": wrong("audio.use_channels=[1]"),
    "endpoint.probe_ms: … is longer than endpoint.silence_ms = …": wrong(
        "endpoint.probe_ms=700", "endpoint.silence_ms=600"
    ),
    'mqtt.url "…" is not a broker address': wrong("mqtt.url=http://x"),
    "mqtt.url holds a user name or password": wrong("mqtt.url=mqtt://u:p@x"),
    "mqtt.password_file … cannot be read": wrong("mqtt.username=u", "mqtt.password_file=/nowhere/pw"),
}
RULES: dict[str, Callable[..., str]] = {
    'microphone "…" is not there': lambda say: say("devices", "--meter", "--device", "nowhere"),
    "peak … dBFS, mean … dBFS: it clips": lambda: deep.level(0.0, -20.0).detail,
    "peak … dBFS, mean … dBFS: hardly any signal": lambda: deep.level(-60.0, -75.0).detail,
    "… overruns and … losses of the device in … h": lambda: deep.capture(99, 9, 2.0).detail,
    "p95 … ms of the … ms that the profile promises": lambda: deep.latency(2000, 1500, 9).detail,
    "partials come more rarely": overloaded,
    "ended … times within … s, last: …": crashed,
    "… cannot be decoded": lambda say: say("transcribe", str(REPOSITORY / "LICENSE")),
    "… waiting, the oldest for … s": lambda: checks.outbox(3, 900.0, "ok").detail,
    "kept in memory only, …": lambda: stats(state="memory", fault="the disk is full").trouble,
    "the disk is full, the space held back for that is in use": lambda: stats(reserve_held=False).trouble,
    "the store is not readable: …": lambda: checks.outbox(0, 0.0, "not readable: no permission").detail,
    "… MB free under …": lambda: checks.disk(1 << 20, "/var/lib").detail,
    "not synchronised; transcripts say clock_synced = false": lambda: (
        deep.clock(synced=False, behind_s=0, ahead_s=None).detail
    ),
    "… °C, throttles from … °C": lambda: deep.heat(90.0, 85.0, 1).detail,
    "the agent is not running": lambda: checks.agent(None, 0).detail,
    "the agent (process …) last reported … s ago": lambda: (
        checks.agent(checks.AgentReport(written_utc_ms=0, pid=7, state="online"), 999_000).detail
    ),
}
WRITTEN = {
    "microphone: open but exactly silent; is it muted?": "edge_agent/app.py",
    "the broker refused the subscription to …": "edge_agent/mqtt/client.py",
    "recognition is behind": "edge_agent/app.py",
    "recognition failed: …": "edge_agent/spare.py",
    "channel … is to be used, but the device gives … channel(s)": "edge_agent/audio/cutter.py",
}
"""Those whose fault takes half a minute or another broker to show: looked up where they are written. The
faults are in tests/unit/test_spare.py, tests/e2e/test_overload.py and tests/e2e/test_never_deaf.py."""
ROOM = {
    "no microphone was found",
    'microphone "…" is held by another program',
    "open, but exactly silent for … s",
}
BROKER = {
    "no connection to the broker at …",
    "the broker at … refused the connection: Not authorized",
    "the certificate of the broker at … is not trusted: …",
    "no TLS with the broker at …",
    "the broker at … closed the TLS connection before it answered",
    "no MQTT session with the broker at …",
    "the broker refused a message on …: Not authorized",
}
SLOW = {'… does not know the language "…"'}


def test_every_message_of_the_pages_is_provoked_here() -> None:
    """Neither a message without a test here nor a test without its message; the same order in Chinese."""
    told = messages(PAGE)
    assert len(told) == len(set(told))
    assert set(told) == {*STARTS, *RULES, *WRITTEN, *ROOM, *BROKER, *SLOW}
    assert messages(path("provisioning/docs/troubleshooting", "zh")) == told


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_readmes_messages_are_among_them(language: str) -> None:
    """The README quotes the beginnings of some."""
    quoted = messages(path("README", "zh" if language == "zh" else "en"))
    assert len(quoted) >= 5
    for message in quoted:
        assert any(pattern(known).search(f"x: {message} x") for known in messages(PAGE)), message


@pytest.mark.parametrize("message", [*STARTS, *RULES])
def test_provoked(message: str, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault, or the facts that the rule judges, bring exactly these words."""
    provoke = {**STARTS, **RULES}[message]
    given = {"say": say, "tmp_path": tmp_path, "monkeypatch": monkeypatch}
    names = provoke.__code__.co_varnames[: provoke.__code__.co_argcount]
    said = provoke(**{name: given[name] for name in names})
    assert pattern(message).search(said), said


@pytest.mark.parametrize("message", WRITTEN)
def test_written(message: str) -> None:
    """The text stands in that module, with fields where the page has dots."""
    source = (REPOSITORY / WRITTEN[message]).read_text(encoding="utf-8")
    fields = r"\{.+\}".join(re.escape(part) for part in re.split("…$|…", message) if part)
    assert re.search(rf'"[^"\n]*{fields}[^"\n]*"', source)


def command(*arguments: str, **environment: str) -> str:
    """A process of its own; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        check=False,
    )
    assert done.returncode, "it is no fault"
    return done.stderr + done.stdout


def test_no_microphone(tmp_path: Path) -> None:
    """A sound system without a device."""
    (tmp_path / "asound.conf").write_text("")
    said = command("devices", ALSA_CONFIG_PATH=str(tmp_path / "asound.conf"))
    assert pattern("no microphone was found").search(said), said


def test_a_microphone_that_is_busy_and_one_that_is_muted(tmp_path: Path) -> None:
    """A device that another program holds, then one that gives zeros."""
    room = Room(tmp_path / "room", np.zeros(16_000 * 30, np.float32))
    room.fault("busy")
    said = command("devices", "--meter", "--device", "mic", "--seconds", "1", **room.environment)
    assert pattern('microphone "…" is held by another program').search(said), said
    room.fault()
    said = command("health", "--set", "audio.source=alsa:mic", **room.environment)
    assert pattern("open, but exactly silent for … s").search(said), said


def accept_and(server: socket.socket, send: bytes) -> None:
    """One connection: what is no broker says something else, or nothing."""
    with server.accept()[0] as connection:
        connection.sendall(send)


def listen(say: Say, url: str, *options: str) -> str:
    return say("listen", "--url", url, *options)


def test_brokers_that_refuse(say: Say, tmp_path: Path) -> None:
    """Nobody there, no login, no permission, something else behind the port."""
    assert pattern("no connection to the broker at …").search(listen(say, "mqtt://127.0.0.1:1"))
    with PrivateBroker(anonymous=False) as broker:
        said = listen(say, broker.url)
        assert pattern("the broker at … refused the connection: Not authorized").search(said), said
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = threading.Thread(target=accept_and, args=(server, b"HTTP/1.0 400 Bad Request\r\n\r\n"))
        answer.start()
        said = listen(say, f"mqtts://127.0.0.1:{server.getsockname()[1]}")
        answer.join(5)
        assert pattern("no TLS with the broker at …").search(said), said
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = threading.Thread(target=accept_and, args=(server, b""))
        answer.start()
        said = listen(say, f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        answer.join(5)
        assert pattern("no MQTT session with the broker at …").search(said), said


def test_a_broker_that_takes_no_message(tmp_path: Path) -> None:
    """Its permissions let the device read only."""
    acl = tmp_path / "acl"
    acl.write_text("topic read edge/#\n")
    outbox = Outbox(tmp_path / "outbox.sqlite3", clock=SystemClock())
    with PrivateBroker(config=(f"acl_file {acl}",)) as broker, courier(broker.url, outbox) as made:
        final(outbox)
        made.notify()
        told = pattern("the broker refused a message on …: Not authorized")
        wait_until(lambda: told.search(made.statistics().reason), 10, "told")
    outbox.close()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Those that the script for a trial fleet makes."""
    script = REPOSITORY / "provisioning/mosquitto/make-certs.sh"
    subprocess.run(
        [str(script), str(tmp_path / "fleet"), "localhost,127.0.0.1", "reader"],
        capture_output=True,
        check=True,
    )
    return tmp_path / "fleet"


def test_certificates_that_do_not_fit(say: Say, certificates: Path) -> None:
    """A CA that we were not told of; a broker that asks for a certificate of ours."""
    listener = [f"{name} {certificates / file}" for name, file in (
        ("cafile", "ca.crt"), ("certfile", "server.crt"), ("keyfile", "server.key"),
    )]  # fmt: skip
    with PrivateBroker(listener=[*listener, "require_certificate true"]) as broker:
        url = broker.url.replace("mqtt:", "mqtts:")
        said = listen(say, url)
        assert pattern("the certificate of the broker at … is not trusted: …").search(said), said
        said = listen(say, url, "--ca-file", str(certificates / "ca.crt"))
        told = pattern("the broker at … closed the TLS connection before it answered").search(said)
        assert told or "refused our certificate" in said, said


def test_a_language_nobody_speaks() -> None:
    """Asked of the real model."""
    said = command("transcribe", "--language", "xx", SAMPLE)
    assert pattern('… does not know the language "…"').search(said), said
