"""The whole agent behind a gate: nothing is said of speech that nobody asked for."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.files import read_audio
from edge_agent.mqtt.contract import validate
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.types import SAMPLE_RATE_HZ, PcmFloat
from tests.benchmarks.score import errors
from tests.broker import Subscriber, wait_until
from tests.corpus import Clip, clips
from tests.e2e.agent_process import AgentProcess, edge_agent
from tests.e2e.commander import Commander
from tests.tiny_onnx import tone, tone_model


def sentences(count: int) -> list[Clip]:
    """Short ones, each another."""
    return [clip for clip in clips(set="en_read_kathleen") if 1.5 < clip.duration_s < 2.2][:count]


def recording(path: Path, *parts: Clip | float | PcmFloat) -> Path:
    """Sentences, seconds of silence and other sounds, one after the other."""
    sounds = []
    for part in parts:
        if isinstance(part, Clip):
            sounds.append(read_audio(part.path))
        else:
            sounds.append(
                np.zeros(int(part * SAMPLE_RATE_HZ), np.float32) if isinstance(part, float) else part
            )
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(np.concatenate(sounds), -1, 1) * 32767).astype("<i2").tobytes())
    return path


def settings(broker: PrivateBroker, sound: Path, *more: str) -> tuple[str, ...]:
    source = f'audio.source="file:{sound}"'
    return (f'mqtt.url="{broker.url}"', 'device.id="box"', "mqtt.events=true", source, *more)


def events(heard: Commander | Subscriber) -> list[str]:
    for message in heard.on("/up/event"):
        validate("event", message.payload)
    return [message.body["type"] for message in heard.on("/up/event")]


def finals(heard: Commander | Subscriber) -> list[dict]:
    for message in heard.on("/transcript/final"):
        validate("transcript", message.payload)
    return [message.body for message in heard.on("/transcript/final")]


def test_only_what_follows_the_command_is_told(tmp_path: Path, broker: PrivateBroker) -> None:
    """One sentence again and again: silence until `listen`, then one final, then silence again."""
    (clip,) = sentences(1)
    sound = recording(tmp_path / "again.wav", clip, 1.2)
    loop = f'audio.source="file:{sound}?loop=1"'
    with (
        Commander(broker.port) as fleet,
        AgentProcess(tmp_path / "state", *settings(broker, sound, loop, 'gate.mode="command"')) as agent,
    ):
        wait_until(lambda: fleet.on("box/up/status") and fleet.state() == "online", 60, "online")
        # The sentence is spoken once more, at least, before the command: a second self-test takes longer.
        assert fleet.ask("self_test", timeout_s=60)["result"]["passed"]
        assert not fleet.on("/up/transcript/partial")
        assert not finals(fleet)
        assert fleet.ask("listen", {"channel": 1})["reason"].startswith("there is no channel 1")
        assert fleet.ask("listen")["state"] == "done"
        wait_until(lambda: "listen_end" in events(fleet), 60, "the end of listening")
        wait_until(lambda: finals(fleet), 30, "the final")
        assert events(fleet)[0] == "listen_start"
        assert fleet.ask("self_test", timeout_s=60)["result"]["passed"]
        assert len(finals(fleet)) == 1
        assert agent.terminate() == 0, agent.log
    (final,) = finals(fleet)
    assert final["seq"] == 1
    assert "wake" not in final


def test_a_wake_word_lets_the_next_sentence_through(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """What was said before it and after the answer stays in the room; the score goes with the transcript."""
    before, asked, after = sentences(3)
    word = tone_model(tmp_path / "ding.onnx")
    sound = recording(tmp_path / "said.wav", before, 0.8, tone(0.5), 0.4, asked, 0.9, after, 0.8)
    gate = ('gate.mode="wake"', f'gate.model="{word}"')
    with AgentProcess(tmp_path / "state", *settings(broker, sound, *gate)) as agent:
        assert agent.process.wait(90) == 0, agent.log  # the recording ends
    wait_until(lambda: finals(subscriber), 30, "the final")
    (final,) = finals(subscriber)
    assert errors(asked.text, final["text"], "en").rate < 0.5
    assert final["wake"]["word"] == "ding"
    assert final["wake"]["score"] > 0.5
    (wake,) = (message.body for message in subscriber.on("/up/event") if message.body["type"] == "wake")
    assert wake["word"] == "ding"
    assert wake["score"] > 0.5
    assert {message.body["id"] for message in subscriber.on("/transcript/partial")} <= {final["id"]}


@pytest.mark.parametrize(
    ("gate", "cause"),
    [
        (('gate.mode="wake"',), "gate.mode"),
        (('gate.mode="wake"', 'gate.model="/nowhere/word.onnx"'), "there is no file /nowhere/word.onnx"),
        (('gate.mode="sometimes"',), "gate.mode"),
    ],
)
def test_a_gate_that_cannot_work_is_refused_at_the_start(
    tmp_path: Path, broker: PrivateBroker, gate: tuple[str, ...], cause: str
) -> None:
    """Exit code 78 and one line: a service manager does not try again."""
    sound = recording(tmp_path / "silence.wav", 0.5)
    wanted = [part for one in settings(broker, sound, *gate) for part in ("--set", one)]
    done = edge_agent("run", *wanted, EDGE_AGENT_STATE=str(tmp_path / "state"))
    assert done.returncode == 78, done.stderr
    assert cause in done.stderr
    assert "Traceback" not in done.stderr
