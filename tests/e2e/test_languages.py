"""Several languages at one microphone, real speech through the whole agent: detected, pinned from afar."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent import config as configuration
from edge_agent.app import Agent
from edge_agent.audio.recording import FileSource
from edge_agent.clock import SystemClock
from edge_agent.meaning import wish_of
from edge_agent.mqtt.contract import validate
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.opening import open_recogniser
from edge_agent.verbs.common import models_dir
from tests.benchmarks.score import errors
from tests.broker import Subscriber, wait_until
from tests.corpus import Clip, clips
from tests.e2e.agent_process import AgentProcess
from tests.e2e.commander import Commander

SETS = {"en": "en_read_kathleen", "de": "de_read_kerstin", "zh": "zh_read_aishell_S0150"}


def spoken(languages: str) -> list[Clip]:
    """A sentence for each, another one each time."""
    fit = {language: [c for c in clips(set=SETS[language]) if 2.0 < c.duration_s < 4.0] for language in SETS}
    return [fit[language].pop(0) for language in languages.split()]


def finals(
    said: list[Clip], language: str, broker: PrivateBroker, subscriber: Subscriber, state: Path
) -> list[dict]:
    """What the agent makes of them, as fast as it can."""
    clock = SystemClock()
    config = configuration.load(None, [f"recognition.language={language}"])
    config = configuration.with_broker(config, broker.url, "box")
    opened = open_recogniser(wish_of(config, models_dir()))
    source = FileSource([clip.path for clip in said], clock=clock, gap_s=1.5, paced=False)
    agent = Agent(
        config,
        device_id="box",
        recogniser=opened,
        source=source,
        state_dir=state,
        report_path=None,
        clock=clock,
    )
    agent.start()
    try:
        wait_until(lambda: agent.tick() is not None and agent.ended, 120, "the end of the recordings")
        assert agent.wait_delivered(30)
        wait_until(lambda: len(subscriber.on("/final")) == agent.scribe.statistics().finals, 30, "the finals")
    finally:
        agent.stop()
        opened.engine.close()
    for message in subscriber.on("/transcript/final"):
        validate("transcript", message.payload)
    return [message.body for message in subscriber.on("/transcript/final")]


@pytest.mark.parametrize("language", ['["en", "de", "zh"]', pytest.param('"auto"', marks=pytest.mark.slow)])
def test_each_sentence_is_heard_in_its_own_language(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, language: str
) -> None:
    """Detected on the utterance itself, with its probability in the message; the words are of that language.

    Two in a row make a habit, and a clear sentence in another language still breaks it.
    """
    said = spoken("en en de de zh zh en")
    told = finals(said, language, broker, subscriber, tmp_path)
    assert [one["language"] for one in told] == [clip.language for clip in said]
    assert all(0.5 < one["language_probability"] <= 1 for one in told)
    for clip, one in zip(said, told, strict=True):
        assert errors(clip.text, one["text"], clip.language).rate <= 0.5, (clip.text, one["text"])


def test_what_is_not_allowed_is_not_detected(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """A list is a promise: German in a room of English and Chinese is written as one of these."""
    told = finals(spoken("en de zh"), '["en", "zh"]', broker, subscriber, tmp_path)
    assert [one["language"] for one in told][::2] == ["en", "zh"]
    assert told[1]["language"] in {"en", "zh"}


def test_a_language_can_be_pinned_and_freed_from_afar(tmp_path: Path, broker: PrivateBroker) -> None:
    """`recognition.language`, desired, holds from the next utterance on, without a restart."""
    (clip,) = spoken("de")
    settings = (
        f'mqtt.url="{broker.url}"',
        'device.id="box"',
        f'audio.source="file:{clip.path}?loop=1"',
        'recognition.language=["en", "de"]',
    )

    def heard(language: str, after: int) -> list[dict]:
        found = [message.body for message in fleet.on("/transcript/final")[after:]]
        return [one for one in found if one["language"] == language]

    with Commander(broker.port) as fleet, AgentProcess(tmp_path / "state", *settings) as agent:
        wait_until(lambda: heard("de", 0), 60, "a German final")
        fleet.desire(1, {"recognition": {"language": "en"}})
        wait_until(lambda: heard("en", 0), 60, "a final in the pinned language")
        pinned = len(fleet.on("/transcript/final"))
        assert heard("en", 0)[0]["language_probability"] == 1
        fleet.desire(2, {"recognition": {"language": ["en", "de"]}})
        wait_until(lambda: heard("de", pinned), 60, "a German final again")
        assert fleet.config()["pending"] == []
        assert agent.terminate() == 0, agent.log
