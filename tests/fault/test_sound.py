"""A microphone that is pulled and a process that is held up, at random: every lost moment is admitted."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.files import read_audio
from tests.alsa.room import Room, Run
from tests.corpus import clips
from tests.e2e.test_capture_alsa import Scene, becomes, signals
from tests.fault.results import record

SECONDS = float(os.environ.get("EDGE_AGENT_SOUND_S", "120"))
TOLD_S, BACK_S, UNACCOUNTED_S = 1.0, 3.0, 0.1

pytestmark = [pytest.mark.faults, pytest.mark.timeout(int(SECONDS) + 200)]


def troubles(dice: random.Random) -> tuple[Scene, list[str]]:
    """Unplugged for some seconds, or stopped for 0.1 to 5 s (the device holds less); which, in order."""
    at, acts, kinds = 3.0, [], []
    while at < SECONDS - 12:
        kinds.append(dice.choice(("unplug", "stop")))
        if kinds[-1] == "unplug":
            begin, end, lasts_s = becomes("unplug"), becomes(""), dice.uniform(0.5, 4)
        else:
            begin, end = signals(signal.SIGSTOP), signals(signal.SIGCONT)
            lasts_s = dice.choice((dice.uniform(0.1, 1.0), dice.uniform(3.0, 5.0)))
        acts += [(at, begin), (at + lasts_s, end)]
        at += lasts_s + dice.uniform(4, 7)
    return Scene(SECONDS, acts=tuple(acts)), kinds


def unplugs(scene: Scene, kinds: list[str], run: Run) -> list[tuple[float, float]]:
    """Of each: seconds until a gap told of it, and from the return until sound came again."""
    found = []
    for number, kind in enumerate(kinds):
        if kind == "unplug":
            gone_ns, back_ns = scene.acted_ns[2 * number], scene.acted_ns[2 * number + 1]
            told = [g for g in run.of("gap") if gone_ns - 1e9 < g["start_ns"] < back_ns + 2e9]
            ends_ns = [g["start_ns"] + g["duration_ms"] * 1e6 for g in told]
            assert told, f"loss {number} was not told"
            found.append(((told[0]["told_ns"] - gone_ns) / 1e9, (max(ends_ns) - back_ns) / 1e9))
    return found


def test_every_lost_moment_is_admitted(tmp_path: Path) -> None:
    """What was heard and what gaps tell is all the time there was."""
    chance = int(os.environ.get("EDGE_AGENT_SEED", random.randrange(10**6)))
    sentences = [read_audio(clip.path) for clip in clips(language="en") if 2.0 < clip.duration_s < 4.0][:6]
    spoken = np.concatenate([part for one in sentences for part in (one, np.zeros(16_000, np.float32))])
    scene, kinds = troubles(random.Random(chance))
    scene.play(Room(tmp_path / "room", np.tile(spoken, int(SECONDS * 16_000 / len(spoken)) + 2)))
    run = scene.heard
    causes = Counter(gap["cause"] for gap in run.of("gap"))
    pulled = unplugs(scene, kinds, run)
    record(
        "sound",
        "Sound: unplugged and held up at random",
        {
            "seconds": SECONDS,
            "troubles": len(scene.acts) // 2,
            "gaps told": ", ".join(f"{count} {cause}" for cause, count in sorted(causes.items())),
            "seconds lost": round(run.end["gap_s"], 1),
            "neither heard nor told ms": round(run.unaccounted_s * 1000),
            "longest until a loss was told s": round(max((told for told, _ in pulled), default=0.0), 2),
            "longest until it heard again s": round(max((back for _, back in pulled), default=0.0), 2),
            "overruns of the device": run.end["overruns"],
        },
        seed=chance,
    )
    assert abs(run.unaccounted_s) < UNACCOUNTED_S
    assert all(told < TOLD_S and back < BACK_S for told, back in pulled)
    assert set(causes) <= {"unplug", "xrun"}
