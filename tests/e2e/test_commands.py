"""Commands and desired configuration, from a fleet's client through a real broker to the real agent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.mqtt.private_broker import PrivateBroker
from tests.broker import wait_until
from tests.e2e.agent_process import AgentProcess
from tests.e2e.commander import Commander, command, stamp

SAMPLES = Path(__file__).resolve().parents[2] / "edge_agent/samples"


def settings(broker: PrivateBroker, *more: str) -> tuple[str, ...]:
    source = f"file:{SAMPLES / 'find_a_way_out.flac'}?loop=1"
    return (f'mqtt.url="{broker.url}"', 'device.id="box"', f'audio.source="{source}"', *more)


@pytest.fixture(scope="module")
def place() -> Iterator[PrivateBroker]:
    """One broker for this file."""
    with PrivateBroker() as running:
        yield running


@pytest.fixture(scope="module")
def box(place: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """One agent for the tests that leave it as they found it."""
    folder = tmp_path_factory.mktemp("box")
    with AgentProcess(folder / "state", *settings(place, "mqtt.events=true")) as agent:
        yield agent
        assert agent.process.poll() is None, agent.log


@pytest.fixture
def fleet(place: PrivateBroker, box: AgentProcess) -> Iterator[Commander]:
    """The fleet, once the agent listens to it."""
    with Commander(place.port) as commander:
        wait_until(lambda: commander.on("box/up/status") and commander.state() == "online", 40, "online")
        yield commander


def test_a_command_acts_within_a_tenth_of_a_second(fleet: Commander) -> None:
    """Accepted and done, both answered, soon enough for a button."""
    began = time.monotonic()
    command_id = fleet.send(command("flush"))
    fleet.last(command_id)
    took_s = fleet.on("/up/answer")[-1].at - began
    print(f"\nflush: answered after {took_s * 1000:.0f} ms")
    assert [answer["state"] for answer in fleet.answers(command_id)] == ["accepted", "done"]
    assert took_s < 0.5  # 0.1 on an idle machine


def test_mute_closes_the_microphone_and_says_so(fleet: Commander) -> None:
    """State `muted`, a gap with that cause, and `online` again after unmute."""
    assert fleet.ask("mute")["result"] == {"muted": True}
    wait_until(lambda: fleet.state() == "muted", 30)
    assert fleet.on("box/up/status")[-1].body["reasons"] == ["muted by command"]
    wait_until(lambda: [g for g in fleet.on("/up/gap") if g.body["cause"] == "muted"], 10, "a muted gap")
    assert fleet.ask("unmute")["result"] == {"muted": False}
    wait_until(lambda: fleet.state() == "online", 30)
    assert {"muted", "unmuted"} <= {event.body["type"] for event in fleet.on("/up/event")}


def test_a_timed_mute_ends_by_itself(fleet: Commander) -> None:
    """mute with duration_s needs no unmute."""
    fleet.ask("mute", {"duration_s": 1})
    wait_until(lambda: fleet.state() == "muted", 30)
    wait_until(lambda: fleet.state() == "online", 30)


def test_the_self_test_recognises_its_recording(fleet: Commander) -> None:
    """Between two utterances, through the running engine: its words come out."""
    command_id = fleet.send(command("self_test"))
    answer = fleet.last(command_id, 30)
    assert [a["state"] for a in fleet.answers(command_id)] == ["accepted", "running", "done"]
    assert answer["result"]["passed"] is True
    assert answer["result"]["words_found"] > 0.8


def test_answers_go_to_the_response_topic_with_its_correlation(fleet: Commander) -> None:
    """As MQTT 5 requests expect it, besides `up/answer`."""
    fleet.ask("flush", response_topic="fleet/replies/7", correlation=b"\x00\xffcorr")
    wait_until(lambda: len(fleet.on("fleet/replies/7")) == 2, 30)
    assert {message.properties.CorrelationData for message in fleet.on("fleet/replies/7")} == {
        b"\x00\xffcorr"
    }
    assert [message.body["state"] for message in fleet.on("fleet/replies/7")] == ["accepted", "done"]


def test_no_answer_goes_where_it_would_pass_for_something_else(fleet: Commander) -> None:
    """A response topic among the device topics of the prefix is not used."""
    for topic in ("edge/box/up/transcript/final", "edge/other/down/command", "$SYS/x"):
        command_id = fleet.send(command("flush"), response_topic=topic, correlation=b"c")
        fleet.last(command_id)
    time.sleep(0.2)
    assert not [
        m for m in fleet.heard if "command_id" in m.payload.decode() and m.topic.endswith(("final", "x"))
    ]
    assert not fleet.on("other/down/command")


def test_replay_sends_delivered_messages_again(fleet: Commander) -> None:
    """The same bytes, the same id."""
    wait_until(lambda: fleet.on("/transcript/final"), 30)
    first = fleet.on("/transcript/final")[0]
    answer = fleet.ask("replay", {"from_seq": first.body["seq"]})
    assert answer["result"]["messages"] >= 1
    wait_until(lambda: [m.payload for m in fleet.on("/transcript/final")].count(first.payload) == 2, 10)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (command("reboot"), "type: not one of"),
        (command("mute", {"duration_s": -1}), "duration_s"),
        (command("mute", {"command": "rm -rf /"}), "unknown field"),
        (command("install_model", {"model": "http://kiosk", "version": 3}), "model"),
        (command("set_profile", {"profile": "no-such"}), "less than a minute ago"),
        (command("flush", schema="command/2"), "schema"),
    ],
)
def test_what_is_not_understood_is_refused_with_a_reason(fleet: Commander, body: dict, reason: str) -> None:
    """Closed set, checked arguments, one answer: refused."""
    answer = fleet.last(fleet.send(body))
    assert answer["state"] == "refused"
    assert reason in answer["reason"]
    assert len(fleet.answers(body["command_id"])) == 1


def test_listen_means_nothing_where_it_always_listens(fleet: Commander) -> None:
    """Refused with the key that would make a gate."""
    answer = fleet.ask("listen")
    assert answer["state"] == "refused"
    assert 'gate.mode = "command"' in answer["reason"]


def test_an_id_works_once(fleet: Commander) -> None:
    """The same message again does nothing."""
    body = command("flush")
    assert fleet.last(fleet.send(body))["state"] == "done"
    fleet.send(body)
    wait_until(lambda: fleet.answers(body["command_id"])[-1]["state"] == "refused", 30)
    assert "used before" in fleet.answers(body["command_id"])[-1]["reason"]


def test_a_retained_command_is_an_order_from_the_past(
    tmp_path: Path, place: PrivateBroker, fleet: Commander
) -> None:
    """It lies on the broker when the agent connects, and is not even answered."""
    body = command("mute")
    fleet.send(body, retain=True, topic="edge/late/down/command")
    source = settings(place)
    with AgentProcess(tmp_path / "late", *source, 'device.id="late"'):
        wait_until(lambda: fleet.on("late/up/status"), 40)
        time.sleep(1.0)
        assert fleet.on("late/up/status")[-1].body["state"] == "online"
        assert not fleet.answers(body["command_id"])


def test_garbage_is_refused_and_harms_nothing(fleet: Commander) -> None:
    """Not JSON, deep nesting, 100 kB, a flood: answered or dropped, and the next command works."""
    for junk in (b"", b"\xff\xfe", b"[" * 60_000, b'{"a":' * 3000, b"x" * 100_000, b"null", b"{}"):
        fleet.send(junk)
    for _ in range(300):
        fleet.send(b"{}")
    time.sleep(1.0)
    assert fleet.ask("flush")["state"] == "done"


def test_desired_values_hold_at_once(fleet: Commander) -> None:
    """Applied live, reported, the good kept and the bad named."""
    wait_until(lambda: fleet.on("/up/config"), 30)
    version = fleet.config()["version"] + 10
    fleet.desire(
        version,
        {
            "endpoint": {"silence_ms": 900, "probe_ms": 5000, "sound": 1},
            "device": {"site": "roof"},
            "mqtt": {"url": "mqtt://evil:1883"},
            "recognition": {"terms": ["way out"]},
        },
    )
    wait_until(lambda: fleet.config()["version"] == version, 30)
    config = fleet.config()
    assert config["reported"]["endpoint"]["silence_ms"] == 900
    assert config["reported"]["device"]["site"] == "roof"
    assert config["pending"] == []
    assert {entry["key"] for entry in config["rejected"]} == {
        "endpoint.probe_ms",
        "endpoint.sound",
        "mqtt.url",
    }

    def ended_by_silence() -> list[int]:
        """Endpoint delays of finals after the change that silence ended (a flush or a stop has none)."""
        found = [m.body for m in fleet.on("/final") if m.body["site"] == "roof"]
        return [
            b["latency_ms"]["endpoint"] for b in found if not any(f.startswith("cut:") for f in b["flags"])
        ]

    wait_until(lambda: max(ended_by_silence(), default=0) >= 850, 40, "the new silence, at the new site")

    fleet.desire(version - 1, {"endpoint": {"silence_ms": 100}})
    wait_until(lambda: fleet.config()["rejected"][-1]["key"] == "version", 30)
    assert fleet.config()["reported"]["endpoint"]["silence_ms"] == 900

    fleet.desire(version + 1, {})
    wait_until(lambda: fleet.config()["version"] == version + 1, 30)
    assert fleet.config()["reported"]["endpoint"]["silence_ms"] is None
    assert fleet.config()["rejected"] == []


def test_every_message_of_the_device_keeps_to_the_contract(fleet: Commander) -> None:
    """Whatever these tests made it say."""
    from edge_agent.mqtt.contract import validate
    from edge_agent.mqtt.wire import parse_topic

    checked = 0
    for message in fleet.heard:
        found = parse_topic("edge", message.topic)
        if found is not None:
            validate(found[1], message.payload)
            checked += 1
    assert checked


def test_restart_and_what_survives_it(tmp_path: Path) -> None:
    """Exit code 75 for the service manager; mute, desired values and used ids are still there."""
    with PrivateBroker() as broker, Commander(broker.port) as fleet:
        box = AgentProcess(tmp_path / "state", *settings(broker))
        with box:
            wait_until(lambda: fleet.on("box/up/status") and fleet.state() == "online", 40)
            fleet.desire(4, {"endpoint": {"silence_ms": 800}, "recognition": {"language": "de"}})
            wait_until(lambda: fleet.on("/up/config") and fleet.config()["version"] == 4, 30)
            fleet.ask("mute")
            soon = fleet.ask("restart")
            assert (soon["state"], soon["reason"]) == ("refused", "started less than a minute ago")
            remote = json.loads((tmp_path / "state/remote.json").read_bytes())
            assert (tmp_path / "state/remote.json").stat().st_mode & 0o077 == 0
            assert remote["muted"]
            box.kill()
            used = next(iter(remote["seen"]))
            box.start()
            before = len(fleet.on("/up/config"))
            wait_until(lambda: len(fleet.on("/up/config")) > before, 40)
            assert fleet.config()["version"] == 4
            assert fleet.config()["reported"]["endpoint"]["silence_ms"] == 800
            assert fleet.state() == "muted"
            again = command("unmute", command_id=used)
            fleet.send(again)
            wait_until(lambda: "used before" in fleet.answers(used)[-1]["reason"], 30)
            assert fleet.ask("unmute")["result"] == {"muted": False}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "args"), [("restart", {}), ("set_profile", {"profile": "cpu-minimal"})])
def test_a_restart_by_command_ends_with_its_code_and_is_told_done(
    tmp_path: Path, kind: str, args: dict
) -> None:
    """A minute after the start it is allowed; the next process answers, with the profile that serves then."""
    with PrivateBroker() as broker, Commander(broker.port) as fleet:
        box = AgentProcess(tmp_path / "state", *settings(broker))
        with box:
            wait_until(lambda: fleet.on("/up/status") and fleet.state() == "online", 40)
            time.sleep(61)
            command_id = fleet.send(command(kind, args, life_s=30))
            assert box.process.wait(10) == 75, box.log
            assert fleet.state() == "stopped"
            assert [a["state"] for a in fleet.answers(command_id)] == ["accepted", "running"]
            box.start()
            done = fleet.last(command_id, 40)
            assert done["state"] == "done"
            wait_until(lambda: fleet.state() == "online", 40)
            assert done["result"]["profile"] == fleet.on("/up/info")[-1].body["profile"]
            assert args.get("profile", done["result"]["profile"]) == done["result"]["profile"]


def test_an_expired_command_is_told_expired(fleet: Commander) -> None:
    """With a synchronised clock; without one the device cannot know, and carries it out."""
    from edge_agent.clock import SystemClock

    body = command("flush", issued_at=stamp(-60), expires_at=stamp(-30))
    assert fleet.last(fleet.send(body))["state"] == ("expired" if SystemClock().synced() else "done")
