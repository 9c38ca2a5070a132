"""Carrying out what is asked from afar: real judgement, real files, hands that only note what they did."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from edge_agent.config import Config, with_values
from edge_agent.control import Control
from edge_agent.errors import ModelMissing, OutboxError
from edge_agent.fleet.bundle import Target
from edge_agent.mqtt import wire
from edge_agent.mqtt.aside import Aside
from edge_agent.mqtt.bridges import Bridges
from edge_agent.mqtt.bridges.hermes import Hermes
from edge_agent.mqtt.bridges.home_assistant import HomeAssistant
from edge_agent.mqtt.events import Message
from edge_agent.remote import Beside, RemoteStore, Standing, effective

TOPICS = wire.Topics("edge", "box")


class Clock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def monotonic_ns(self) -> int:
        return int(self.now_s * 1e9)

    def utc_ms(self) -> int:
        return int(self.now_s * 1000)

    def synced(self) -> bool:
        return True


class Noting:
    """Hands that note."""

    profile = "cpu-avx2"

    def __init__(self) -> None:
        self.did: list[object] = []
        self.muted = False
        self.done = None
        self.pending: tuple[str, ...] = ()

    def mute(self) -> None:
        self.muted = True

    def unmute(self) -> None:
        self.muted = False

    def flush(self) -> None:
        self.did.append("flush")

    def listen(self, channel: int | None, duration_s: float | None) -> None:
        self.did.append((channel, duration_s))

    def set_terms(self, terms: tuple[str, ...] | None) -> tuple[str, ...]:
        return ("from", "file") if terms is None else terms

    def self_test(self, done: object) -> None:
        self.done = done

    def replay(self, *, from_seq: int | None, since_utc_ms: int | None) -> int:
        if from_seq == 13:
            raise OutboxError("the disk takes no writes", remedy="look at it")
        self.did.append((from_seq, since_utc_ms))
        return 3

    def profile_for(self, name: str) -> str:
        if name == "huge":
            raise ModelMissing("its model is not here", remedy="pull it")
        return self.profile if name == "auto" else name

    def apply(self, config: Config) -> tuple[str, ...]:
        self.did.append(config)
        return self.pending


class Box:
    """A control with everything around it; `restart` makes the next process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.boot()
        self.clock.now_s += 120

    def boot(self, installer: Installer | None = None) -> None:
        self.hands, self.kept = Noting(), {}
        self.store = RemoteStore(self.folder / "remote.json")
        self.aside = Aside()
        bridges = (Hermes("s"), HomeAssistant(TOPICS, site="", profiles=("cpu-avx2",)))
        standing = Standing(
            store=self.store,
            base=Config(),
            config=effective(Config(), self.store.value).config,
            reload=Config,
            models_dir=self.folder,
        )
        self.control = Control(
            self.hands,
            self.aside,
            keep=lambda topic, payload: self.kept.update({topic: json.loads(payload)}),
            topics=TOPICS,
            bridges=Bridges(bridges),
            standing=standing,
            clock=self.clock,
        )
        if installer is not None:
            self.control.install.installer = installer
        self.control.start()

    def hear(self, topic: str, body: object, **other: object) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.aside.came(Message(topic=topic, payload=payload, **{"retain": False, **other}))
        self.control.tick()

    def ask(self, kind: str, args: dict | None = None, command_id: str = "", **other: object) -> str:
        command_id = command_id or f"c-{self.clock.now_s}"
        self.clock.now_s += 0.001
        body = {
            "schema": "command/1",
            "command_id": command_id,
            "type": kind,
            "args": args or {},
            "issued_at": self.stamp(0),
            "expires_at": self.stamp(30),
        }
        self.hear(TOPICS.command, body, **other)
        return command_id

    def stamp(self, seconds: float) -> str:
        return datetime.fromtimestamp(self.clock.now_s + seconds, UTC).isoformat()

    def posts(self) -> list[tuple[str, dict]]:
        """What was answered since the last look."""
        waiting = [(post.topic, json.loads(post.payload)) for post in self.aside._posts]
        self.aside._posts.clear()
        return waiting

    def states(self) -> list[str]:
        return [body["state"] for topic, body in self.posts() if topic == TOPICS.answer]

    def last(self) -> dict:
        return self.posts()[-1][1]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A device that has run for two minutes."""
    made = Box(tmp_path)
    made.posts()
    return made


def test_done_and_refused_are_told_with_result_and_reason(box: Box) -> None:
    """accepted, then one last word."""
    box.ask("replay", {"from_seq": 8})
    accepted, done = (body for _, body in box.posts())
    assert (accepted["state"], done["state"], done["result"]) == ("accepted", "done", {"messages": 3})
    box.ask("replay", {"from_seq": 13})
    refused = box.last()
    assert (refused["state"], refused["reason"]) == ("refused", "the disk takes no writes; look at it")


def test_installing_a_model_takes_a_fleet(box: Box) -> None:
    """A device that trusts nobody installs nothing; no address can be named."""
    box.ask("install_model", {"model": "m", "version": 1})
    assert box.last()["state"] == "refused"
    box.ask("install_model", {"model": "m", "version": 1})
    assert "trusts no fleet" in box.last()["reason"]
    box.ask("install_model", {"model": "m", "version": 1, "url": "http://x"})
    assert "unknown field" in box.last()["reason"]


class Installer:
    """The fleet's side: remembers what it was asked, and decides when told to."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.asked = refuses, []

    def __call__(self, target: Target, decided: Callable[[str], None], *, resumed: bool) -> str:
        self.asked.append((str(target), resumed))
        self.decided = decided
        return self.refuses


@pytest.mark.parametrize(("why", "state"), [("", "done"), ("it takes 900 MB", "refused")])
def test_a_model_is_installed_or_refused_with_the_reason(box: Box, why: str, state: str) -> None:
    """accepted, running, and one last word; another one must wait for that."""
    box.control.install.installer = installer = Installer()
    box.ask("install_model", {"model": "m", "version": 3})
    assert box.states() == ["accepted", "running"]
    box.ask("install_model", {"model": "m", "version": 4})
    assert "m 3 is being installed" in box.last()["reason"]
    installer.decided(why)
    box.control.tick()
    answer = box.last()
    assert (answer["state"], answer["reason"]) == (state, why)
    assert installer.asked == [("m 3", False)]
    box.ask("install_model", {"model": "m", "version": 4})
    assert box.states() == ["accepted", "running"]


def test_a_model_that_is_on_its_way_outlives_a_restart(box: Box) -> None:
    """It is gone on with, and whoever asked before the restart is answered after it."""
    box.control.install.installer = Installer()
    first = box.ask("install_model", {"model": "m", "version": 3})
    installer = Installer()
    box.boot(installer)
    assert installer.asked == [("m 3", True)]
    installer.decided("")
    box.control.tick()
    answer = box.last()
    assert (answer["command_id"], answer["state"]) == (first, "done")
    assert answer["result"] == {"model": "m", "version": 3}
    box.boot(Installer())
    assert box.posts() == [], "told once"


def test_a_model_whose_trial_ended_the_process_is_told_after_it(box: Box) -> None:
    """The way is over when the next process starts: refused, with the reason."""
    box.control.install.installer = Installer()
    box.ask("install_model", {"model": "m", "version": 3})
    box.boot(Installer(refuses="in its trial it was killed"))
    answer = box.last()
    assert (answer["state"], answer["reason"]) == ("refused", "in its trial it was killed")


def test_a_profile_that_the_fleet_chose_is_not_changed_by_command(box: Box) -> None:
    """The next start would serve the fleet's again: it says who decides."""
    box.control.beside = lambda: Beside(values={"fleet.profile": "kiosk"})
    box.ask("set_profile", {"profile": "auto"})
    answer = box.last()
    assert (answer["state"], "the fleet's profile kiosk serves" in answer["reason"]) == ("refused", True)
    assert box.store.value.profile == ""
    assert not box.control.restart


def test_a_retained_command_is_not_even_answered(box: Box) -> None:
    """It would be answered at each connect."""
    box.ask("flush", retain=True)
    assert box.posts() == []
    assert box.hands.did == []


def test_listen_opens_the_gate_of_one_channel_or_of_all(box: Box) -> None:
    """For one utterance, or for as long as it says."""
    box.ask("listen")
    box.ask("listen", {"duration_s": 20, "channel": 1})
    assert box.hands.did == [(None, None), (1, 20.0)]
    assert box.last()["state"] == "done"


def test_reload_terms_takes_those_given_or_the_files(box: Box) -> None:
    """And says how many."""
    box.ask("reload_terms", {"terms": ["a", "b", "c"]})
    assert box.last()["result"]["terms"] == 3
    box.ask("reload_terms")
    assert box.last()["result"]["terms"] == 2


class TestMute:
    """Who wants silence, and for how long."""

    def test_it_survives_a_restart(self, box: Box) -> None:
        """Privacy does not end with a crash."""
        box.ask("mute")
        assert box.hands.muted
        box.boot()
        assert box.hands.muted
        assert box.control.muted == ("command",)

    def test_a_timed_one_ends_on_time_also_over_a_restart(self, box: Box) -> None:
        """What is left of it is taken up."""
        box.ask("mute", {"duration_s": 100})
        box.clock.now_s += 60
        box.boot()
        assert box.hands.muted
        box.clock.now_s += 41
        assert box.control.tick()
        assert not box.hands.muted
        box.boot()
        assert not box.hands.muted

    def test_hermes_and_an_operator_do_not_cancel_each_other(self, box: Box) -> None:
        """The end of a spoken answer must not open a microphone that an operator closed."""
        box.ask("mute")
        box.hear("hermes/asr/toggleOff", {"siteId": "s"})
        assert box.control.muted == ("command", "hermes")
        box.hear("hermes/asr/toggleOn", {"siteId": "s"})
        assert box.hands.muted
        box.ask("unmute")
        assert not box.hands.muted

    def test_home_assistants_switch_is_an_operators_hand(self, box: Box) -> None:
        """Remembered like a command."""
        switch = f"{TOPICS.down}/home_assistant/mute"
        box.hear(switch, b"ON")
        box.boot()
        assert box.hands.muted
        box.hear(switch, b"OFF")
        assert not box.hands.muted
        assert box.store.value.muted is False

    def test_a_bridge_is_rate_limited_too(self, box: Box) -> None:
        """A broken automation cannot flap the microphone without end."""
        switch = f"{TOPICS.down}/home_assistant/mute"
        for _ in range(31):
            box.hear(switch, b"ON")
            box.hear(switch, b"OFF")
        box.hear(switch, b"ON")
        assert not box.hands.muted


class TestSelfTest:
    """Longer than a tick: running, then its result."""

    def test_its_result_comes_later(self, box: Box) -> None:
        """From another thread, answered on the next tick."""
        box.ask("self_test")
        assert box.states() == ["accepted", "running"]
        box.hands.done("", {"words_found": 1.0})
        assert box.states() == []
        box.control.tick()
        assert box.last()["result"] == {"passed": True, "words_found": 1.0}

    def test_one_at_a_time(self, box: Box) -> None:
        """A second one is refused until the first has ended."""
        box.ask("self_test")
        box.ask("self_test")
        assert box.states() == ["accepted", "running", "accepted", "refused"]
        box.hands.done("broken", {})
        box.control.tick()
        assert box.last()["result"] == {"passed": False}
        box.ask("self_test")
        assert box.states()[-1] == "running"


class TestRestart:
    """The process ends; the next one answers."""

    def test_it_ends_the_process_and_the_next_one_says_done(self, box: Box) -> None:
        """With the sender's correlation data."""
        box.ask("restart", command_id="r", response_topic="fleet/r", correlation=b"\x01")
        assert box.control.restart
        assert box.states() == ["accepted", "running"]
        box.boot()
        assert not box.control.restart
        assert [(post.topic, post.correlation) for post in box.aside._posts] == [
            (TOPICS.answer, None),
            ("fleet/r", b"\x01"),
        ]
        assert box.last() == {
            "schema": "answer/1",
            "command_id": "r",
            "state": "done",
            "reason": "",
            "result": {"profile": "cpu-avx2"},
        }
        box.boot()
        assert box.posts() == []

    def test_another_profile_is_kept_and_takes_a_restart(self, box: Box) -> None:
        """One that cannot serve is refused before anything is written; the one that serves needs none."""
        box.ask("set_profile", {"profile": "huge"})
        assert "its model is not here" in box.last()["reason"]
        assert not (box.folder / "remote.json").exists() or box.store.value.profile == ""
        box.ask("set_profile", {"profile": "auto"})
        assert box.last()["result"] == {"profile": "cpu-avx2", "restarted": False}
        box.ask("set_profile", {"profile": "cpu-minimal"})
        assert box.control.restart
        assert RemoteStore(box.folder / "remote.json").value.profile == "cpu-minimal"


class TestDesired:
    """`down/config` to `up/config`."""

    def test_it_is_applied_reported_and_kept(self, box: Box) -> None:
        """Also over a restart."""
        assert box.kept[TOPICS.config]["version"] == 0
        box.hear(TOPICS.desired, {"version": 3, "desired": {"endpoint": {"silence_ms": 900}}}, retain=True)
        assert box.hands.did[-1].endpoint.silence_ms == 900
        box.boot()
        report = box.kept[TOPICS.config]
        assert (report["version"], report["reported"]["endpoint"]["silence_ms"]) == (3, 900)
        box.hear(TOPICS.desired, {"version": 3, "desired": {"endpoint": {"silence_ms": 900}}}, retain=True)
        assert box.hands.did == []

    def test_what_takes_a_restart_is_pending_with_its_old_value(self, box: Box) -> None:
        """`reported` is what holds now."""
        box.hands.pending = ("recognition.language",)
        box.hear(TOPICS.desired, {"version": 1, "desired": {"recognition": {"language": "zh"}}})
        report = box.kept[TOPICS.config]
        assert report["pending"] == ["recognition.language"]
        assert report["reported"]["recognition"]["language"] == "en"
        box.boot()
        assert box.kept[TOPICS.config]["reported"]["recognition"]["language"] == "zh"
        assert box.kept[TOPICS.config]["pending"] == []

    def test_junk_and_old_versions_change_nothing(self, box: Box) -> None:
        """Refused in the report; a removed document is no document."""
        box.hear(TOPICS.desired, {"version": 2, "desired": {"device": {"site": "a"}}})
        did = list(box.hands.did)
        for body in (
            b"{",
            {"version": 1, "desired": {}},
            {"version": 2, "desired": {"device": {"site": "b"}}},
            b"",
        ):
            box.hear(TOPICS.desired, body)
        assert box.hands.did == did
        assert box.kept[TOPICS.config]["version"] == 2

    def test_a_damaged_file_is_forgotten(self, box: Box) -> None:
        """Better the configuration file alone than no start."""
        (box.folder / "remote.json").write_bytes(b'{"version": "x"')
        box.boot()
        assert box.kept[TOPICS.config]["version"] == 0

    def test_values_that_a_newer_version_no_longer_takes_are_named(self, tmp_path: Path) -> None:
        """They do not keep it from starting."""
        remote = {"version": 7, "values": {"endpoint.silence_ms": 5, "gone.key": 1, "device.site": "x"}}
        (tmp_path / "remote.json").write_text(json.dumps(remote))
        report = Box(tmp_path).kept[TOPICS.config]
        assert {entry["key"] for entry in report["rejected"]} == {"endpoint.silence_ms", "gone.key"}
        assert report["reported"]["device"]["site"] == "x"


def test_a_full_disk_does_not_stop_a_mute(box: Box) -> None:
    """It holds until the end, and a profile that would be forgotten is refused."""
    box.store.change = lambda **_: False
    box.ask("mute")
    assert box.hands.muted
    box.ask("set_profile", {"profile": "cpu-minimal"})
    assert "forgotten" in box.last()["reason"]


def test_merged_values_are_a_whole_configuration() -> None:
    """What is set from afar never loses a key of the file."""
    base = with_values(Config(), {"mqtt.url": "mqtts://broker:8883", "endpoint.probe_ms": 100}, "test")
    merged = with_values(base, {"endpoint.silence_ms": 700}, "test")
    assert msgspec.structs.replace(merged.endpoint, silence_ms=None) == base.endpoint
    assert merged.mqtt == base.mqtt
