"""The broker we ship a configuration for: each device has its own topics and nobody else's."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.clock import SystemClock
from edge_agent.mqtt import wire
from edge_agent.mqtt.aside import Aside
from edge_agent.mqtt.private_broker import _free_port, _mosquitto
from edge_agent.mqtt.publisher import Courier
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.outbox.store import Outbox
from tests.broker import Heard, wait_until
from tests.e2e.test_courier import final

SHIPPED = Path(__file__).resolve().parents[2] / "provisioning/mosquitto"
NAMES = ("fleet", "reader", "dev", "neighbour")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What make-certs.sh makes."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certs(folder, "localhost,127.0.0.1", *NAMES)
    return folder


def make_certs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SHIPPED / "make-certs.sh"), str(folder), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


class FleetBroker:
    """mosquitto with the shipped files; only port and places are put in."""

    def __init__(self, certificates: Path, folder: Path, *, revoked: bool = False) -> None:
        self.port, self.folder, self.certificates = _free_port(), folder, certificates
        (folder / "data").mkdir()
        (certificates / "acl").write_text((SHIPPED / "acl").read_text())
        shipped = (SHIPPED / "mosquitto.conf").read_text()
        text = shipped.replace("@DIR@", str(certificates)).replace("listener 8883", f"listener {self.port}")
        text = text.replace("/var/lib/mosquitto/", f"{folder}/data/")
        if revoked:
            text = text.replace("#crlfile", "crlfile")
        if os.geteuid() == 0:
            text += "\nuser root\n"  # it gives up root otherwise and cannot read the test's files
        (folder / "mosquitto.conf").write_text(text)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [_mosquitto(), "-c", str(self.folder / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, "mosquitto does not take the shipped configuration"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait_until(answers, 30)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(5)


@pytest.fixture(scope="module")
def broker(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetBroker]:
    """One broker for this file."""
    made = FleetBroker(certificates, tmp_path_factory.mktemp("broker"))
    made.start()
    yield made
    made.end()


class Client:
    """Somebody with a certificate, or without one."""

    def __init__(
        self, broker: FleetBroker, name: str | None, client_id: str = "", *, durable: bool = False
    ) -> None:
        context = ssl.create_default_context(cafile=str(broker.certificates / "ca.crt"))
        if name is not None:
            context.load_cert_chain(broker.certificates / f"{name}.crt", broker.certificates / f"{name}.key")
        self.heard: list[Heard] = []
        self.refused: dict[int, int] = {}
        self.granted: list[int] = []
        self.connected, self.gone = threading.Event(), threading.Event()
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or f"test-{name}",
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        client.tls_set_context(context)
        client.on_connect = lambda _c, _u, _f, reason, _p: reason.is_failure or self.connected.set()
        client.on_disconnect = lambda *_: self.gone.set()
        client.on_publish = lambda _c, _u, mid, reason, _p: self.refused.update({mid: reason.value})
        client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.granted.append(reasons[0].value)
        client.on_message = lambda _c, _u, m: self.heard.append(
            Heard(m.topic, bytes(m.payload), bool(m.retain), m.qos, time.monotonic())
        )
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 0xFFFFFFFF if durable else 0
        client.connect("127.0.0.1", broker.port, clean_start=not durable, properties=session)
        client.loop_start()
        self.client = client

    def __enter__(self) -> Client:
        assert self.connected.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> int:
        """The reason code of a publish."""
        mid = self.client.publish(topic, payload, qos=1, retain=retain).mid
        wait_until(lambda: mid in self.refused, 30, f"an answer to a publish on {topic}")
        return self.refused[mid]

    def subscribe(self, topic: str) -> int:
        """The reason code of a subscription."""
        before = len(self.granted)
        self.client.subscribe(topic, qos=1)
        wait_until(lambda: len(self.granted) > before, 30)
        return self.granted[-1]


def settings(broker: FleetBroker, name: str) -> MqttSettings:
    folder = broker.certificates
    return MqttSettings(
        url=f"mqtts://localhost:{broker.port}",
        ca_file=str(folder / "ca.crt"),
        cert_file=str(folder / f"{name}.crt"),
        key_file=str(folder / f"{name}.key"),
    )


def courier_of(
    broker: FleetBroker, name: str, device: str, outbox: Outbox, aside: Aside | None = None
) -> Courier:
    return Courier(
        settings(broker, name),
        wire.Topics("edge", device),
        outbox,
        clock=SystemClock(),
        boot_id="b",
        aside=aside,
    )


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """An empty outbox."""
    made = Outbox(tmp_path / "state/outbox.sqlite3", clock=SystemClock())
    yield made
    made.close()


def test_the_scripts_keys_are_private_and_never_overwritten(certificates: Path) -> None:
    """0600, and a name that has a key is refused without touching it."""
    for name in ("ca", "server", *NAMES):
        assert stat.S_IMODE((certificates / f"{name}.key").stat().st_mode) == 0o600
    before = (certificates / "dev.key").read_bytes(), (certificates / "ca.crt").read_bytes()
    again = make_certs(certificates, "localhost", "dev")
    assert again.returncode == 2
    assert "exists" in again.stderr
    assert before == ((certificates / "dev.key").read_bytes(), (certificates / "ca.crt").read_bytes())
    for bad in ("../x", "a/b", "+", "", "ca"):
        assert make_certs(certificates, "localhost", bad).returncode == 2


def test_a_device_delivers_and_is_told_with_its_own_certificate(broker: FleetBroker, outbox: Outbox) -> None:
    """The real courier: finals and status out, a command in, over mutual TLS with the shipped permissions."""
    topics = wire.Topics("edge", "dev")
    aside = Aside((topics.command, topics.desired))
    courier = courier_of(broker, "dev", "dev", outbox, aside)
    with Client(broker, "reader") as reader, Client(broker, "fleet") as fleet:
        assert reader.subscribe("edge/+/up/#") == 1
        courier.start()
        try:
            for _ in range(5):
                final(outbox)
                courier.notify()
            wait_until(lambda: outbox.stats().delivered == 5, 30)
            wait_until(lambda: len([m for m in reader.heard if m.topic.endswith("/final")]) == 5, 30)
            assert fleet.publish("edge/dev/down/command", b"{}") == 0
            wait_until(aside.take, 30, "the command")
            assert aside.statistics().subscriptions_refused == ()
        finally:
            left = courier.stop(10.0)
        assert left
        wait_until(lambda: [m for m in reader.heard if b'"stopped"' in m.payload], 30)


def test_a_device_can_neither_write_as_another_nor_read_it(broker: FleetBroker) -> None:
    """Its certificate opens its own topics only; refusals are spoken, and what is granted brings nothing."""
    with (
        Client(broker, "dev") as dev,
        Client(broker, "neighbour") as neighbour,
        Client(broker, "fleet") as fleet,
    ):
        assert fleet.subscribe("edge/+/up/#") == 1
        for topic in (
            "edge/neighbour/up/status",
            "edge/neighbour/up/transcript/final",
            "edge/neighbour/down/command",
            "edge/neighbour/down/config",
            "edge/dev/down/command",
            "homeassistant/device/neighbour/config",
            "hermes/asr/textCaptured",
            "elsewhere",
        ):
            assert dev.publish(topic, retain=True) == 0x87, topic
        for topic in ("#", "edge/#", "edge/+/up/#", "edge/neighbour/#", "edge/+/down/#", "$SYS/#"):
            dev.subscribe(topic)
        assert neighbour.publish("edge/neighbour/up/event") in {0, 0x10}
        assert fleet.publish("edge/neighbour/down/command") in {0, 0x10}
        assert fleet.publish("edge/dev/down/command") in {0, 0x10}
        wait_until(lambda: dev.heard, 30, "its own command")
        time.sleep(0.3)
        assert {message.topic for message in dev.heard} == {"edge/dev/down/command"}
        fresh = {message.topic for message in fleet.heard if not message.retain}
        assert fresh == {"edge/neighbour/up/event"}


def test_a_courier_with_anothers_id_delivers_nothing(broker: FleetBroker, outbox: Outbox) -> None:
    """The certificate says who one is, not the configuration; the reason is named and the row kept."""
    courier = courier_of(broker, "dev", "neighbour", outbox)
    final(outbox)
    courier.start()
    try:
        wait_until(lambda: courier.statistics().denied, 30)
        assert "Not authorized" in courier.statistics().reason
        assert outbox.stats().queued == 1
    finally:
        courier.stop(1.0)


def test_a_device_cannot_throw_another_out(broker: FleetBroker) -> None:
    """Connecting with the neighbour's client id does not end the neighbour's connection."""
    with Client(broker, "neighbour", "neighbour") as neighbour, Client(broker, "dev", "neighbour"):
        assert not neighbour.gone.wait(0.5)


def test_without_a_certificate_there_is_no_way_in(broker: FleetBroker, outbox: Outbox) -> None:
    """Refused before a word of MQTT, and the courier names the reason."""
    plain = MqttSettings(url=f"mqtts://localhost:{broker.port}", ca_file=str(broker.certificates / "ca.crt"))
    courier = Courier(plain, wire.Topics("edge", "dev"), outbox, clock=SystemClock(), boot_id="b")
    courier.start()
    try:
        wait_until(lambda: "certificate" in courier.statistics().reason, 30)
        assert courier.statistics().refused
    finally:
        courier.stop(0.5)


def test_a_lost_device_is_locked_out_and_the_others_are_not(tmp_path: Path) -> None:
    """Its certificate goes on the list; a name is on it once."""
    folder = tmp_path / "certificates"
    assert make_certs(folder, "localhost,127.0.0.1", "dev", "lost").returncode == 0
    assert make_certs(folder, "revoke", "lost").returncode == 0
    assert make_certs(folder, "revoke", "lost").returncode == 2
    broker = FleetBroker(folder, tmp_path, revoked=True)
    broker.start()
    try:
        with Client(broker, "dev"):
            pass
        lost = Client(broker, "lost")
        assert lost.gone.wait(30)
        assert not lost.connected.is_set()
        lost.client.loop_stop()
    finally:
        broker.end()


def test_what_the_broker_acknowledged_survives_its_crash(broker: FleetBroker) -> None:
    """A subscriber that was away gets all of it after a kill -9 of the broker."""
    with Client(broker, "reader", durable=True) as reader:
        assert reader.subscribe("edge/dev/up/event") == 1
    with Client(broker, "dev") as dev:
        for number in range(50):
            assert dev.publish("edge/dev/up/event", b"%d" % number) == 0
    time.sleep(1.2)  # the state is saved once a second
    broker.end(signal.SIGKILL)
    broker.start()
    with Client(broker, "reader", durable=True) as back:
        wait_until(lambda: len(back.heard) >= 50, 30, "the queued messages")
    assert sorted({int(message.payload) for message in back.heard}) == list(range(50))
