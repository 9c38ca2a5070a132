"""The verbs `listen` and `outbox`, as their users run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.publish as publish
import pytest

from edge_agent.clock import SystemClock
from edge_agent.mqtt import wire
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.outbox.store import Outbox
from tests.broker import wait_until

COMMAND = [sys.executable, "-m", "edge_agent"]
STATUS = wire.encode_status(state="online", since_utc_ms=0, reasons=["cold"], boot_id="b").decode()
GAP = wire.encode_gap(seq=1, id="g", start_utc_ms=0, duration_ms=120, cause="xrun").decode()
FINAL = json.dumps(
    {"text": "turn on the crane", "start": "2026-11-20T13:00:00.120Z", "latency_ms": {"total": 493}}
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)


def send(broker: PrivateBroker, topic: str, payload: str, *, retain: bool = False) -> None:
    """Publish as a device would."""
    publish.single(topic, payload, qos=1, retain=retain, hostname="127.0.0.1", port=broker.port)


class Listening:
    """A running `edge-agent listen` and what it printed so far."""

    def __init__(self, broker: PrivateBroker, folder: Path, *options: str) -> None:
        self._out, self._err = (folder / "out").open("w+"), (folder / "err").open("w+")
        self.process = subprocess.Popen(
            [*COMMAND, "listen", "--url", broker.url, *options], stdout=self._out, stderr=self._err
        )
        send(broker, "edge/ready/up/status", STATUS, retain=True)
        wait_until(lambda: self.lines, 15, "the retained status arrives")

    @property
    def lines(self) -> list[str]:
        return Path(self._out.name).read_text().splitlines()

    @property
    def errors(self) -> str:
        return Path(self._err.name).read_text()

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._out.close()
        self._err.close()


@pytest.fixture
def listening(broker: PrivateBroker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Listening]:
    """A listener started with the test's options."""
    made = Listening(broker, tmp_path, *getattr(request, "param", ()))
    yield made
    made.close()


def test_plain_lines_for_people(broker: PrivateBroker, listening: Listening) -> None:
    """Presence, finals and gaps, a line each; partials only on a terminal; Ctrl-C is a normal end."""
    send(broker, "edge/dev/up/transcript/partial", FINAL)
    send(broker, "edge/dev/up/transcript/final", FINAL)
    send(broker, "edge/dev/up/gap", GAP)
    wait_until(lambda: len(listening.lines) == 3)
    assert listening.lines == [
        "00:00:00 ready is online: cold",
        "13:00:00 dev: turn on the crane (493 ms)",
        "00:00:00 dev: [gap of 120 ms: xrun]",
    ]
    assert listening.end() == 0
    assert listening.errors == ""


@pytest.mark.parametrize("listening", [("--json", "--validate")], indirect=True)
def test_json_lines_and_validation(broker: PrivateBroker, listening: Listening) -> None:
    """One object per message; what does not fit its schema is named and makes the exit code 1."""
    send(broker, "edge/dev/up/gap", GAP)
    send(broker, "edge/dev/up/gap", '{"schema": "gap/1"}')
    send(broker, "edge/dev/up/gap", "no json")
    wait_until(lambda: len(listening.lines) == 4)
    assert [json.loads(line) for line in listening.lines[1:3]] == [
        {"topic": "edge/dev/up/gap", "payload": json.loads(GAP)},
        {"topic": "edge/dev/up/gap", "payload": {"schema": "gap/1"}},
    ]
    assert listening.end(signal.SIGTERM) == 1
    assert listening.errors.count("edge/dev/up/gap: ") == 2
    assert "'seq' is a required property" in listening.errors


@pytest.mark.parametrize("listening", [("--raw", "--device", "ready")], indirect=True)
def test_raw_lines_of_one_device(broker: PrivateBroker, listening: Listening) -> None:
    """Topic and payload as they came; other devices stay out; a broker restart is survived."""
    send(broker, "edge/other/up/gap", GAP)
    broker.restart()
    wait_until(lambda: "connecting again" in listening.errors, 5)
    wait_until(lambda: len(listening.lines) == 2, 10, "the retained status again after the reconnect")
    assert set(listening.lines) == {f"edge/ready/up/status {STATUS}"}


class TestNoBroker:
    """One line, exit code 69 or 78, no traceback."""

    @pytest.mark.parametrize(
        ("options", "code", "said"),
        [
            (["--url", "mqtt://127.0.0.1:1"], 69, "no connection to the broker at mqtt://127.0.0.1:1"),
            (["--url", "mqtt://no-such-host.invalid"], 69, "no connection to the broker"),
            (["--url", "http://127.0.0.1"], 78, "mqtt.url"),
            (["--url", "mqtts://127.0.0.1:1", "--ca-file", "/nowhere"], 78, "mqtt.ca_file /nowhere"),
            (["--prefix", "a/#"], 78, "mqtt.prefix"),
        ],
    )
    def test_it_says_why_in_one_line(self, options: list[str], code: int, said: str) -> None:
        """Cause and next step."""
        done = run("listen", *options)
        assert done.returncode == code
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1

    def test_a_refused_login_is_named(self, tmp_path: Path) -> None:
        """Not authorized, and where to look."""
        theirs = tmp_path / "passwords"
        subprocess.run(["mosquitto_passwd", "-c", "-b", str(theirs), "me", "right"], check=True)
        with PrivateBroker(config=[f"password_file {theirs}"], anonymous=False) as broker:
            done = run("listen", "--url", broker.url, "--username", "me")
        assert done.returncode == 69
        assert "refused the connection: Not authorized; check mqtt.username" in done.stderr


class TestOutboxVerb:
    """Look, replay, purge, beside a running agent."""

    def test_no_outbox_yet(self) -> None:
        """A clear line, not an error."""
        done = run("outbox", "status")
        assert (done.returncode, done.stdout) == (0, "")
        assert "no outbox yet" in done.stderr
        assert json.loads(run("outbox", "status", "--json").stdout)["exists"] is False

    def test_status_replay_and_purge_while_it_is_in_use(self) -> None:
        """The owner keeps the file open and sees what the verb did."""
        outbox = Outbox(Path(os.environ["EDGE_AGENT_STATE"]) / "outbox.sqlite3", clock=SystemClock())
        for name in "abc":
            outbox.append(id=name, kind="final", make_payload=lambda _: b"{}")
        outbox.mark_many([(1, 0), (2, 0)])
        facts = json.loads(run("outbox", "status", "--json").stdout)
        assert (facts["queued"], facts["delivered"], facts["last_seq"]) == (1, 2, 3)
        assert "waiting    1, the oldest for" in run("outbox", "status").stdout
        assert json.loads(run("outbox", "replay", "--from-seq", "2", "--json").stdout)["messages"] == 1
        assert outbox.stats().queued == 2
        assert run("outbox", "replay", "--since", "1h").stderr == "1 messages are queued again\n"
        outbox.mark_many([(1, 0), (2, 0)])
        assert run("outbox", "purge").stderr == "2 messages are forgotten\n"
        assert run("outbox", "purge", "--undelivered").returncode == 0
        assert outbox.stats().queued == 0
        outbox.close()

    def test_a_time_that_is_none(self) -> None:
        """Wrong usage, said in one line."""
        Outbox(Path(os.environ["EDGE_AGENT_STATE"]) / "outbox.sqlite3", clock=SystemClock()).close()
        done = run("outbox", "replay", "--since", "yesterday-ish")
        assert done.returncode == 2
        assert '--since "yesterday-ish" is no time' in done.stderr
