"""Signed models in the real agent: switched, watched, given up, survived. Real broker, real models."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.fleet.bundle import Target
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.verbs.common import models_dir
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess
from tests.e2e.commander import Commander, command
from tests.provisioned import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SAMPLES = Path(__file__).resolve().parents[2] / "edge_agent/samples"
WORDS = "let us talk it over and find a way out"


class Home:
    """One device with its own store, and the repository it trusts."""

    def __init__(self, place: Path, made: Path, broker: PrivateBroker) -> None:
        self.place, self.repository = place, made / "repo"
        self.models = place / "models"
        self.models.mkdir(parents=True)
        (self.models / "whisper-base").symlink_to(models_dir() / "whisper-base")
        mirrors = json.dumps([str(self.repository)])
        self.agent = AgentProcess(
            place / "state",
            f'mqtt.url="{broker.url}"',
            'device.id="box"',
            f'audio.source="file:{SAMPLES / "find_a_way_out.flac"}?loop=1"',
            f'fleet.root_file="{made / "repo/metadata/1.root.json"}"',
            f"fleet.mirrors={mirrors}",
            "fleet.trial_min=0.05",
            EDGE_AGENT_MODELS=str(self.models),
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with tiny.en as `small` 1, as `dumb` 1 with impossible words, as `heavy` 1 too slow."""
    tool, home = load("fleet/repository.py"), tmp_path_factory.mktemp("fleet")
    repository = tool.Repository.create(home / "repo", tool.Keys(home / "keys"))
    source = home / "source"
    shutil.copytree(models_dir() / "whisper-tiny.en/source", source)
    (source / "manifest.json").unlink()
    (source / "golden").mkdir()
    shutil.copyfile(SAMPLES / "find_a_way_out.flac", source / "golden/way.flac")
    clip = {"file": "golden/way.flac", "language": "en"}
    right = {"languages": ["en"], "golden": [{**clip, "text": WORDS}]}
    repository.add(Target(name="small", version=1), source, right)
    repository.add(Target(name="small", version=2), source, right)
    wrong = {"languages": ["en"], "golden": [{**clip, "text": "quite other words than those were said"}]}
    repository.add(Target(name="dumb", version=1), source, wrong)
    repository.add(Target(name="heavy", version=1), source, {**right, "expect": {"rtf_max": 0.001}})
    return home


@pytest.fixture(scope="module")
def place() -> Iterator[PrivateBroker]:
    """One broker for this file."""
    with PrivateBroker() as running:
        yield running


@pytest.fixture
def home(made: Path, place: PrivateBroker, tmp_path: Path) -> Home:
    return Home(tmp_path / "box", made, place)


def told(fleet: Commander | Subscriber) -> dict:
    """`up/info`'s newest word on the fleet's model."""
    found = fleet.on("box/up/info")
    return found[-1].body.get("fleet", {}) if found else {}


def wait_for(fleet: Commander, state: str, agent: AgentProcess, timeout_s: float = 120) -> dict:
    wait_until(
        lambda: told(fleet).get("state") == state, timeout_s, f"{state}: {told(fleet)} {agent.log[-3000:]}"
    )
    return told(fleet)


def begin(fleet: Commander, agent: AgentProcess) -> None:
    wait_until(lambda: fleet.on("box/up/transcript/final"), 150, agent.log)


_versions = iter(range(int(time.time()), 2**40))


def desire(fleet: Commander, name: str, version: int, **more: object) -> None:
    fleet.desire(next(_versions), {"fleet": {"model": name, "model_version": version, **more}})


def test_a_signed_model_comes_to_serve_and_stays(home: Home, place: PrivateBroker) -> None:
    """From wanted to serving while it listens: no word is lost, and a restart keeps it; then an upgrade."""
    with Commander(place.port) as fleet, home.agent as agent:
        begin(fleet, agent)
        before = fleet.on("/up/transcript/final")[-1].body["model"]
        desire(fleet, "small", 1)
        wait_for(fleet, "trial", agent)
        wait_for(fleet, "done", agent)
        assert before.startswith("whisper-base@")
        wait_until(lambda: fleet.on("/up/transcript/final")[-1].body["model"].startswith("small.v1@"), 30)
        wait_until(lambda: fleet.config()["reported"]["fleet"]["model"] == "small", 10)
        config = fleet.config()
        assert (config["pending"], config["rejected"]) == ([], [])
        numbers = [m.body["seq"] for m in fleet.on("/up/transcript/final")]
        gaps = [m.body["seq"] for m in fleet.on("/up/gap")]
        assert sorted(numbers + gaps) == list(range(1, len(numbers + gaps) + 1))
        agent.terminate(20)
        count = len(fleet.on("/up/transcript/final"))
        agent.start()
        wait_until(lambda: len(fleet.on("/up/transcript/final")) > count, 60, agent.log)
        assert fleet.on("/up/transcript/final")[-1].body["model"].startswith("small.v1@")
        desire(fleet, "small", 2)
        wait_until(lambda: (told(fleet).get("current") or {}).get("version") == 2, 120, agent.log)
        desire(fleet, "small", 1)
        assert "older than 2" in wait_for(fleet, "failed", agent)["reason"]
        assert agent.process.poll() is None


def test_what_regresses_is_not_even_tried(home: Home, place: PrivateBroker) -> None:
    """Valid signatures, wrong words or too slow: refused by the rehearsal, the old model serves on."""
    with Commander(place.port) as fleet, home.agent as agent:
        begin(fleet, agent)
        for name, why in (("dumb", "of the words came out"), ("heavy", "s per second of speech")):
            desire(fleet, name, 1)
            wait_until(lambda name=name: (told(fleet).get("wanted") or {}).get("model") == name, 30)
            reason = wait_for(fleet, "failed", agent)["reason"]
            assert why in reason
            wait_until(
                lambda reason=reason: [{"key": "fleet.model", "why": reason}] == fleet.config()["rejected"],
                30,
            )
        assert fleet.on("/up/transcript/final")[-1].body["model"].startswith("whisper-base@")


def test_an_unsigned_wish_is_refused_within_seconds(home: Home, place: PrivateBroker) -> None:
    """A name that is not in the signed list: told soon, and nothing changes."""
    with Commander(place.port) as fleet, home.agent as agent:
        begin(fleet, agent)
        began = time.monotonic()
        desire(fleet, "stranger", 7)
        assert "no signed model stranger 7" in wait_for(fleet, "waiting", agent)["reason"]
        print(f"\nrefusal told after {time.monotonic() - began:.1f} s")
        assert fleet.on("/up/transcript/final")[-1].body["model"].startswith("whisper-base@")


def in_trial(home: Home, fleet: Commander, agent: AgentProcess) -> None:
    """`small` 1 serves, on trial for half an hour."""
    begin(fleet, agent)
    desire(fleet, "small", 1, trial_min=30)
    wait_for(fleet, "trial", agent)
    wait_until(lambda: committed(home)[-1]["model"].startswith("small.v1@"), 60, agent.log)


def committed(home: Home) -> list[dict]:
    """The finals in the outbox, told to the broker or not."""
    with closing(sqlite3.connect(f"file:{home.place}/state/outbox.sqlite3?mode=ro", uri=True)) as box:
        return [json.loads(row[0]) for row in box.execute("SELECT payload FROM rows WHERE kind = 'final'")]


def serves(home: Home, model: str, after_seq: int) -> bool:
    """A final after that one is this model's."""
    last = committed(home)[-1]
    return last["seq"] > after_seq and last["model"].startswith(f"{model}@")


def nothing_lost(fleet: Subscriber, home: Home) -> bool:
    """Every number up to the newest committed one has come, as a final or as a gap."""
    numbers = {m.body["seq"] for suffix in ("/up/transcript/final", "/up/gap") for m in fleet.on(suffix)}
    return numbers >= set(range(1, committed(home)[-1]["seq"] + 1))


def state_of(home: Home) -> dict:
    return json.loads((home.place / "state/fleet/activation.json").read_bytes())


def test_a_process_killed_in_a_trial_serves_the_model_before(
    home: Home, place: PrivateBroker, tmp_path: Path
) -> None:
    """At its next start, whatever started it."""
    with Commander(place.port) as fleet, home.agent as agent:
        in_trial(home, fleet, agent)
        began, seq = time.monotonic(), committed(home)[-1]["seq"]
        agent.kill()
        agent.start()
        wait_until(lambda: serves(home, "whisper-base", seq), 60, agent.log)
        print(f"\nkilled: the model before served again after {time.monotonic() - began:.1f} s")


@pytest.mark.parametrize("how", ["killed", "silent"])
def test_a_broker_lost_in_a_trial_brings_the_model_before_within_a_minute(
    made: Path, tmp_path: Path, how: str
) -> None:
    """Gone with a reset, or there and mute (the connection stands and brings nothing): a final of the model
    before is committed within a minute of the broker's end; it says why; nothing that was said is lost."""
    with PrivateBroker() as broker:
        home = Home(tmp_path / "box", made, broker)
        with Subscriber(broker.port) as heard, Commander(broker.port) as fleet, home.agent as agent:
            in_trial(home, fleet, agent)
            began, seq = time.monotonic(), committed(home)[-1]["seq"]
            broker.kill() if how == "killed" else os.kill(broker.pid or 0, signal.SIGSTOP)
            wait_until(lambda: serves(home, "whisper-base", seq), 60, agent.log)
            print(f"\n{how} broker: the model before served after {time.monotonic() - began:.1f} s")
            state = state_of(home)
            assert (state["phase"], state["tries"]) == ("idle", {"small 1": 1})
            assert "in its trial the broker was away for" in state["reason"]
            assert state["spent"] == {}, "what may be chance is tried again"
            broker.start() if how == "killed" else os.kill(broker.pid or 0, signal.SIGCONT)
            wait_until(lambda: nothing_lost(heard, home), 60, agent.log)
            wait_until(lambda: "the broker was away" in told(heard).get("reason", ""), 60, agent.log)
            print(f"{how} broker: told the fleet after {time.monotonic() - began:.1f} s")


def test_a_broker_that_restarts_does_not_end_a_trial(made: Path, tmp_path: Path) -> None:
    """Twenty seconds away, and tried often enough to be found at once: the trial goes on."""
    with PrivateBroker() as broker:
        home = Home(tmp_path / "box", made, broker)
        with Subscriber(broker.port) as heard, Commander(broker.port) as fleet, home.agent as agent:
            in_trial(home, fleet, agent)
            broker.kill()
            away = time.monotonic() + 20
            wait_until(lambda: time.monotonic() > away, 30)
            broker.start()
            count = len(heard.on("/up/status"))
            wait_until(lambda: len(heard.on("/up/status")) > count, 10, agent.log)
            until = time.monotonic() + 30
            wait_until(lambda: time.monotonic() > until, 60)
            assert state_of(home)["phase"] == "trial", agent.log[-2000:]
            assert committed(home)[-1]["model"].startswith("small.v1@")


def test_another_wish_does_not_end_a_trial(made: Path, tmp_path: Path) -> None:
    """A profile that is wanted as well, another length for the next trial: this one goes on, on its try."""
    with PrivateBroker() as broker:
        home = Home(tmp_path / "box", made, broker)
        with Commander(broker.port) as fleet, home.agent as agent:
            in_trial(home, fleet, agent)
            desire(fleet, "small", 1, trial_min=20, profile="stranger", profile_version=1)
            until = time.monotonic() + 8
            wait_until(lambda: time.monotonic() > until, 20)
            state = state_of(home)
            assert (state["phase"], state["tries"]) == ("trial", {"small 1": 1}), agent.log[-2000:]
            desire(fleet, "small", 2, trial_min=0.05)
            wait_until(lambda: (told(fleet).get("current") or {}).get("version") == 2, 120, agent.log)
            assert state_of(home)["tries"] == {"small 1": 1, "small 2": 1}


def test_no_try_is_spent_while_the_broker_is_away(made: Path, tmp_path: Path) -> None:
    """The bundle is fetched meanwhile; the rehearsal, which counts, waits for the broker."""
    with PrivateBroker() as broker:
        home = Home(tmp_path / "box", made, broker)
        with Subscriber(broker.port) as heard, Commander(broker.port) as fleet, home.agent as agent:
            begin(fleet, agent)
            shutil.move(made / "repo", made / "away")  # until the broker is gone
            try:
                desire(fleet, "small", 1)
                wait_for(fleet, "waiting", agent)
                broker.kill()
            finally:
                shutil.move(made / "away", made / "repo")
            wait_until(lambda: "the broker is away" in state_of(home)["reason"], 120, agent.log)
            assert state_of(home)["tries"] == {}
            broker.start()
            wait_until(lambda: told(heard).get("state") == "done", 180, agent.log)
            assert state_of(home)["tries"] == {"small 1": 1}


def test_a_command_brings_a_signed_model_once(made: Path, tmp_path: Path) -> None:
    """accepted, running, done, also across a restart; what is not signed or not good is refused with the
    reason; where the desired configuration names a model, that holds."""
    with PrivateBroker() as broker:
        home = Home(tmp_path / "box", made, broker)
        with Commander(broker.port) as fleet, home.agent as agent:
            begin(fleet, agent)
            stranger = fleet.ask("install_model", {"model": "stranger", "version": 7}, timeout_s=60)
            assert (stranger["state"], "no signed model stranger 7" in stranger["reason"]) == (
                "refused",
                True,
            )
            asked = fleet.send(command("install_model", {"model": "small", "version": 1}))
            wait_until(
                lambda: fleet.answers(asked)[-1:] and fleet.answers(asked)[-1]["state"] == "running", 20
            )
            other = fleet.ask("install_model", {"model": "small", "version": 2})
            assert "small 1 is being installed" in other["reason"]
            agent.terminate(20)
            agent.start()
            answer = fleet.last(asked, 150)
            assert (answer["state"], answer["result"]) == ("done", {"model": "small", "version": 1})
            assert [a["state"] for a in fleet.answers(asked)] == ["accepted", "running", "done"]
            wait_until(lambda: committed(home)[-1]["model"].startswith("small.v1@"), 30)
            dumb = fleet.ask("install_model", {"model": "dumb", "version": 1}, timeout_s=120)
            assert (dumb["state"], "of the words came out" in dumb["reason"]) == ("refused", True)
            assert committed(home)[-1]["model"].startswith("small.v1@")
            desire(fleet, "small", 1)
            wait_until(lambda: told(fleet).get("state") == "done", 30)
            managed = fleet.ask("install_model", {"model": "small", "version": 2})
            assert "the configuration wants small 1" in managed["reason"]
