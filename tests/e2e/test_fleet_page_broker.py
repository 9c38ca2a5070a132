"""The broker we ship a configuration for, as browsers reach it: websockets, TLS, passwords, read only."""

from __future__ import annotations

import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.mqtt.private_broker import _answers, _free_port
from tests.broker import wait_until
from tests.e2e.test_fleet_broker import Client, FleetBroker, make_certs

NOT_AUTHORISED = 135


class PageBroker(FleetBroker):
    """The shipped files with their block for browsers uncommented, as the README says."""

    def __init__(self, certificates: Path, folder: Path, *, kiosk: bool = False) -> None:
        super().__init__(certificates, folder)
        self.web_port = _free_port()
        logins = certificates / "viewers"
        logins.touch(0o600)
        for name in ("viewer-lobby", "operator-anna", "stranger"):
            subprocess.run(
                ["mosquitto_passwd", "-b", str(logins), name, f"{name}!"], check=True, capture_output=True
            )
        config, acl = folder / "mosquitto.conf", certificates / "acl"
        if kiosk:
            text = uncommented(config.read_text(), "#listener 8884", "# Kiosks without")
            text = re.sub(
                r"^#(require_certificate|use_identity_as_username)", r"\1", text, flags=re.MULTILINE
            )
        else:
            text = uncommented(config.read_text(), "#password_file", "# Kiosks without")
        config.write_text(text.replace("listener 8884", f"listener {self.web_port}"))
        acl.write_text(uncommented(acl.read_text(), "#user viewer-lobby", "# For the bridges"))


def uncommented(text: str, begin: str, end: str) -> str:
    """The lines from `begin` to before `end` without their first character."""
    first, last = text.index(begin), text.index(end)
    return text[:first] + re.sub(r"^#", "", text[first:last], flags=re.MULTILINE) + text[last:]


class Browser(Client):
    """Somebody with a password, or a certificate instead, over websockets."""

    def __init__(self, broker: PageBroker, name: str, password: str | None) -> None:
        self.heard, self.refused, self.granted = [], {}, []
        self.connected, self.gone = threading.Event(), threading.Event()
        self.said: list[int] = []
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id="dev",
            protocol=paho.MQTTv5,
            transport="websockets",
            reconnect_on_failure=False,
        )
        context = ssl.create_default_context(cafile=str(broker.certificates / "ca.crt"))
        if password is None:
            context.load_cert_chain(broker.certificates / f"{name}.crt", broker.certificates / f"{name}.key")
        else:
            client.username_pw_set(name, password)
        client.tls_set_context(context)
        client.on_connect = self._on_connect
        client.on_publish = lambda _c, _u, mid, reason, _p: self.refused.update({mid: reason.value})
        client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.granted.append(reasons[0].value)
        client.on_message = lambda _c, _u, m: self.heard.append(m.topic)
        client.connect("localhost", broker.web_port)
        client.loop_start()
        self.client = client

    def _on_connect(
        self, _client: object, _data: object, _flags: object, reason: object, _more: object
    ) -> None:
        self.said.append(reason.value)
        if not reason.is_failure:
            self.connected.set()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certs(folder, "localhost,127.0.0.1", "dev", "fleet", "viewer-lobby")
    return folder


@pytest.fixture(scope="module")
def broker(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageBroker]:
    made = PageBroker(certificates, tmp_path_factory.mktemp("broker"))
    made.start()
    wait_until(lambda: _answers(made.web_port), 10, "the listener for browsers")
    yield made
    made.end()


def test_a_viewer_sees_every_device_and_may_tell_none_anything(broker: PageBroker) -> None:
    """Reads what devices say; neither commands them nor speaks for them."""
    with Browser(broker, "viewer-lobby", "viewer-lobby!") as viewer, Client(broker, "dev") as device:
        viewer.subscribe("edge/+/up/#")
        assert device.publish("edge/dev/up/status", b"{}") == 0
        wait_until(lambda: viewer.heard == ["edge/dev/up/status"], 10)
        for topic in ("edge/dev/down/command", "edge/dev/down/config", "edge/dev/up/status", "elsewhere"):
            assert viewer.publish(topic) == NOT_AUTHORISED, topic


def test_an_operator_may_command_but_not_configure(broker: PageBroker) -> None:
    """The buttons of the page, nothing more."""
    with Client(broker, "dev") as device, Browser(broker, "operator-anna", "operator-anna!") as operator:
        device.subscribe("edge/dev/down/#")
        assert operator.publish("edge/dev/down/command") == 0
        wait_until(lambda: [heard.topic for heard in device.heard] == ["edge/dev/down/command"], 10)
        assert operator.publish("edge/dev/down/config") == NOT_AUTHORISED


def test_a_login_without_permissions_hears_nothing(broker: PageBroker) -> None:
    """A password alone opens no topic."""
    with Browser(broker, "stranger", "stranger!") as stranger, Client(broker, "dev") as device:
        stranger.subscribe("edge/+/up/#")
        device.publish("edge/dev/up/status", b"{}")
        with Browser(broker, "viewer-lobby", "viewer-lobby!") as viewer:
            viewer.subscribe("edge/+/up/#")
            device.publish("edge/dev/up/status", b"{}")
            wait_until(lambda: viewer.heard, 10)
        assert stranger.heard == []


@pytest.mark.parametrize(
    ("name", "password"), [("viewer-lobby", "wrong"), ("nobody", "x"), ("dev", ""), ("fleet", "")]
)
def test_nobody_comes_in_without_a_password(broker: PageBroker, name: str, password: str) -> None:
    """Nor under a device's name, nor under the commander's, which have certificates and no password."""
    browser = Browser(broker, name, password)
    try:
        wait_until(lambda: browser.said, 10)
        assert browser.said[0] in (134, NOT_AUTHORISED)
    finally:
        browser.__exit__()


def test_a_viewer_cannot_throw_out_a_device(broker: PageBroker) -> None:
    """Its client id is its name, whatever it says."""
    with Client(broker, "dev") as device, Browser(broker, "viewer-lobby", "viewer-lobby!"):
        assert not device.gone.wait(1)
        assert device.publish("edge/dev/up/status", b"{}") in (0, 16)


def test_a_kiosk_comes_in_by_its_certificate(certificates: Path, tmp_path: Path) -> None:
    """The two last lines of the block, and no passwords: nobody else comes in."""
    kiosk = PageBroker(certificates, tmp_path, kiosk=True)
    kiosk.start()
    try:
        wait_until(lambda: _answers(kiosk.web_port), 10)
        with Browser(kiosk, "viewer-lobby", None) as viewer, Client(kiosk, "dev") as device:
            viewer.subscribe("edge/+/up/#")
            device.publish("edge/dev/up/status", b"{}")
            wait_until(lambda: viewer.heard == ["edge/dev/up/status"], 10)
            assert viewer.publish("edge/dev/down/command") == NOT_AUTHORISED
        with pytest.raises((ssl.SSLError, OSError, paho.WebsocketConnectionError)):
            Browser(kiosk, "viewer-lobby", "viewer-lobby!")
    finally:
        kiosk.end()
