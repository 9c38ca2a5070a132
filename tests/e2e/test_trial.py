"""The second wall: a model that the rehearsal let through and that is slow where it counts: live."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.fleet.bundle import Expect
from edge_agent.fleet.judge import Link, Promise
from edge_agent.models.prepare import prepare
from edge_agent.models.store import ModelStore
from edge_agent.opening import Wish, open_recogniser
from edge_agent.partials import PartialConfig
from edge_agent.selftest import clip
from edge_agent.spare import Opener, Spares
from edge_agent.trial import Course, Trial
from edge_agent.types import DecodeOptions, Utterance
from edge_agent.verbs.common import models_dir
from edge_agent.work import Arrived, Errand, Work
from tests import regressing

CLOCK = SystemClock()


class Speaker:
    """Says the same sentence over and over in real time, to a real engine, on the thread that owns it."""

    def __init__(self, spares: Spares) -> None:
        self.spares, self.heard, self.finals = spares, lambda *_: None, 0
        self.work = Work(clock=CLOCK, queue_s=120, live=True, partials=PartialConfig(enabled=False))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._speak, self._serve)]

    def __enter__(self) -> Speaker:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.work.finish()
        for thread in self._threads:
            thread.join(30)

    def _speak(self) -> None:
        sound = clip()
        while not self._stop.wait(len(sound) / 16_000):
            now_ns = CLOCK.monotonic_ns()
            self.work.final(
                Utterance(
                    id=str(now_ns),
                    channel=0,
                    start_ns=now_ns - int(len(sound) / 16e-6),
                    speech_end_ns=now_ns,
                    start_utc_ms=0,
                    clock_synced=True,
                    pcm=sound,
                    cut="silence",
                )
            )

    def _serve(self) -> None:
        while not self._stop.is_set():
            piece = self.work.take(0.2)
            if isinstance(piece, Arrived):
                found = self.spares.transcribe(piece.utterance.pcm, options=DecodeOptions(beam=1))
                self.finals += 1
                self.heard(piece.utterance, found)
            elif isinstance(piece, Errand):
                piece.run()
            self.work.done()

    # -- as the steward sees the agent --------------------------------------------------------------------

    def counts(self) -> tuple[int, int, int]:
        return self.finals, 0, 0

    def link(self) -> Link:
        return Link(connected=True)

    def hurry(self, _seconds: float) -> None:
        pass


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Wish]:
    """whisper-base with seven times its layers, in a store of its own beside the real one."""
    (tmp_path / "whisper-base").symlink_to(models_dir() / "whisper-base")
    store = ModelStore(tmp_path)
    source = regressing.deeper(models_dir() / "whisper-base/source", tmp_path / "src", encoder=36, decoder=36)
    store.import_dir("slow", source)
    prepare("slow", store)
    yield Wish(models_dir=tmp_path, model="slow", at_once=1)
    shutil.rmtree(tmp_path / "slow")


def opener(wish: Wish) -> Opener:
    return lambda level: open_recogniser(wish, level)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_model_that_is_slow_on_live_speech_is_taken_back_within_a_minute(slow: Wish) -> None:
    """Words as right as before, several times the work: noticed after half a dozen utterances."""
    usual = opener(Wish(models_dir=models_dir(), model="whisper-base", at_once=1))
    opener(slow)(0).engine.close()  # its form is made before, as the staging does
    spares = Spares(usual, clock=CLOCK)
    spares.warm_up()
    with Speaker(spares) as agent:
        trial = Trial(spares, agent, CLOCK, stop=threading.Event(), ended=lambda: False)
        agent.heard = trial.heard
        deadline = time.monotonic() + 60
        while agent.finals < 7 and time.monotonic() < deadline:
            time.sleep(0.2)
        before = trial.begin(opener(slow), takes_mb=600)
        assert spares.recogniser.model_name.startswith("slow@")
        began = time.monotonic()
        verdict = trial.watch(
            before, Course(trial_s=600, expect=Expect(), promise=Promise(rtf_max=1.0, ram_max_mb=4000))
        )
        trial.back(usual)
        print(f"\nslow: {verdict.why}; taken back {time.monotonic() - began:.1f} s after it began to serve")
        assert "s per second of speech" in verdict.why
        assert verdict.final
        assert spares.recogniser.model_name.startswith("whisper-base@")
        assert time.monotonic() - began <= 60
        count = agent.finals
        while agent.finals == count and time.monotonic() < deadline + 120:
            time.sleep(0.2)
        assert agent.finals > count, "recognition went on"
    trial.close()
    spares.close()
