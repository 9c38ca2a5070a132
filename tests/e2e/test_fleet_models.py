"""Signed models in the real agent: switched, watched, given up, survived. Real broker, real models."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.fleet.bundle import Target
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.verbs.common import models_dir
from tests.broker import wait_until
from tests.e2e.agent_process import AgentProcess
from tests.e2e.commander import Commander
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


def told(fleet: Commander) -> dict:
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
        config = fleet.config()
        assert config["reported"]["fleet"]["model"] == "small"
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


@pytest.mark.parametrize("how", ["kill", "broker"])
def test_a_trial_that_goes_wrong_ends_within_a_minute(
    home: Home, made: Path, tmp_path: Path, how: str
) -> None:
    """The process is killed, or the broker is gone: the model before serves again."""
    with PrivateBroker() as broker:
        home = Home(tmp_path / "other", made, broker)
        with Commander(broker.port) as fleet, home.agent as agent:
            begin(fleet, agent)
            desire(fleet, "small", 1, trial_min=30)
            wait_for(fleet, "trial", agent)
            wait_until(lambda: fleet.on("/final")[-1].body["model"].startswith("small.v1@"), 60, agent.log)
            began = time.monotonic()
            if how == "kill":
                agent.kill()
                agent.start()
            else:
                broker.kill()
                state = home.place / "state/fleet/activation.json"
                wait_until(lambda: json.loads(state.read_bytes())["phase"] != "trial", 90, agent.log)
                print(f"\nbroker: the model before was back after {time.monotonic() - began:.1f} s")
                broker.start()
            count = len(fleet.on("/final"))
            wait_until(
                lambda: [
                    m for m in fleet.on("/final")[count:] if m.body["model"].startswith("whisper-base@")
                ],
                90,
                agent.log,
            )
            print(f"\n{how}: the model before served again after {time.monotonic() - began:.1f} s")
