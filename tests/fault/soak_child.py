"""The whole agent on recordings that never end, many times faster than sound: for watching its memory.

Arguments: state directory, broker URL, times the speed of sound (0: as fast as it can), recordings. Prints
"listening", then the seconds heard, each second.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from edge_agent import config as configuration
from edge_agent.app import Agent
from edge_agent.audio.recording import FileSource
from edge_agent.audio.source import Block
from edge_agent.clock import SystemClock
from edge_agent.meaning import wish_of
from edge_agent.opening import open_recogniser
from edge_agent.verbs.common import models_dir


class FastSource(FileSource):
    """Recordings not paced as sound is, but held to so many times its speed."""

    def __init__(self, paths: list[Path], speed: float, clock: SystemClock) -> None:
        super().__init__(paths, clock=clock, paced=False, loop=True, gap_s=2.0)
        self._speed = speed
        self._began: float | None = None
        self._first_ns = 0

    def read(self, timeout_s: float) -> Block | None:
        block = super().read(timeout_s)
        if block is not None and self._speed:
            if self._began is None:
                self._began, self._first_ns = time.monotonic(), block.start_ns
            ahead_s = (block.start_ns - self._first_ns) / 1e9 / self._speed - (time.monotonic() - self._began)
            if ahead_s > 0:
                time.sleep(ahead_s)
        return block


def main(state: str, url: str, speed: str, *recordings: str) -> None:
    """Run until killed."""
    clock = SystemClock()
    config = configuration.with_broker(configuration.load(None, []), url, "box")
    agent = Agent(
        config,
        device_id="box",
        recogniser=open_recogniser(wish_of(config, models_dir())),
        source=FastSource([Path(name) for name in recordings], float(speed), clock),
        state_dir=Path(state),
        report_path=Path(state) / "report.json",
        clock=clock,
    )
    agent.start()
    print("listening", flush=True)
    while not agent.wait(threading.Event(), 1.0):
        agent.tick()
        print(agent.cutter.statistics().heard_s, flush=True)
        if agent.failure is not None:
            raise agent.failure


if __name__ == "__main__":
    main(*sys.argv[1:])
