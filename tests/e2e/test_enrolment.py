"""From a bare directory to `online` over mutual TLS, and out again: real CA, real broker, real agent."""

from __future__ import annotations

import os
import shutil
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
from edge_agent.fleet import identity, sealed
from tests.broker import wait_until
from tests.e2e.agent_process import AgentProcess
from tests.e2e.test_fleet_broker import Client, FleetBroker
from tests.provisioned import PROVISIONING, load

authority, enroll = load("enroll/ca.py"), load("enroll/enroll.py")
Home = enroll.Home
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
    enroll.enrol(office.url, token, Home(tmp_path / "first"))
    for bad in (
        token,
        office.ca.token("kiosk-2", minutes=-1),
        identity.Token(name="kiosk-3", secret="guess", ca_sha256=token.ca_sha256),
    ):
        with pytest.raises(FleetError, match="used, too old or not ours"):
            enroll.enrol(office.url, bad, Home(tmp_path / "second"))
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
            enroll.enrol(other.url, token, Home(tmp_path / "etc"))
        mixed = office.ca.token("kiosk-1")
        with pytest.raises(FleetError, match="not the CA that the token names"):
            enroll.enrol(other.url, mixed, Home(tmp_path / "etc"))
    finally:
        other.service.shutdown()
        other.service.server_close()
    assert not (tmp_path / "etc").exists()


def test_renewal_replaces_key_and_certificate_at_once(office: Office, tmp_path: Path) -> None:
    """Only when it is time; proven by the present certificate; the key is a new one."""
    etc = tmp_path / "etc"
    enroll.enrol(office.url, office.ca.token("kiosk-1"), Home(etc))
    before = (etc / "device.pem").read_bytes()
    assert enroll.renew(office.url, Home(etc)) is False
    assert enroll.renew(office.url, Home(etc), force=True) is True
    after = (etc / "device.pem").read_bytes()
    assert after.split(b"-----END")[0] != before.split(b"-----END")[0]
    assert 396 < identity.days_left(etc / "device.pem") < 398
    assert len(office.names("kiosk-1")) == 2


def test_a_box_that_was_replaced_speaks_no_more(office: Office, tmp_path: Path) -> None:
    """A second enrolment under the same name revokes the first one's certificate."""
    enroll.enrol(office.url, office.ca.token("kiosk-1"), Home(tmp_path / "old"))
    enroll.enrol(office.url, office.ca.token("kiosk-1"), Home(tmp_path / "new"))
    assert [one["revoked"] is None for one in office.names("kiosk-1")] == [False, True]
    with pytest.raises(FleetError):
        enroll.renew(office.url, Home(tmp_path / "old"), force=True)
    assert enroll.renew(office.url, Home(tmp_path / "new"), force=True)


def test_a_configuration_in_use_is_kept(office: Office, tmp_path: Path) -> None:
    """The package's empty one is replaced, a person's only with --force, and then a copy stays."""
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "agent.toml").write_text("# nothing set\n[device]\n[mqtt]\n")
    enroll.enrol(office.url, office.ca.token("kiosk-1"), Home(etc))
    with pytest.raises(UsageError, match="in use"):
        enroll.enrol(office.url, office.ca.token("kiosk-2"), Home(etc))
    enroll.enrol(office.url, office.ca.token("kiosk-2"), Home(etc), force=True)
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
    enroll.enrol(office.url, office.ca.token("kiosk-1"), Home(tmp_path))
    later = datetime.now(UTC) + timedelta(days=390)
    assert 6 < identity.days_left(tmp_path / "device.pem", later) < 8


class Tpm:
    """A TPM in software, with a state of its own."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.port = _free_pair()
        self.device = f"swtpm:host=127.0.0.1,port={self.port}"
        self._process = subprocess.Popen(
            [
                *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={place}"),
                *("--server", f"type=tcp,port={self.port},disconnect"),
                *("--ctrl", f"type=tcp,port={self.port + 1}", "--flags", "not-need-init,startup-clear"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


def _free_pair() -> int:
    """A port whose next one is free too, as the library wants it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@pytest.fixture
def tpms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Tpm, Tpm]]:
    """This machine's and another one's."""
    programs = ("swtpm", "systemd-creds", "tpm2_flushcontext")
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} is not installed")
    both = Tpm(tmp_path / "tpm-here"), Tpm(tmp_path / "tpm-there")
    run = sealed._run

    def managed(*arguments: str, **given: bytes) -> bytes:
        """As the kernel's resource manager does: what a programme leaves open is closed behind it."""
        try:
            return run(*arguments, **given)
        finally:
            for tpm in both:
                for left in ("--loaded-session", "--transient-object"):
                    subprocess.run(
                        ["tpm2_flushcontext", "-T", tpm.device, left], capture_output=True, check=False
                    )

    monkeypatch.setattr(sealed, "_run", managed)
    yield both
    for tpm in both:
        tpm.close()


def test_a_key_sealed_by_the_tpm_is_never_on_disk(
    office: Office, tmp_path: Path, tpms: tuple[Tpm, Tpm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there is opened by this TPM and no other; the unit and agent.toml name what systemd opens."""
    here, there = tpms
    made: list[bytes] = []
    monkeypatch.setattr(enroll, "make_request", lambda name: _noted(made, name))
    home = Home(tmp_path / "etc", tmp_path / "units", here.device)
    enroll.enrol(office.url, office.ca.token("kiosk-1"), home)
    secret = sealed.unseal(home.etc / "device.cred", device=here.device)
    assert made[0] in secret
    with pytest.raises(FleetError, match="the TPM does not open the key"):
        sealed.unseal(home.etc / "device.cred", device=there.device)
    private = made[0].splitlines()[2]  # the lines before and after are the same for every key of this kind
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert private not in path.read_bytes(), f"{path} holds the key"
    mqtt = tomllib.loads((home.etc / "agent.toml").read_text())["mqtt"]
    assert mqtt["key_file"] == mqtt["cert_file"] == "/run/credentials/edge-agent.service/device.pem"
    drop_in = (tmp_path / "units/edge-agent.service.d/identity.conf").read_text()
    assert f"LoadCredentialEncrypted=device.pem:{home.etc / 'device.cred'}" in drop_in
    assert stat.S_IMODE((home.etc / "device.cred").stat().st_mode) == 0o600


def _noted(made: list[bytes], name: str) -> tuple[bytes, bytes]:
    key, request = identity.make_request(name)
    made.append(key)
    return key, request


def test_a_sealed_key_is_renewed_and_only_where_its_tpm_is(
    office: Office, tmp_path: Path, tpms: tuple[Tpm, Tpm]
) -> None:
    """The present key proves the next one; a stolen disk renews nothing."""
    here, there = tpms
    home = Home(tmp_path / "etc", tmp_path / "units", here.device)
    enroll.enrol(office.url, office.ca.token("kiosk-1"), home)
    before = sealed.unseal(home.etc / "device.cred", device=here.device)
    assert enroll.renew(office.url, home) is False
    assert enroll.renew(office.url, home, force=True) is True
    assert sealed.unseal(home.etc / "device.cred", device=here.device) != before
    with pytest.raises(FleetError, match="does not open"):
        enroll.renew(office.url, Home(home.etc, home.units, there.device), force=True)


def test_without_a_tpm_nothing_is_half_enrolled(office: Office, tmp_path: Path) -> None:
    """It says why before the token is spent; no key lies about."""
    home, token = Home(tmp_path / "etc", tmp_path / "units", "/dev/no-tpm"), office.ca.token("kiosk-1")
    with pytest.raises(FleetError, match="the TPM does not seal the key"):
        enroll.enrol(office.url, token, home)
    assert not home.etc.exists()
    enroll.enrol(office.url, token, Home(home.etc))
