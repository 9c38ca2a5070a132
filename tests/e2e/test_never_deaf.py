"""Speech during a decode, right after a final and across a broker outage is all transcribed."""

from __future__ import annotations

import threading
import time
import wave
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent import config as configuration
from edge_agent.app import Agent
from edge_agent.audio.files import read_audio
from edge_agent.audio.recording import FileSource
from edge_agent.clock import SystemClock
from edge_agent.engine.base import Engine
from edge_agent.meaning import wish_of
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.opening import open_recogniser
from edge_agent.types import SAMPLE_RATE_HZ, DecodeOptions, Hypothesis, PcmFloat
from edge_agent.verbs.common import models_dir
from tests.benchmarks.score import errors
from tests.broker import Subscriber, wait_until
from tests.corpus import clips


class Slow:
    """A real engine on a slower machine."""

    def __init__(self, engine: Engine, more_s: float) -> None:
        self._engine, self._more_s = engine, more_s
        self.info = engine.info

    def warm_up(self) -> None:
        self._engine.warm_up()

    def close(self) -> None:
        self._engine.close()

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        time.sleep(self._more_s)
        return self._engine.transcribe(pcm, options=options, draft=draft)


def write(path: Path, sound: PcmFloat) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize("more_s", [1.5, pytest.param(0.0, marks=pytest.mark.slow)])
def test_all_is_transcribed(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, more_s: float
) -> None:
    """Five sentences; a decode takes a second and a half more, so each begins while another is decoded.

    The second begins in the pause of the first (the early decode runs), the third 60 ms after the endpoint,
    which, where decodes take no longer, is right after the final; while the fourth is spoken the broker is
    away.
    """
    chosen = [clip for clip in clips(set="en_read_kathleen") if 1.8 < clip.duration_s < 3.0][:5]
    sound = []
    for clip, pause_s in zip(chosen, (0.35, 0.66, 0.8, 0.9, 1.5), strict=True):
        sound += [read_audio(clip.path), np.zeros(int(pause_s * SAMPLE_RATE_HZ), np.float32)]
    clock = SystemClock()
    config = configuration.with_broker(configuration.load(None, []), broker.url, "box")
    opened = open_recogniser(wish_of(config, models_dir()))
    agent = Agent(
        config,
        device_id="box",
        recogniser=msgspec.structs.replace(opened, engine=Slow(opened.engine, more_s)),
        source=FileSource([write(tmp_path / "five.wav", np.concatenate(sound))], clock=clock),
        state_dir=tmp_path,
        report_path=None,
        clock=clock,
    )
    agent.start()
    outage = threading.Timer(8.0, broker.stop)
    outage.start()
    try:
        wait_until(lambda: agent.tick() is not None and agent.ended, 60, "the end of the recording")
        outage.join()
        broker.restart()
        assert agent.wait_delivered(70)  # after an outage a try may be a minute away
        sent = agent.scribe.statistics().finals
    finally:
        agent.stop()
        opened.engine.close()
    assert agent.failure is None
    wait_until(lambda: len({one.body["seq"] for one in subscriber.on("/final")}) >= sent, 15, "all finals")
    finals = {one.body["seq"]: one.body for one in subscriber.on("/transcript/final")}
    assert sorted(finals) == list(range(min(finals), max(finals) + 1))
    assert not subscriber.on("/gap")
    text = " ".join(finals[seq]["text"] for seq in sorted(finals))
    assert errors(" ".join(clip.text for clip in chosen), text, "en").rate < 0.15
    assert len(finals) >= 3
