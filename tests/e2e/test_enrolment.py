"""From a bare directory to `online` over mutual TLS, and out again: real CA, real broker, real agent."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.errors import FleetError, UsageError
from edge_agent.fleet import identity
from tests.broker import wait_until
from tests.e2e.agent_process import AgentProcess
from tests.e2e.test_fleet_broker import Client, FleetBroker
from tests.provisioned import PROVISIONING, load

authority, enroll = load("enroll/ca.py"), load("enroll/enroll.py")
SAMPLES = Path(__file__).resolve().parents[2] / "edge_agent/samples"


class Office:
    """The CA's directory with its service running."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.ca = authority.Authority.create(place, ["localhost", "127.0.0.1"])
        self.service = authority.Service(self.ca, "127.0.0.1")
        self.url = f"https://localhost:{self.service.server_port}"
        threading.Thread(target=self.service.serve_forever, args=(0.05,), daemon=True).start()

    def tell(self, mqtt_url: str) -> None:
        (self.place / "settings.json").write_text(f'{{"mqtt_url": "{mqtt_url}"}}')

    def names(self, name: str) -> list[dict]:
        return [one for one in self.ca.issued().values() if one["name"] == name]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path / "ca")
    yield made
    made.service.shutdown()
    made.service.server_close()


def command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The one command that a device's owner types."""
    return subprocess.run(
        [sys.executable, str(PROVISIONING / "enroll/enroll.py"), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(PROVISIONING.parent)},
    )


def online(broker: FleetBroker, name: str, certificate: Path) -> bool:
    """Whether the broker lets this certificate in."""
    import ssl

    context = ssl.create_default_context(cafile=str(broker.certificates / "ca.crt"))
    context.load_cert_chain(certificate)
    connect = b"\x10" + bytes([12 + len(name)]) + b"\x00\x04MQTT\x04\x02\x00\x3c" + bytes([0, len(name)])
    try:
        with (
            socket.create_connection(("localhost", broker.port), 10) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as secured,
        ):
            secured.sendall(connect + name.encode())
            return secured.recv(4) == b"\x20\x02\x00\x00"
    except OSError:
        return False


def test_one_command_from_nothing_to_online_and_out_again(office: Office, tmp_path: Path) -> None:
    """Token, one command, the agent is online under its name; revoked, the broker refuses it."""
    for name in ("reader",):
        subprocess.run(
            [sys.executable, str(PROVISIONING / "enroll/ca.py"), "sign", str(office.place), name],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(PROVISIONING.parent)},
        )
    (tmp_path / "broker").mkdir()
    broker = FleetBroker(office.place, tmp_path / "broker", revoked=True)
    broker.start()
    try:
        office.tell(f"mqtts://localhost:{broker.port}")
        etc = tmp_path / "etc"
        done = command(office.url, "-", "--etc", str(etc), stdin=f"{office.ca.token('kiosk-1')}\n")
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE((etc / "device.pem").stat().st_mode) == 0o600
        config = tomllib.loads((etc / "agent.toml").read_text())
        assert config["device"]["id"] == "kiosk-1"
        sound = f'audio.source="file:{SAMPLES / "find_a_way_out.flac"}?loop=1"'
        agent = AgentProcess(tmp_path / "state", sound, EDGE_AGENT_CONFIG=str(etc / "agent.toml"))
        with agent, Client(broker, "reader") as reader:
            reader.subscribe("edge/kiosk-1/up/status")
            wait_until(lambda: any(h.body["state"] == "online" for h in reader.heard), 60, agent.log)
            agent.terminate(20)
        assert online(broker, "kiosk-1", etc / "device.pem")
        assert office.ca.revoke("kiosk-1") == 1
        broker.end()
        broker.start()
        assert not online(broker, "kiosk-1", etc / "device.pem")
        assert command(office.url, "--renew", "--force", "--etc", str(etc)).returncode == 1
        again = command(office.url, str(office.ca.token("kiosk-1")), "--force", "--etc", str(etc))
        assert again.returncode == 0, again.stderr
        assert online(broker, "kiosk-1", etc / "device.pem")
    finally:
        broker.end()


def test_a_token_is_good_once_for_one_name_and_an_hour(office: Office, tmp_path: Path) -> None:
    """Used, too old or invented: refused, and nothing is written."""
    token = office.ca.token("kiosk-1")
    enroll.enrol(office.url, token, tmp_path / "first")
    for bad in (
        token,
        office.ca.token("kiosk-2", minutes=-1),
        identity.Token(name="kiosk-3", secret="guess", ca_sha256=token.ca_sha256),
    ):
        with pytest.raises(FleetError, match="used, too old or not ours"):
            enroll.enrol(office.url, bad, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    assert [one["name"] for one in office.ca.issued().values()] == ["kiosk-1"]


def test_nobody_takes_another_name_with_its_token(office: Office) -> None:
    """Of the request only the key is taken; the name is the token's."""
    _, request = identity.make_request("somebody-else")
    name, made = office.ca.enrol(office.ca.token("kiosk-1").secret, request)
    assert name == "kiosk-1"
    assert identity.common_name(authority.x509.load_pem_x509_certificate(made)) == "kiosk-1"


def test_the_first_connection_believes_the_token_alone(office: Office, tmp_path: Path) -> None:
    """Another CA at that address gets no request, so nobody in between learns the secret."""
    other = Office(tmp_path / "other")
    token = identity.Token(name="kiosk-1", secret="s", ca_sha256="0" * 64)
    try:
        with pytest.raises(FleetError, match="not the CA that the token names"):
            enroll.enrol(other.url, token, tmp_path / "etc")
        mixed = office.ca.token("kiosk-1")
        with pytest.raises(FleetError, match="not the CA that the token names"):
            enroll.enrol(other.url, mixed, tmp_path / "etc")
    finally:
        other.service.shutdown()
        other.service.server_close()
    assert not (tmp_path / "etc").exists()


def test_renewal_replaces_key_and_certificate_at_once(office: Office, tmp_path: Path) -> None:
    """Only when it is time; proven by the present certificate; the key is a new one."""
    etc = tmp_path / "etc"
    enroll.enrol(office.url, office.ca.token("kiosk-1"), etc)
    before = (etc / "device.pem").read_bytes()
    assert enroll.renew(office.url, etc) is False
    assert enroll.renew(office.url, etc, force=True) is True
    after = (etc / "device.pem").read_bytes()
    assert after.split(b"-----END")[0] != before.split(b"-----END")[0]
    assert 396 < identity.days_left(etc / "device.pem") < 398
    assert len(office.names("kiosk-1")) == 2


def test_a_box_that_was_replaced_speaks_no_more(office: Office, tmp_path: Path) -> None:
    """A second enrolment under the same name revokes the first one's certificate."""
    enroll.enrol(office.url, office.ca.token("kiosk-1"), tmp_path / "old")
    enroll.enrol(office.url, office.ca.token("kiosk-1"), tmp_path / "new")
    assert [one["revoked"] is None for one in office.names("kiosk-1")] == [False, True]
    with pytest.raises(FleetError):
        enroll.renew(office.url, tmp_path / "old", force=True)
    assert enroll.renew(office.url, tmp_path / "new", force=True)


def test_a_configuration_in_use_is_kept(office: Office, tmp_path: Path) -> None:
    """The package's empty one is replaced, a person's only with --force, and then a copy stays."""
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "agent.toml").write_text("# nothing set\n[device]\n[mqtt]\n")
    enroll.enrol(office.url, office.ca.token("kiosk-1"), etc)
    with pytest.raises(UsageError, match="in use"):
        enroll.enrol(office.url, office.ca.token("kiosk-2"), etc)
    enroll.enrol(office.url, office.ca.token("kiosk-2"), etc, force=True)
    assert "kiosk-1" in (etc / "agent.toml.before").read_text()


def test_a_users_mistakes_are_one_line(office: Office, tmp_path: Path) -> None:
    """Wrong address, no token, no CA: cause and remedy, no traceback."""
    port = office.service.server_port
    token = str(office.ca.token("k"))
    for arguments in (
        (office.url,),
        (office.url, "rubbish"),
        (f"http://localhost:{port}", token),
        ("https://localhost:1", token),
        (office.url, "--renew", "--etc", str(tmp_path / "none")),
    ):
        done = command(*arguments)
        assert done.returncode in (1, 2), arguments
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1


def test_requests_that_are_none_are_refused(office: Office) -> None:
    """Rubbish, weak keys, long bodies: no certificate, and the token is kept for the right one."""
    secret = office.ca.token("kiosk-1").secret
    for rubbish in (
        b"",
        b"x" * 100,
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
    ):
        with pytest.raises(FleetError):
            office.ca.enrol(secret, rubbish)
    _, request = identity.make_request("kiosk-1")
    assert office.ca.enrol(secret, request)[0] == "kiosk-1"


def test_a_certificate_that_runs_out_says_so(tmp_path: Path, office: Office) -> None:
    """Days left are counted from the file that the agent uses."""
    enroll.enrol(office.url, office.ca.token("kiosk-1"), tmp_path)
    later = datetime.now(UTC) + timedelta(days=390)
    assert 6 < identity.days_left(tmp_path / "device.pem", later) < 8
