"""Signed profiles and engines in the real agent: chosen, tried, refused, kept, as models are."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import msgspec
import pytest

from edge_agent.decoding.tokens import Tokenizer
from edge_agent.fleet.bundle import Kind, Target
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.opening import Wish, choose_profile
from edge_agent.verbs.common import models_dir
from tests.broker import wait_until
from tests.contract import test_trtllm
from tests.e2e.agent_process import AgentProcess
from tests.e2e.commander import Commander
from tests.e2e.test_rollout import finish, start
from tests.provisioned import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SAMPLE = Path(__file__).resolve().parents[2] / "edge_agent/samples/find_a_way_out.flac"
WORDS = "Let us talk it over and find a way out."


class Place:
    """A publisher and one device of his."""

    def __init__(self, home: Path, broker: PrivateBroker, *more: str, **environment: str) -> None:
        tool = load("fleet/repository.py")
        self.home = home
        self.repository = tool.Repository.create(home / "repo", tool.Keys(home / "keys"))
        mirrors = json.dumps([str(home / "repo")])
        self.agent = AgentProcess(
            home / "box/state",
            f'mqtt.url="{broker.url}"',
            'device.id="box"',
            f'audio.source="file:{SAMPLE}?loop=1"',
            f'fleet.root_file="{home / "repo/metadata/1.root.json"}"',
            f"fleet.mirrors={mirrors}",
            "fleet.trial_min=0.05",
            *more,
            **environment,
        )

    def sign(self, kind: Kind, name: str, version: int, source: Path) -> Target:
        target = Target(name=name, version=version, kind=kind)
        self.repository.add(target, source, {})
        return target

    def sign_profile(self, version: int, text: str) -> Target:
        source = self.home / f"profile-{version}"
        source.mkdir()
        (source / "kiosk.toml").write_text(text)
        return self.sign("profile", "kiosk", version, source)


_versions = iter(range(int(time.time()), 2**40))


def desire(fleet: Commander, target: Target) -> None:
    wish = {target.kind: target.name, f"{target.kind}_version": target.version}
    fleet.desire(next(_versions), {"fleet": wish})


def outcome(fleet: Commander, target: Target, agent: AgentProcess) -> dict:
    """What the device says at last of a wish."""

    def told() -> dict:
        found = fleet.on("box/up/info")
        return found[-1].body.get("fleet", {}).get(target.kind, {}) if found else {}

    def decided() -> bool:
        wanted = {target.kind: target.name, "version": target.version}
        return told().get("wanted") == wanted and told()["state"] in {"done", "failed"}

    wait_until(decided, 150, agent.log)
    return told()


def finals(fleet: Commander) -> list[dict]:
    return [message.body for message in fleet.on("/up/transcript/final")]


def test_a_signed_profile_comes_to_serve_and_bad_ones_do_not(tmp_path: Path, broker: PrivateBroker) -> None:
    """By a roll-out; its endpoint holds at once and after a restart. Wrong key or machine: refused."""
    device = Place(tmp_path, broker)
    usual = choose_profile(Wish(models_dir=models_dir()))[1].profile
    head = f'extends = "{usual.name}"\ndescription = "of the fleet"\n'
    longer_ms = usual.endpoint.silence_ms + 400
    good = device.sign_profile(1, f"{head}[endpoint]\nsilence_ms = {longer_ms}\n")
    misspelt = device.sign_profile(2, f"{head}[endpoint]\nsilense_ms = 700\n")
    foreign = device.sign_profile(3, f'{head}[match]\narch = ["riscv64"]\n')
    with device.agent as agent, Commander(broker.port) as fleet:
        wait_until(lambda: finals(fleet), 120, agent.log)
        before = finals(fleet)[0]
        code, told = finish(start(broker, tmp_path / "rollout.json", "--kind", "profile", target=good), 200)
        assert (code, told["phase"], told["done"]) == (0, "done", 1), told
        wait_until(lambda: finals(fleet)[-1]["profile"] == "kiosk.v1", 30, agent.log)
        slower_ms = finals(fleet)[-1]["latency_ms"]["total"] - before["latency_ms"]["total"]
        assert 300 < slower_ms < 900, "the endpoint of the new profile holds without a restart"
        wait_until(lambda: fleet.config()["reported"]["fleet"]["profile"] == "kiosk", 10)
        for target, why in ((misspelt, "silense_ms"), (foreign, "it is for riscv64")):
            desire(fleet, target)
            told = outcome(fleet, target, agent)
            assert (told["state"], why in told["reason"]) == ("failed", True), told
            assert finals(fleet)[-1]["profile"] == "kiosk.v1"
        count = len(finals(fleet))
        agent.terminate(20)
        agent.start()
        wait_until(lambda: len(finals(fleet)) > count, 60, agent.log)
        assert finals(fleet)[-1]["profile"] == "kiosk.v1"
        numbers = [m.body["seq"] for s in ("/up/transcript/final", "/up/gap") for m in fleet.on(s)]
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), "no word was lost on the way"


PROFILE = """extends = "base"
description = "TensorRT-LLM, by a stand-in"
[engine]
kind = "tensorrt-llm"
model = "whisper-base"
compute_type = "float16"
device = "cuda"
workers = 2
[decode]
speculation = "off"
"""


def test_a_signed_engine_serves_where_its_key_fits_and_nowhere_else(
    tmp_path: Path, broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT-LLM itself is a stand-in; keys, files, worker process, agent and broker are real."""
    tokens = tuple(Tokenizer(models_dir() / "whisper-base/prepared").encode(" " + WORDS))
    monkeypatch.setattr(test_trtllm, "TEXT", tokens)
    room = test_trtllm.Room(tmp_path)
    shutil.copy2(models_dir() / "whisper-base/source/model.bin", room.model / "model.bin")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/trt.toml").write_text(PROFILE)
    built = room.build()
    device = Place(
        tmp_path,
        broker,
        'recognition.profile="trt"',
        EDGE_AGENT_PROFILES=str(tmp_path / "profiles"),
        EDGE_AGENT_MODELS=str(tmp_path / "store"),
        EDGE_AGENT_TRTLLM_PYTHON=str(room.python("work")),
    )
    fits = device.sign("engine", "base-h100", 1, built)
    ada = msgspec.structs.replace(room.key, compute="8.9")
    strange = device.sign("engine", "base-l40s", 1, room.build(ada))
    with device.agent as agent, Commander(broker.port) as fleet:
        wait_until(lambda: finals(fleet), 120, agent.log)
        assert finals(fleet)[-1]["engine"] == "tensorrt-llm/float16"
        desire(fleet, strange)
        told = outcome(fleet, strange, agent)
        assert (told["state"], "compute is 8.9, here it is 9.0" in told["reason"]) == ("failed", True), told
        desire(fleet, fits)
        assert outcome(fleet, fits, agent)["state"] == "done"
        agent.terminate(20)
        shutil.rmtree(built)  # the one beside the model: from now on the fleet's alone can serve
        count = len(finals(fleet))
        agent.start()
        wait_until(lambda: len(finals(fleet)) > count, 60, agent.log)
        last = finals(fleet)[-1]
        assert (last["engine"], last["profile"], last["text"]) == ("tensorrt-llm/float16", "trt", WORDS)
