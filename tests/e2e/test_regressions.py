"""Valid signatures, worse models: real ones, made worse, never come to serve; a roll-out stops at the first.

None of them is damaged: each is whole, signed, and would serve if nobody listened to it first.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent import stagehand
from edge_agent.backstage import Answer, Rehearse, Stage
from edge_agent.fleet.bundle import Target
from edge_agent.fleet.judge import Promise, rehearsal
from edge_agent.fleet.rings import begin
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.verbs.common import models_dir
from tests import regressing
from tests.broker import wait_until
from tests.e2e.agent_process import AgentProcess
from tests.e2e.commander import Commander
from tests.e2e.test_rollout import finish, start
from tests.fleet_devices import Devices
from tests.provisioned import load

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE = REPOSITORY / "edge_agent/samples/find_a_way_out.flac"
CHINESE = REPOSITORY / "tests/speech/audio/zh_read_aishell_S0150/BAC009S0150W0465.flac"
ENGLISH_GOLDEN = {
    "file": "golden/way.flac",
    "language": "en",
    "text": "let us talk it over and find a way out",
}
CHINESE_GOLDEN = {"file": "golden/zh.flac", "language": "zh", "text": "现在孩子的情绪稳定多了"}
PROMISE = Promise(rtf_max=1.0, ram_max_mb=4000)


class Publisher:
    """A repository, and one device's store that trusts it."""

    def __init__(self, home: Path) -> None:
        self._tool = load("fleet/repository.py")
        self.repository, self.models = home / "repo", home / "models"
        self.root = self.repository / "metadata/1.root.json"
        self._home, self._keys = home, home / "keys"
        self._tool.Repository.create(self.repository, self._tool.Keys(self._keys))
        self.models.mkdir()
        for name in ("whisper-base", "whisper-tiny.en"):
            (self.models / name).symlink_to(models_dir() / name)

    def sign(self, target: Target, source: Path, golden: dict, **about: object) -> None:
        """Sign a directory, which is used up."""
        (source / "golden").mkdir()
        clip = SAMPLE if golden["language"] == "en" else CHINESE
        shutil.copyfile(clip, source / golden["file"])
        about = {"languages": [golden["language"]], "golden": [golden], **about}
        repository = self._tool.Repository(self.repository, self._tool.Keys(self._keys)).load()
        repository.add(target, source, about)
        shutil.rmtree(source)

    def source(self, model: str) -> Path:
        """The published files of a model, to be signed."""
        to = self._home / f"source-{model}"
        shutil.copytree(models_dir() / model / "source", to, ignore=shutil.ignore_patterns("manifest.json"))
        return to

    def worse(self, how: str) -> Path:
        """whisper-base, made worse."""
        base, to = models_dir() / "whisper-base/source", self._home / f"source-{how}"
        if how == "words":
            return regressing.other_words(base, to)
        layers = {"slow": {"encoder": 15, "decoder": 15}, "large": {"encoder": 60}}[how]
        return regressing.deeper(base, to, **layers)

    def judge(self, target: Target, language: str) -> str:
        """What a device with whisper-base says of it, by the same steps and processes as the service."""
        job = Stage(
            target=target,
            root_file=str(self.root),
            mirrors=(str(self.repository),),
            models_dir=str(self.models),
            fleet_dir=str(self._home / "fleet"),
            serving=(target,),
            language=language,
        )
        staged = stagehand.run(job, limit_s=300, stop=threading.Event())
        assert staged.bundle is not None, staged.error
        now = self._heard(target, language, (target,))
        if now.measured is None:
            return now.error
        before = self._heard(target, language, ())
        print(f"\n{target}: {now.measured}\nbefore: {before.measured or before.error}")
        return rehearsal(now.measured, before.measured, PROMISE, staged.bundle.expect)

    def _heard(self, golden_of: Target, language: str, serving: tuple[Target, ...]) -> Answer:
        job = Rehearse(
            models_dir=str(self.models),
            fleet_dir=str(self._home / "fleet"),
            serving=serving,
            golden_of=golden_of,
            model="whisper-base",
            language=language,
        )
        return stagehand.run(job, limit_s=300, stop=threading.Event())


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(tmp_path_factory.mktemp("publisher"))


@pytest.mark.timeout(240)
def test_other_words_do_not_pass_the_rehearsal(publisher: Publisher) -> None:
    """whisper-base with its words mixed: it hears as well as before, and says other ones."""
    words = Target(name="words", version=1)
    publisher.sign(words, publisher.worse("words"), ENGLISH_GOLDEN)
    assert "of the words came out" in publisher.judge(words, "en")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "golden", "languages", "why"),
    [
        ("english", ENGLISH_GOLDEN, ["en"], "does not know zh"),
        ("said", CHINESE_GOLDEN, ["zh"], "does not know zh"),
        ("untried", ENGLISH_GOLDEN, ["zh"], "no golden recording in zh"),
    ],
    ids=["honest", "signed as Chinese", "untried"],
)
def test_an_english_model_does_not_come_to_a_chinese_device(
    publisher: Publisher, name: str, golden: dict, languages: list[str], why: str
) -> None:
    """whisper-tiny.en in the place of a multilingual model, whatever its document says of it."""
    target = Target(name=name, version=1)
    publisher.sign(target, publisher.source("whisper-tiny.en"), golden, languages=languages)
    assert why in publisher.judge(target, "zh")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_model_passes_the_rehearsal(publisher: Publisher) -> None:
    """What is as good as before is not taken for worse: whisper-base itself, in both languages."""
    for golden in (ENGLISH_GOLDEN, CHINESE_GOLDEN):
        same = Target(name=f"same-{golden['language']}", version=1)
        publisher.sign(same, publisher.source("whisper-base"), golden)
        assert publisher.judge(same, golden["language"]) == ""


class Kiosk:
    """The real agent beside ninety-nine scripted ones, chosen to be the first of a roll-out."""

    def __init__(self, broker: PrivateBroker, publisher: Publisher, place: Path) -> None:
        self.agent = AgentProcess(
            place / "state",
            f'mqtt.url="{broker.url}"',
            'device.id="box"',
            f'audio.source="file:{SAMPLE}?loop=1"',
            f'fleet.root_file="{publisher.root}"',
            f"fleet.mirrors={json.dumps([str(publisher.repository)])}",
            "fleet.trial_min=0.05",
            EDGE_AGENT_MODELS=str(publisher.models),
        )


@pytest.fixture
def kiosk(publisher: Publisher, broker: PrivateBroker, tmp_path: Path) -> Iterator[Kiosk]:
    made = Kiosk(broker, publisher, tmp_path)
    with made.agent:
        yield made


def first_for(name: str, devices: Devices) -> Target:
    """A number of the bundle with which the roll-out begins at the real agent."""
    known = ["box", *(device.name for device in devices.all)]
    numbers = (Target(name=name, version=version) for version in range(1, 10_000))
    return next(target for target in numbers if begin(target, known).order[0] == "box")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("how", "why", "about"),
    [
        ("words", "of the words came out", {}),
        ("slow", "s per second of speech", {}),
        ("large", " MB, ", {"expect": {"rtf_max": 0.4}}),
    ],
    ids=["other words", "three times slower", "twice the memory"],
)
def test_a_rollout_of_a_worse_model_stops_at_the_first_device(
    publisher: Publisher, broker: PrivateBroker, kiosk: Kiosk, tmp_path: Path, how: str, why: str, about: dict
) -> None:
    """The kiosk goes on with its model, says why, and no other device is told."""
    with Devices(broker.port, 99) as devices, Commander(broker.port) as fleet:
        target = first_for(how, devices)
        publisher.sign(target, publisher.worse(how), ENGLISH_GOLDEN, **about)
        wait_until(lambda: fleet.on("box/up/transcript/final"), 120, kiosk.agent.log)
        began = time.monotonic()
        code, told = finish(start(broker, tmp_path / "rollout.json", target=target), 600)
        print(f"\n{how}: stopped after {time.monotonic() - began:.0f} s: {told['reason']}")
        assert (code, told["phase"], told["ring"]) == (1, "stopped", 1)
        assert told["reason"].startswith("1 of 1 devices failed in ring 1; box: ")
        assert why in told["reason"]
        assert devices.touched() == []
        count = len(fleet.on("box/up/transcript/final"))
        wait_until(lambda: len(fleet.on("box/up/transcript/final")) > count, 60, kiosk.agent.log)
        heard = fleet.on("box/up/transcript/final")
        assert {message.body["model"].partition("@")[0] for message in heard} == {"whisper-base"}
