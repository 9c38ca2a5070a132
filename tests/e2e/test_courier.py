"""From the outbox to a real broker and a real subscriber, through everything that may go wrong on the way."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.clock import SystemClock, uuid7
from edge_agent.mqtt import wire
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.mqtt.publisher import Courier
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.outbox.store import Outbox
from edge_agent.types import Hypothesis, Latency, Utterance, Word
from tests.broker import Subscriber, wait_until
from tests.fault.kills import assert_nothing_lost, end_child, kill_9_run, start_child
from tests.fault.test_drain import fill

CLOCK = SystemClock()
ORIGIN = wire.Origin(device_id="dev", site="lab", profile="p", engine="scripted", model="m@1")


def final(outbox: Outbox, text: str = "turn on the crane", words: int = 0) -> int:
    """Commit one real transcript."""
    utterance = Utterance(
        id=uuid7(CLOCK.utc_ms()),
        channel=0,
        start_ns=0,
        speech_end_ns=1_500_000_000,
        start_utc_ms=CLOCK.utc_ms(),
        clock_synced=True,
        pcm=np.zeros(16, np.float32),
        cut="silence",
    )
    heard = Hypothesis(
        text=text,
        words=tuple(Word(text="w" * 20, start_s=i, end_s=i + 1, confidence=0.5) for i in range(words)),
    )
    latency = Latency(endpoint=400, queue=1, decode=90, total=491)
    return outbox.append(
        id=utterance.id,
        kind="final",
        make_payload=lambda seq: wire.encode_transcript(
            seq=seq, utterance=utterance, hypothesis=heard, origin=ORIGIN, latency=latency
        ),
    )


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """An empty outbox on disk."""
    made = Outbox(tmp_path / "state" / "outbox.sqlite3", clock=CLOCK)
    yield made
    made.close()


@contextmanager
def courier(broker_url: str, outbox: Outbox, **settings: object) -> Iterator[Courier]:
    """A started courier, stopped at the end."""
    made = Courier(
        MqttSettings(url=broker_url, **settings),
        wire.Topics("edge", "dev"),
        outbox,
        clock=CLOCK,
        boot_id="boot-1",
        jitter=random.Random(7),
    )
    made.start()
    try:
        yield made
    finally:
        made.stop(2.0)
        assert made.failure is None


def connected(made: Courier) -> Callable[[], bool]:
    """A condition for wait_until."""
    return lambda: made.statistics().connected


def status_seen_by_a_newcomer(port: int, device: str = "dev") -> str:
    """The retained status that a fresh subscriber gets, or "" when there is none."""
    with Subscriber(port, topic=f"edge/{device}/up/status", client_id=uuid7(0)) as newcomer:
        wait_until(lambda: newcomer.heard, 2, "a retained status")
        return str(newcomer.heard[0].body["state"])


def test_finals_reach_a_subscriber_once_in_order_and_as_the_contract_says(
    broker: PrivateBroker, subscriber: Subscriber, outbox: Outbox
) -> None:
    """Every committed final arrives once, valid, in seq order, and is marked delivered."""
    from edge_agent.mqtt.contract import validate

    with courier(broker.url, outbox) as made:
        made.set_info({"profile": "p"})
        wait_until(connected(made))
        for _ in range(50):
            final(outbox)
            made.notify()
        wait_until(lambda: len(subscriber.on("final")) == 50)
        wait_until(lambda: outbox.stats().queued == 0)
    assert [m.body["seq"] for m in subscriber.on("final")] == list(range(1, 51))
    for message in subscriber.heard:
        validate(wire.parse_topic("edge", message.topic)[1], message.payload)
        assert message.qos == 1
    assert outbox.stats().delivered == 50


def test_a_final_is_on_its_way_within_milliseconds(
    broker: PrivateBroker, subscriber: Subscriber, outbox: Outbox
) -> None:
    """`notify` wakes the courier: hand-over to the subscriber takes well under the one-second tick."""
    with courier(broker.url, outbox) as made:
        wait_until(connected(made))
        delays = []
        for count in range(1, 21):
            began = time.monotonic()
            final(outbox)
            made.notify()
            wait_until(lambda count=count: len(subscriber.on("final")) == count)
            delays.append(subscriber.on("final")[-1].at - began)
    print(f"hand-over p50 {sorted(delays)[10] * 1e3:.1f} ms, max {max(delays) * 1e3:.1f} ms")
    assert sorted(delays)[10] < 0.1


def test_nobody_listening_is_delivered_and_flagged(broker: PrivateBroker, outbox: Outbox) -> None:
    """The broker's code 16 counts as delivered, and is counted apart."""
    with courier(broker.url, outbox) as made:
        final(outbox)
        made.notify()
        wait_until(lambda: outbox.stats().delivered == 1)
        assert made.statistics().no_subscribers == 1


def test_a_broker_that_dies_loses_nothing_and_duplicates_are_equal(
    broker: PrivateBroker, subscriber: Subscriber, outbox: Outbox
) -> None:
    """Broker killed three times in a stream of finals: all arrive, repeats byte for byte the same."""
    with courier(broker.url, outbox) as made:
        for number in range(300):
            final(outbox)
            made.notify()
            if number in (60, 140, 220):
                broker.kill()
            if number in (90, 170, 250):
                broker.start()
            time.sleep(0.002)
        wait_until(lambda: outbox.stats().queued == 0, 20, "the queue drained")
        wait_until(lambda: {m.body["seq"] for m in subscriber.on("final")} == set(range(1, 301)), 10)
        assert made.statistics().connects >= 2
    copies: dict[int, set[bytes]] = {}
    for message in subscriber.on("final"):
        copies.setdefault(message.body["seq"], set()).add(message.payload)
    assert all(len(same) == 1 for same in copies.values())


def test_what_a_dying_broker_had_just_acknowledged_is_sent_again(
    broker: PrivateBroker, outbox: Outbox
) -> None:
    """An acknowledgement is no proof of storage: the youngest rows go again, older ones do not."""
    with courier(broker.url, outbox) as made:
        wait_until(connected(made))
        final(outbox)
        made.notify()
        wait_until(lambda: outbox.stats().delivered == 1)
        time.sleep(0.5)
        final(outbox)
        made.notify()
        wait_until(lambda: outbox.stats().delivered == 2)
        broker.kill()
        wait_until(lambda: outbox.stats().queued == 1)
        assert [row.seq for row in outbox.next_batch(9)] == [2]
        broker.start()
        wait_until(lambda: outbox.stats().delivered == 2)


def test_what_is_said_now_goes_before_what_waited(
    broker: PrivateBroker, subscriber: Subscriber, tmp_path: Path
) -> None:
    """With 3000 rows waiting, a live final arrives long before the backlog is through."""
    path = tmp_path / "outbox.sqlite3"
    fill(path, 3000)
    outbox = Outbox(path, clock=CLOCK)
    with courier(broker.url, outbox) as made:
        wait_until(lambda: len(subscriber.on("final")) > 20)
        began = time.monotonic()
        live = final(outbox)
        made.notify()
        wait_until(lambda: any(m.body["seq"] == live for m in subscriber.on("final")))
        delay_s = time.monotonic() - began
        before = [m.body["seq"] for m in subscriber.on("final")].index(live)
        wait_until(lambda: len(subscriber.on("final")) == 3001, 30, "the backlog drained")
        made.stop(2.0)
    print(f"live final after {delay_s * 1e3:.0f} ms, behind {before} of 3000 waiting rows")
    outbox.close()
    assert before < 2500
    assert [m.body["seq"] for m in subscriber.on("final") if m.body["seq"] != live] == list(range(1, 3001))


class TestStatusIsTrue:
    """The retained status says what is so, whatever happens."""

    def test_online_with_will_then_stopped_after_a_clean_end(
        self, broker: PrivateBroker, outbox: Outbox
    ) -> None:
        """Online while it runs, stopped (not offline) after a clean stop."""
        with courier(broker.url, outbox) as made:
            wait_until(connected(made))
            wait_until(lambda: made.statistics().failures_in_a_row == 0)
            assert status_seen_by_a_newcomer(broker.port) == "online"
            made.set_status("degraded", ("microphone lost",))
            wait_until(lambda: status_seen_by_a_newcomer(broker.port) == "degraded")
        assert status_seen_by_a_newcomer(broker.port) == "stopped"

    def test_offline_within_two_seconds_of_kill_9(
        self, broker: PrivateBroker, subscriber: Subscriber, tmp_path: Path
    ) -> None:
        """The will speaks for a process that was killed."""
        child = start_child(tmp_path / "outbox.sqlite3", broker.url)
        wait_until(lambda: subscriber.on("up/status"), 10, "the child is online")
        killed = time.monotonic()
        end_child(child)
        wait_until(lambda: subscriber.on("up/status")[-1].body["state"] == "offline", 2)
        print(f"offline {time.monotonic() - killed:.3f} s after the kill")
        assert status_seen_by_a_newcomer(broker.port, "child") == "offline"

    def test_online_again_after_each_reconnect(
        self, broker: PrivateBroker, subscriber: Subscriber, outbox: Outbox
    ) -> None:
        """A broker that lost its memory is told status and info again."""
        with courier(broker.url, outbox) as made:
            made.set_info({"profile": "p"})
            wait_until(lambda: subscriber.on("up/info"))
            broker.restart()
            wait_until(lambda: made.statistics().connects == 2, 10)
            wait_until(lambda: status_seen_by_a_newcomer(broker.port) == "online")
            wait_until(lambda: len([m for m in subscriber.on("up/info") if not m.retain]) >= 2)


class TestRefusals:
    """A broker that says no: named, waited out, and healed without a restart."""

    def test_a_wrong_password_is_named_and_heals_when_it_is_corrected(
        self, tmp_path: Path, outbox: Outbox
    ) -> None:
        """Rows stay; the reason says login; the right password in the same file is enough."""
        ours, theirs = tmp_path / "password", tmp_path / "passwords"
        subprocess.run(["mosquitto_passwd", "-c", "-b", str(theirs), "agent", "right"], check=True)
        ours.write_text("wrong\n")
        with (
            PrivateBroker(config=[f"password_file {theirs}"], anonymous=False) as broker,
            courier(broker.url, outbox, username="agent", password_file=str(ours)) as made,
        ):
            final(outbox)
            wait_until(lambda: made.statistics().refused)
            assert "Not authorized" in made.statistics().reason
            assert "password_file" in made.statistics().reason
            assert outbox.stats().queued == 1
            tries = broker.log().count("New connection")
            time.sleep(1.5)
            assert broker.log().count("New connection") - tries <= 5, "it knocks without pause"
            ours.write_text("right\n")
            wait_until(lambda: outbox.stats().delivered == 1, 40, "delivered with the right password")
            assert made.statistics().reason == ""

    def test_a_denied_topic_keeps_its_rows_and_does_not_hold_up_the_others(
        self, tmp_path: Path, outbox: Outbox
    ) -> None:
        """Reason code 135 for finals: gaps pass, finals wait, and go when the ACL allows them."""
        acl = tmp_path / "acl"
        acl.write_text("topic write edge/dev/up/status\ntopic write edge/dev/up/gap\n")
        with PrivateBroker(config=[f"acl_file {acl}"]) as broker, courier(broker.url, outbox) as made:
            final(outbox)
            outbox.append(id="gap-1", kind="gap", make_payload=lambda seq: b'{"seq":%d}' % seq)
            made.notify()
            wait_until(lambda: made.statistics().denied > 0)
            wait_until(lambda: outbox.stats().delivered == 1)
            assert outbox.stats().queued == 1
            assert "transcript/final: Not authorized" in made.statistics().reason
            denied = made.statistics().denied
            time.sleep(1.0)
            assert made.statistics().denied - denied <= 4, "it repeats without pause"
            acl.write_text("topic write edge/dev/up/#\n")
            broker.reload()
            wait_until(lambda: outbox.stats().queued == 0, 30, "delivered after the ACL was changed")
            assert made.statistics().reason == ""
            assert not made.statistics().refused

    def test_an_untrusted_certificate_is_refused_and_named(self, certificates: Path, outbox: Outbox) -> None:
        """Unknown CA and wrong host name are refused by us; a missing client certificate by the broker."""
        with _tls_broker(certificates, "require_certificate true") as broker:
            trusted = {"ca_file": str(certificates / "ca.crt")}
            own = {"cert_file": str(certificates / "dev.crt"), "key_file": str(certificates / "dev.key")}
            for settings, expected in (
                (own, "is not trusted"),
                ({**trusted, **own, "host": "127.0.0.1"}, "is not trusted"),
                (trusted, "certificate"),
            ):
                host = settings.pop("host", "localhost")
                with courier(f"mqtts://{host}:{broker.port}", outbox, **settings) as made:
                    wait_until(lambda made=made: made.statistics().refused, 30)
                    assert expected in made.statistics().reason
            with courier(f"mqtts://localhost:{broker.port}", outbox, **trusted, **own) as made:
                final(outbox)
                made.notify()
                wait_until(lambda: outbox.stats().delivered == 1)

    def test_a_device_with_anothers_id_does_not_start_a_duel(
        self, broker: PrivateBroker, outbox: Outbox, tmp_path: Path
    ) -> None:
        """Two couriers with one id: the takeover is named and backed off, not fought."""
        second = Outbox(tmp_path / "second.sqlite3", clock=CLOCK)
        with courier(broker.url, outbox) as one, courier(broker.url, second) as two:
            wait_until(lambda: one.statistics().connects + two.statistics().connects >= 3)
            time.sleep(2.0)
            connects = one.statistics().connects + two.statistics().connects
            reasons = one.statistics().reason + two.statistics().reason
        second.close()
        print(f"{connects} connects in about 2 s")
        assert connects < 20
        assert "taken over" in reasons.lower() or connects > 2


class TestLimits:
    """The broker's limits are kept, and nothing that exceeds them blocks the rest."""

    def test_an_oversize_transcript_loses_its_words_and_the_next_one_passes(
        self, tmp_path: Path, outbox: Outbox
    ) -> None:
        """Too large with words: sent without them, flagged. Too large without: set aside. Both once."""
        with (
            PrivateBroker(config=["max_packet_size 3000"]) as broker,
            Subscriber(broker.port) as subscriber,
            courier(broker.url, outbox) as made,
        ):
            final(outbox, words=500)
            final(outbox, text="x" * 4000)
            last = final(outbox)
            made.notify()
            wait_until(lambda: [m for m in subscriber.on("final") if m.body["seq"] == last])
            shrunk = subscriber.on("final")[0].body
            assert shrunk["words"] == []
            assert shrunk["flags"] == ["truncated"]
            wait_until(lambda: outbox.stats().queued == 0)
            assert (outbox.stats().delivered, outbox.stats().set_aside) == (2, 1)
            assert made.statistics().connects == 1, "the broker threw us out"

    def test_a_small_receive_maximum_is_kept(self, outbox: Outbox) -> None:
        """A broker that takes two at a time gets two at a time, and everything in the end."""
        with PrivateBroker(listener=[], config=["max_inflight_messages 2"]) as broker:
            for _ in range(200):
                final(outbox)
            with courier(broker.url, outbox) as made:
                wait_until(lambda: outbox.stats().delivered == 200, 20)
                assert made.statistics().connects == 1

    def test_partials_are_dropped_offline_and_sent_when_connected(
        self, broker: PrivateBroker, subscriber: Subscriber, outbox: Outbox
    ) -> None:
        """Partials are worth nothing later: offline they go nowhere; online they go out at QoS 0."""
        with courier("mqtt://127.0.0.1:1", outbox) as made:
            made.publish_partial(b"{}")
            assert made.statistics().partials_dropped == 1
        with courier(broker.url, outbox) as made:
            wait_until(connected(made))
            made.publish_partial(b'{"p":1}')
            wait_until(lambda: subscriber.on("partial"))
            assert subscriber.on("partial")[0].qos == 0


def test_stop_flushes_what_it_can_and_says_whether_it_did(
    broker: PrivateBroker, subscriber: Subscriber, outbox: Outbox
) -> None:
    """Rows committed just before the stop are delivered; the farewell comes last."""
    with courier(broker.url, outbox) as made:
        wait_until(connected(made))
        for _ in range(100):
            final(outbox)
        assert made.stop(3.0)
    wait_until(lambda: subscriber.on("up/status") and subscriber.heard[-1].topic.endswith("up/status"))
    assert len(subscriber.on("final")) == 100
    assert subscriber.heard[-1].body["state"] == "stopped"


def test_stop_without_a_broker_returns_in_time(outbox: Outbox) -> None:
    """Nothing to say goodbye to: rows stay, the thread ends."""
    with courier("mqtt://127.0.0.1:1", outbox) as made:
        final(outbox)
        began = time.monotonic()
        assert not made.stop(2.0)
        assert time.monotonic() - began < 1.5
        assert not made.alive
    assert outbox.stats().queued == 1


def test_an_idle_courier_costs_next_to_nothing(broker: PrivateBroker, outbox: Outbox) -> None:
    """No busy loop, neither connected nor without a broker."""
    for url in (broker.url, "mqtt://127.0.0.1:1"):
        with courier(url, outbox) as made:
            time.sleep(0.3)
            steps, began = made.progress, time.process_time()
            time.sleep(1.6)
            spent = time.process_time() - began
            assert made.progress - steps <= 12
            assert made.progress > steps
            assert spent < 0.1


def test_kill_9_of_the_agent_loses_no_committed_final(broker: PrivateBroker, tmp_path: Path) -> None:
    """Twelve kills at random instants: everything committed arrives, hardly anything twice, no holes."""
    seed = int(os.environ.get("EDGE_AGENT_SEED", random.randrange(10**6)))
    books = kill_9_run(broker, tmp_path / "outbox.sqlite3", kills=12, broker_kills=0, seed=seed, pause_s=0.01)
    assert_nothing_lost(books, seed)
    assert books["duplicates"] <= 12, "more than one repeat for each kill"


def test_kill_9_of_agent_and_broker_loses_no_committed_final(broker: PrivateBroker, tmp_path: Path) -> None:
    """The broker is killed in between as well; it saves what it acknowledges."""
    seed = int(os.environ.get("EDGE_AGENT_SEED", random.randrange(10**6)))
    books = kill_9_run(broker, tmp_path / "outbox.sqlite3", kills=6, broker_kills=3, seed=seed)
    assert_nothing_lost(books, seed)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a server certificate for localhost and a device certificate."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", "/CN=test CA",
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    for name, extra in (
        ("srv", "subjectAltName=DNS:localhost"),
        ("dev", "extendedKeyUsage=clientAuth"),
    ):
        (folder / f"{name}.ext").write_text(extra)
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.crt",
        )  # fmt: skip
    return folder


def _tls_broker(certificates: Path, *more: str) -> PrivateBroker:
    files = [f"{name} {certificates / file}" for name, file in
             (("cafile", "ca.crt"), ("certfile", "srv.crt"), ("keyfile", "srv.key"))]  # fmt: skip
    return PrivateBroker(listener=[*files, *more])


def test_payloads_survive_the_way_unchanged(
    broker: PrivateBroker, subscriber: Subscriber, outbox: Outbox
) -> None:
    """What was committed is what arrives, byte for byte, in any script."""
    with courier(broker.url, outbox) as made:
        seq = final(outbox, text="請打開起重機 ☂ naïve")
        made.notify()
        wait_until(lambda: subscriber.on("final"))
    body = msgspec.json.decode(subscriber.on("final")[0].payload, type=wire.TranscriptBody)
    assert body.seq == seq
    assert body.text == "請打開起重機 ☂ naïve"
