"""The capture path on the real libasound: what happens to a microphone, and what comes out.

All rooms play at the same time, because playing takes real time; each test reads what its listener heard.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from edge_agent.audio.files import read_audio
from tests.alsa.room import Room, Run, place
from tests.corpus import clips

Act = tuple[float, Callable[[Room], None]]


@dataclass
class Scene:
    """A room, and what is done to it after so many seconds."""

    seconds: float
    device: str = "mic"
    rate_hz: int = 16_000
    channels: int = 1
    ppm: int = 0
    fault: str = ""
    acts: tuple[Act, ...] = ()
    acted_ns: list[int] = field(default_factory=list)
    run: Run | None = None

    def play(self, room: Room) -> None:
        room.fault(self.fault)
        room.listen(self.seconds, self.device)
        start = time.monotonic()
        for after, act in self.acts:
            time.sleep(max(0.0, start + after - time.monotonic()))
            act(room)
            self.acted_ns.append(time.monotonic_ns())
        self.run = room.result()

    @property
    def heard(self) -> Run:
        assert self.run is not None, "the listener failed; its thread printed why"
        return self.run


def signals(number: signal.Signals) -> Callable[[Room], None]:
    return lambda room: os.kill(room.process.pid, number) if room.process else None


def becomes(word: str) -> Callable[[Room], None]:
    return lambda room: room.fault(word)


def scenes() -> dict[str, Scene]:
    stop, go = signals(signal.SIGSTOP), signals(signal.SIGCONT)
    return {
        "stereo": Scene(8, rate_hz=48_000, channels=2),
        "converted": Scene(5, device="default", rate_hz=48_000, channels=2),
        "unplugged": Scene(8, acts=((1.5, becomes("unplug")), (3.5, becomes("")))),
        "stopped": Scene(8, acts=((1.5, stop), (5.0, go))),
        "held up": Scene(5, acts=((1.0, stop), (2.2, go))),
        "busy": Scene(5, fault="busy", acts=((1.0, becomes("")),)),
        "stall": Scene(7, fault="stall"),
        "flood": Scene(7, fault="flood"),
        "drift": Scene(8, ppm=2_000),
    }


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Sentences with a second between them."""
    sentences = [read_audio(clip.path) for clip in clips(language="en") if 2.0 < clip.duration_s < 4.0]
    parts: list[np.ndarray] = [np.zeros(4_000, np.float32)]
    for sentence in sentences[:6]:
        parts += [sentence, np.zeros(16_000, np.float32)]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, speech: np.ndarray) -> dict[str, Scene]:
    """All scenes, played out."""
    all_scenes = scenes()
    threads = []
    for name, scene in all_scenes.items():
        folder = tmp_path_factory.mktemp("room") / "files"
        room = Room(folder, speech, rate_hz=scene.rate_hz, channels=scene.channels, ppm=scene.ppm)
        threads.append(threading.Thread(target=scene.play, args=(room,), name=name))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return all_scenes


def offsets_s(run: Run, sound: np.ndarray) -> list[float]:
    """Per utterance: our time of it minus its place in the recording. All equal: our time is right."""
    found = []
    for event in run.of("utterance"):
        at, likeness = place(run.sound(event["number"]), sound)
        # What lies near 8 kHz does not pass two resamplers whole: 0.97 of a sentence full of sibilants. A
        # period that is missing or doubled shifts all behind it and leaves far less.
        assert likeness > 0.95
        found.append(event["start_ns"] / 1e9 - at)
    return found


def spread(values: list[float]) -> float:
    return max(values) - min(values)


@pytest.mark.parametrize("name", scenes())
def test_heard_time_and_gaps_are_all_the_time(played: dict[str, Scene], name: str) -> None:
    """Whatever happens, every moment was heard or is told as a gap, and the listener ends when told to."""
    run = played[name].heard
    assert abs(run.unaccounted_s) < 0.1
    assert not run.end["alive"]
    for one, two in itertools.pairwise(run.of("gap")):
        assert two["start_ns"] - one["start_ns"] > one["duration_ms"] * 1e6 - 1e6


def test_stereo_at_48_khz_comes_out_as_the_sentences_that_went_in(
    played: dict[str, Scene], speech: np.ndarray
) -> None:
    """A microphone with its own rate and two channels gives the same sound, whole, at the right times."""
    run = played["stereo"].heard
    assert (run.end["rate_hz"], run.end["channels"]) == (48_000, 2)
    assert len(run.of("utterance")) >= 2
    assert not run.of("gap")
    assert spread(offsets_s(run, speech)) < 0.01


def test_a_converting_device_is_taken_as_it_is(played: dict[str, Scene]) -> None:
    """The default device converts to 16 kHz mono by itself."""
    run = played["converted"].heard
    assert (run.end["rate_hz"], run.end["channels"]) == (16_000, 1)
    assert run.of("utterance")
    assert not run.of("gap")


def test_unplugged_in_mid_sentence_and_back(played: dict[str, Scene], speech: np.ndarray) -> None:
    """The words so far are kept, the loss is told within a second, and soon after the return it hears."""
    run = played["unplugged"].heard
    unplugged_ns, back_ns = played["unplugged"].acted_ns
    gaps = run.of("gap")
    assert {gap["cause"] for gap in gaps} == {"unplug"}
    assert gaps[0]["told_ns"] - unplugged_ns < 1e9
    assert gaps[-1]["start_ns"] + gaps[-1]["duration_ms"] * 1e6 - back_ns < 3e9
    assert run.of("utterance")[0]["cut"] == "gap"
    assert len(run.of("utterance")) >= 2
    assert spread(offsets_s(run, speech)) < 0.03
    assert run.end["losses"] == 1


def test_a_stopped_process_admits_what_it_missed(played: dict[str, Scene], speech: np.ndarray) -> None:
    """Held up for longer than the device's buffer: an xrun, told as one gap."""
    run = played["stopped"].heard
    assert [gap["cause"] for gap in run.of("gap")] == ["xrun"]
    assert run.end["overruns"] == 1
    assert spread(offsets_s(run, speech)) < 0.03


def test_a_short_hold_up_loses_nothing(played: dict[str, Scene], speech: np.ndarray) -> None:
    """Held up for less than the device's buffer: nothing is lost and nothing is told."""
    run = played["held up"].heard
    assert not run.of("gap")
    assert run.end["overruns"] == 0
    assert spread(offsets_s(run, speech)) < 0.03


def test_a_busy_microphone_is_waited_for(played: dict[str, Scene]) -> None:
    """Held by another program at the start: said once, told as a gap, heard as soon as it is free."""
    run = played["busy"].heard
    assert {gap["cause"] for gap in run.of("gap")} == {"unplug"}
    assert run.stderr.count("held by another program") == 1
    assert run.of("utterance")


@pytest.mark.parametrize("name", ["stall", "flood"])
def test_a_device_without_data_neither_hangs_nor_spins(played: dict[str, Scene], name: str) -> None:
    """Open but silent, or ready for ever with nothing to read: lost, reopened, at next to no cost."""
    run = played[name].heard
    assert run.end["heard_s"] == 0
    assert run.end["cpu_s"] < 0.05 * 7
    assert "delivered nothing" in run.stderr


def test_a_crystal_that_is_off_is_followed(played: dict[str, Scene], speech: np.ndarray) -> None:
    """A device that is 0.2 % fast (40 times the worst crystal) stays within milliseconds of the clock."""
    run = played["drift"].heard
    times = [
        event["start_ns"] / 1e9 - place(run.sound(event["number"]), speech)[0] / 1.002
        for event in run.of("utterance")
    ]
    assert spread(times) < 0.01
