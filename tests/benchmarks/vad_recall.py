"""What the live path hears and misses: python -m tests.benchmarks.vad_recall [--half 0|1] [--write]

Clips of the corpus in turn, loud and quiet, in rooms whose tone is recorded noise and never digital silence;
clips as files of their own; and sound in which nobody speaks. "As it is" is the agent's own; "model alone"
the same without levelling and without return to rest, to show what they do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_agent.audio.segment import Ended, EndpointConfig
from edge_agent.audio.stream import Stream
from edge_agent.audio.vad import Vad
from edge_agent.clock import SystemClock
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, PcmFloat
from tests.benchmarks.results import machine, table, write_section
from tests.benchmarks.vad_scenes import Scene, scenes, silences

_MS = SAMPLE_RATE_HZ // 1000
_CLIPPED_MS = 100
_LEGEND = f"""Heard: share of the speech that lies in an utterance. A clip is lost when less than half of it
does. A start is cut when more than {_CLIPPED_MS} ms of the first speech are missing. End late: from the end
of speech to where the segmenter saw it, median. Rooms are the mean level of their tone in dBFS; voices have
their loud parts at -20 dBFS, less what the condition says."""


class ModelAlone(Vad):
    """The voice activity model with its state carried on and the sound as it is."""

    def __init__(self) -> None:
        super().__init__()
        self._leveller.gain = lambda _frame: np.ones((1, 1), np.float32)

    def _calmed(self, state: NDArray[np.float32], speech: NDArray[np.float32]) -> NDArray[np.float32]:
        del speech
        return state


@dataclass
class Tally:
    """Sums over the scenes of one condition."""

    sound_s: float = 0.0
    cpu_s: float = 0.0
    spoken: int = 0
    covered: int = 0
    utterances: int = 0
    utterance_s: float = 0.0
    clips: int = 0
    lost: int = 0
    start_lost_ms: list[float] = field(default_factory=list)
    end_late_ms: list[float] = field(default_factory=list)

    def add(self, scene: Scene, found: list[Ended], cpu_s: float) -> None:
        """Compare what was found with what was said."""
        heard = np.zeros(len(scene.sound) + SAMPLE_RATE_HZ, bool)
        for utterance in found:
            heard[utterance.start_sample : utterance.end_sample] = True
        self.sound_s += len(scene.sound) / SAMPLE_RATE_HZ
        self.cpu_s += cpu_s
        self.utterances += len(found)
        self.utterance_s += np.count_nonzero(heard) / SAMPLE_RATE_HZ
        for clip in scene.spoken:
            whole = sum(end - start for start, end in clip.spans)
            covered = sum(int(np.count_nonzero(heard[start:end])) for start, end in clip.spans)
            self.spoken += whole
            self.covered += covered
            self.clips += 1
            if covered < whole / 2:
                self.lost += 1
                continue
            first, last = clip.spans[0][0], clip.spans[-1][1]
            self.start_lost_ms.append(float(np.argmax(heard[first:last])) / _MS)
            ends = [u.speech_end_sample for u in found if u.start_sample < last <= u.end_sample]
            self.end_late_ms += [(end - last) / _MS for end in ends]

    def row(self) -> list[str]:
        """Figures of a condition with speech."""
        starts = np.array(self.start_lost_ms or [0.0])
        return [
            f"{100 * self.covered / self.spoken:.1f}",
            f"{self.lost}/{self.clips}",
            f"{100 * float(np.mean(starts > _CLIPPED_MS)):.1f}",
            f"{float(np.median(self.end_late_ms or [0.0])):.0f}",
        ]


def live(sound: PcmFloat, vad: Vad) -> tuple[list[Ended], float]:
    """The utterances of float32[samples] as the cutter would find them, and the CPU seconds."""
    stream = Stream(0, config=EndpointConfig(), clock=SystemClock(), time_of=lambda _sample: 0)
    vad.reset()
    happenings = []
    before = time.process_time()
    for first in range(0, len(sound) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        frame = sound[first : first + FRAME_SAMPLES]
        happenings += stream.frame(frame, float(vad.probability(frame[:, None])[0]))
    happenings += stream.stop("stop")
    cpu_s = time.process_time() - before
    return [event for event, _ in happenings if isinstance(event, Ended)], cpu_s


def run(half: int | None, make: Callable[[], Vad]) -> tuple[dict[str, Tally], dict[str, Tally]]:
    """Tallies by condition: with speech, and without."""
    with_speech: dict[str, Tally] = {}
    without: dict[str, Tally] = {}
    vad = make()
    for found, tallies in ((scenes(half), with_speech), (silences(half), without)):
        for scene in found:
            tallies.setdefault(scene.condition, Tally()).add(scene, *live(scene.sound, vad))
    return with_speech, without


def report(half: int | None) -> str:
    """Both ways over the same sound, as Markdown."""
    ours, ours_silent = run(half, Vad)
    plain, plain_silent = run(half, ModelAlone)
    head = ["condition", "heard %", "clips lost", "starts cut %", "end late ms"]
    head += ["model alone: heard %", "clips lost", "starts cut %", "end late ms"]
    rows = [[name, *ours[name].row(), *plain[name].row()] for name in ours]
    which = "all clips" if half is None else f"half {half} of the clips"
    parts = [
        f"{machine()}; {which}. `python -m tests.benchmarks.vad_recall --write`",
        table(head, rows),
        _LEGEND,
        f"Nobody speaks, as it is: {_silent(ours_silent)}",
        f"Nobody speaks, model alone: {_silent(plain_silent)}",
        f"CPU per stream: {_share(ours):.2f} % of a core as it is, {_share(plain):.2f} % the model alone.",
    ]
    return "\n\n".join(parts)


def _silent(tallies: dict[str, Tally]) -> str:
    minutes = sum(tally.sound_s for tally in tallies.values()) / 60
    count = sum(tally.utterances for tally in tallies.values())
    seconds = sum(tally.utterance_s for tally in tallies.values())
    which = ", ".join(f"{key} ({tally.utterances})" for key, tally in tallies.items() if tally.utterances)
    return f"{count} utterances, {seconds:.1f} s, in {minutes:.0f} minutes: {which or 'none'}."


def _share(tallies: dict[str, Tally]) -> float:
    return 100 * sum(t.cpu_s for t in tallies.values()) / sum(t.sound_s for t in tallies.values())


def main() -> None:
    """Print the report; write it with --write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--half", type=int, choices=(0, 1), help="even or odd clips only")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    arguments = parser.parse_args()
    text = report(arguments.half)
    print(text)
    if arguments.write:
        write_section("vad_recall", "What the live path hears and misses", text)


if __name__ == "__main__":
    main()
