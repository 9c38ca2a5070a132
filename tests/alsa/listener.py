"""Child process of the capture tests: listens to one source for a while and writes down all that happens.

usage: listener.py SOURCE SECONDS FOLDER

Events go to stdout as JSON lines, the sound of each utterance to FOLDER/<number>.npy. SIGTERM ends it early.
A process of its own, because libasound reads its configuration once per process.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
import threading
from pathlib import Path

import numpy as np

from edge_agent.audio.cutter import Callbacks, Cutter
from edge_agent.audio.ears import Ears
from edge_agent.audio.open import open_source
from edge_agent.audio.ring import Ring
from edge_agent.audio.segment import EndpointConfig
from edge_agent.clock import SystemClock
from edge_agent.errors import CaptureError
from edge_agent.types import Gap, Utterance


def tell(kind: str, **facts: object) -> None:
    print(json.dumps({"event": kind, **facts}), flush=True)


def main() -> None:
    url, seconds, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    clock = SystemClock()
    ring = Ring()
    source = open_source(url, channels=1, clock=clock)
    ears = Ears(source, ring, clock=clock)
    count = 0

    def on_utterance(utterance: Utterance) -> None:
        nonlocal count
        np.save(folder / f"{count}.npy", utterance.pcm)
        tell(
            "utterance",
            number=count,
            start_ns=utterance.start_ns,
            speech_end_ns=utterance.speech_end_ns,
            told_ns=clock.monotonic_ns(),
            samples=len(utterance.pcm),
            cut=utterance.cut,
        )
        count += 1

    def on_gap(gap: Gap) -> None:
        tell(
            "gap",
            start_ns=gap.start_ns,
            duration_ms=gap.duration_ms,
            cause=gap.cause,
            told_ns=clock.monotonic_ns(),
        )

    callbacks = Callbacks(
        on_utterance=on_utterance,
        on_gap=on_gap,
        on_started=lambda channel, start_ns: tell("started", channel=channel, start_ns=start_ns),
        on_resumed=lambda channel: tell("resumed", channel=channel),
    )
    cutter = Cutter(ring, clock=clock, config=EndpointConfig(), callbacks=callbacks)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with contextlib.suppress(CaptureError):
        source.open()  # what opening takes is no part of the account
    start_ns = clock.monotonic_ns()
    cutter.start()
    ears.start()
    tell("listening", start_ns=start_ns)
    before = resource.getrusage(resource.RUSAGE_SELF)
    stop.wait(seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    level = cutter.level()
    stop_ns = clock.monotonic_ns()
    ears.stop()
    ears.join(5)
    end_ns = clock.monotonic_ns()
    cutter.join(5)
    cut, heard = cutter.statistics(), ears.statistics()
    tell(
        "end",
        wall_s=((stop_ns - start_ns) / 1e9, (end_ns - start_ns) / 1e9),
        heard_s=cut.heard_s,
        gap_s=cut.gap_s,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        switches=after.ru_nvcsw - before.ru_nvcsw,
        frames=heard.frames,
        overruns=heard.overruns,
        losses=heard.losses,
        reason=heard.reason,
        rate_hz=source.rate_hz,
        channels=source.channels,
        peak_dbfs=level.peak_dbfs,
        alive=ears.alive or cutter.alive,
    )


if __name__ == "__main__":
    main()
