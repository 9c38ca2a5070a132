"""The whole agent on recordings that never end, as fast as it can: for watching its memory.

Arguments: state directory, broker URL, recordings. Prints "listening", then the seconds heard, each second.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from edge_agent import config as configuration
from edge_agent.app import Agent
from edge_agent.audio.recording import FileSource
from edge_agent.clock import SystemClock
from edge_agent.meaning import wish_of
from edge_agent.opening import open_recogniser
from edge_agent.verbs.common import models_dir


def main(state: str, url: str, *recordings: str) -> None:
    """Run until killed."""
    clock = SystemClock()
    config = configuration.with_broker(configuration.load(None, []), url, "box")
    agent = Agent(
        config,
        device_id="box",
        recogniser=open_recogniser(wish_of(config, models_dir())),
        source=FileSource(
            [Path(name) for name in recordings], clock=clock, paced=False, loop=True, gap_s=2.0
        ),
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
