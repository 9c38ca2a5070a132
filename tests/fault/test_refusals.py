"""A broker that changes its mind while the agent runs: named, waited out, healed without a restart."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.mqtt.publisher import Courier
from edge_agent.outbox.store import Outbox
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess
from tests.e2e.test_courier import CLOCK, connected, courier, final
from tests.e2e.test_run import looped, settings
from tests.fault.results import record

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

REFUSED_S = 12.0
RESUMED_S = 60.0


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    """An empty outbox on disk."""
    return Outbox(tmp_path / "outbox.sqlite3", clock=CLOCK)


def suffer(
    name: str, made: Courier, broker: PrivateBroker, outbox: Outbox, said: str, mend: Callable[[], object]
) -> None:
    """While it is refused: rows stay, the reason is told, it knocks seldom; after the fix it delivers."""
    final(outbox)
    made.notify()
    wait_until(lambda: made.statistics().refused and said in made.statistics().reason, 30, said)
    knocks, spent = broker.log().count("New connection"), time.process_time()
    time.sleep(REFUSED_S)
    knocks = broker.log().count("New connection") - knocks
    spent = time.process_time() - spent
    assert outbox.stats().queued >= 1
    mend()
    began = time.monotonic()
    wait_until(lambda: outbox.stats().queued == 0, RESUMED_S + 5, "delivered after the fix")
    resumed_s = time.monotonic() - began
    wait_until(lambda: made.statistics().reason == "", 5)
    record(
        f"refused-{name.replace(' ', '-')}",
        f"Refused while running: {name}",
        {
            f"tries in {REFUSED_S:.0f} s": knocks,
            "CPU ms meanwhile": round(spent * 1000),
            "resumed after s": round(resumed_s, 1),
        },
    )
    assert knocks <= 8, "it knocks without pause"
    assert spent < 1.0, "a busy loop"
    assert resumed_s <= RESUMED_S


def test_a_password_that_is_changed(tmp_path: Path, outbox: Outbox) -> None:
    """Changed at the broker, then in the file on the device."""
    ours, theirs = tmp_path / "password", tmp_path / "passwords"

    def at_the_broker(password: str) -> None:
        subprocess.run(["mosquitto_passwd", "-c", "-b", str(theirs), "agent", password], check=True)

    at_the_broker("first")
    ours.write_text("first\n")
    with (
        PrivateBroker(config=[f"password_file {theirs}"], anonymous=False) as broker,
        courier(broker.url, outbox, username="agent", password_file=str(ours)) as made,
    ):
        wait_until(connected(made))
        at_the_broker("second")
        broker.restart()
        suffer("password", made, broker, outbox, "Not authorized", lambda: ours.write_text("second\n"))


def test_an_acl_that_is_changed(tmp_path: Path, outbox: Outbox) -> None:
    """Finals are forbidden while it runs, and allowed again; it stays connected."""
    acl = tmp_path / "acl"
    allowed = "topic write edge/dev/up/#\n"
    acl.write_text(allowed)

    def mend() -> None:
        acl.write_text(allowed)
        broker.reload()

    with PrivateBroker(config=[f"acl_file {acl}"]) as broker, courier(broker.url, outbox) as made:
        wait_until(connected(made))
        acl.write_text("topic write edge/dev/up/status\n")
        broker.reload()
        time.sleep(0.5)
        suffer("ACL", made, broker, outbox, "transcript/final: Not authorized", mend)
        assert made.statistics().connects == 1


class Authority:
    """A CA for one test; its certificates may be valid or expired."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "index").write_text("")
        (folder / "ca.conf").write_text(
            "[ca]\ndefault_ca=me\n[me]\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\ncertificate=ca.crt\n"
            "private_key=ca.key\ndefault_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n"
            "[srv]\nsubjectAltName=DNS:localhost\n[dev]\nextendedKeyUsage=clientAuth\n"
        )
        self._openssl(
            "req", "-x509", *self._key("ca"), "-out", "ca.crt", "-days", "30", "-subj", "/CN=test CA",
            "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip
        for name in ("srv", "dev"):
            self._openssl("req", *self._key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")

    def issue(self, name: str, *, expired: bool = False) -> None:
        """Write `name`.crt anew."""
        end = "20260101000000Z" if expired else "20600101000000Z"
        self._openssl(
            "ca", "-batch", "-config", "ca.conf", "-in", f"{name}.csr", "-out", f"{name}.crt", "-notext",
            "-extensions", name, "-startdate", "20250101000000Z", "-enddate", end,
        )  # fmt: skip

    def _key(self, name: str) -> tuple[str, ...]:
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [("srv", "expired"), ("dev", "refused our certificate")],
    ids=["the broker's", "the device's"],
)
def test_a_certificate_that_expires(tmp_path: Path, outbox: Outbox, name: str, said: str) -> None:
    """Found at the next connection; a new one in the same file is enough."""
    authority = Authority(tmp_path)
    authority.issue("srv")
    authority.issue("dev")
    tls = [
        f"cafile {tmp_path / 'ca.crt'}",
        f"certfile {tmp_path / 'srv.crt'}",
        f"keyfile {tmp_path / 'srv.key'}",
    ]
    with PrivateBroker(listener=[*tls, "require_certificate true"]) as broker:

        def mend() -> None:
            authority.issue(name)
            if name == "srv":
                broker.restart()

        own = {"cert_file": str(tmp_path / "dev.crt"), "key_file": str(tmp_path / "dev.key")}
        url = f"mqtts://localhost:{broker.port}"
        with courier(url, outbox, ca_file=str(tmp_path / "ca.crt"), **own) as made:
            wait_until(connected(made))
            authority.issue(name, expired=True)
            broker.restart()
            suffer(f"{'server' if name == 'srv' else 'client'} certificate", made, broker, outbox, said, mend)


def test_the_service_says_what_the_broker_refuses(tmp_path: Path) -> None:
    """Retained status: degraded with the reason while finals are forbidden, online when they are allowed."""
    acl = tmp_path / "acl"

    acl.write_text("topic read edge/#\ntopic write edge/box/up/status\n")
    with (
        PrivateBroker(config=[f"acl_file {acl}"]) as broker,
        Subscriber(broker.port) as subscriber,
        AgentProcess(tmp_path / "state", *settings(broker, looped())),
    ):
        wait_until(
            lambda: subscriber.on("/status") and "Not authorized" in str(subscriber.on("/status")[-1].body),
            60,
            "the reason in the status",
        )
        assert subscriber.on("/status")[-1].body["state"] == "degraded"
        acl.write_text("topic readwrite edge/#\n")
        broker.reload()
        wait_until(lambda: subscriber.on("/transcript/final"), RESUMED_S + 5, "the finals that waited")
        wait_until(lambda: subscriber.on("/status")[-1].body["state"] == "online", 70, "all is well")
