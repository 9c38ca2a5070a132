"""How many live streams one agent holds: N microphones, each with recordings of its own order, in real time.

    .venv/bin/python -m tests.benchmarks.streams [--seconds 20] [--models whisper-base ...] [--write]

N doubles until the 95th percentile of the final's delay beyond the endpoint's silence exceeds 300 ms. Delays
are those of a subscriber, broker included. Five minutes. `--write` puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_agent import config as configuration
from edge_agent import log
from edge_agent.app import Agent
from edge_agent.audio.recording import FileSource
from edge_agent.clock import SystemClock
from edge_agent.meaning import endpoint_config, wish_of
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.mqtt.subscriber import Subscriber
from edge_agent.opening import open_recogniser
from edge_agent.types import Value
from edge_agent.verbs.common import models_dir
from tests import corpus
from tests.benchmarks import results

_HELD_MS = 300.0
_BEGIN_AT = {("whisper-base", True): 1, ("whisper-base", False): 4}
"""Streams of the first run; other models begin with twice as many."""
_MOST = 64


class Run(Value, frozen=True):
    """Of one number of streams."""

    streams: int
    finals: int
    missing: int
    """Utterances that ended in no final."""
    gaps: int
    beyond_p50_ms: float
    beyond_p95_ms: float
    partials_per_s: float
    """Of each stream while its speaker speaks."""
    first_p50_ms: float
    cpu_share: float
    """CPUs in use, broker not counted."""
    step: str
    """Where the load ladder stood at the end."""


def play(model: str, streams: int, seconds: float, *, partials: bool) -> Run:
    """Run one agent with so many microphones."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="edge-agent-streams-") as state, PrivateBroker() as broker:
        overrides = [f'recognition.model="{model}"', f"recognition.partials={str(partials).lower()}"]
        config = configuration.with_broker(configuration.load(None, overrides), broker.url, "bench")
        recogniser = open_recogniser(wish_of(config, models_dir()))
        sources = [_microphone(number, seconds, clock) for number in range(streams)]
        agent = Agent(
            config,
            device_id="bench",
            recogniser=recogniser,
            source=sources[0],
            more_sources=sources[1:],
            state_dir=Path(state),
            report_path=None,
            clock=clock,
        )
        received: list[tuple[float, dict[str, Any]]] = []

        def on_message(topic: str, body: Any) -> None:
            if "/up/transcript/" in topic:
                received.append((time.time(), body))

        with Subscriber(broker.url, "edge/bench/up/#", on_message) as subscriber:
            agent.start()
            began, began_cpu = time.monotonic(), time.process_time()
            wait = threading.Event()
            while not agent.ended:
                agent.tick()
                wait.wait(0.5)
                if agent.failure is not None:
                    raise agent.failure
            cpus = (time.process_time() - began_cpu) / (time.monotonic() - began)
            subscriber.wait_for_seq(agent.outbox.stats().last_seq, 15.0)
            statistics, cut = agent.scribe.statistics(), agent.cutter.statistics()
            step = agent.relief.step
            agent.stop()
        recogniser.engine.close()
    silence_ms = endpoint_config(config, recogniser.choice.profile).silence_ms
    finals = [(at_s, body) for at_s, body in received if body["kind"] == "final"]
    beyond = sorted(1e3 * (at_s - _start_s(body)) - body["duration_ms"] - silence_ms for at_s, body in finals)
    firsts: dict[str, float] = {}
    for at_s, body in received:
        if body["kind"] == "partial":
            firsts.setdefault(body["id"], 1e3 * (at_s - _start_s(body) - 0.3))
    return Run(
        streams=streams,
        finals=len(finals),
        missing=cut.utterances - len(finals) - sum(statistics.rejected.values()),
        gaps=statistics.gaps,
        beyond_p50_ms=_percentile(beyond, 0.5),
        beyond_p95_ms=_percentile(beyond, 0.95),
        partials_per_s=statistics.partials / max(0.1, cut.speech_s),
        first_p50_ms=_percentile(sorted(firsts.values()), 0.5),
        cpu_share=cpus,
        step=step,
    )


def _microphone(number: int, seconds: float, clock: SystemClock) -> FileSource:
    """Sentences for so long, begun at another place in the corpus for each microphone; one second between."""
    clips = [clip for clip in corpus.clips(set="en_read_kathleen") if 1.5 < clip.duration_s < 5.0]
    gap_s = 1.0 + 0.137 * (number % 7)
    chosen, length_s = [], 0.0
    for place in range(len(clips)):
        clip = clips[(7 * number + place) % len(clips)]
        chosen.append(clip.path)
        length_s += clip.duration_s + gap_s
        if length_s > seconds:
            break
    return FileSource(chosen, clock=clock, gap_s=gap_s)


def _start_s(body: dict[str, Any]) -> float:
    return datetime.fromisoformat(body["start"]).timestamp()


def _percentile(ranked: list[float], share: float) -> float:
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0


def held(model: str, seconds: float, *, partials: bool) -> list[Run]:
    """Double the streams until finals are late."""
    runs = []
    streams = _BEGIN_AT.get((model, partials), 2 if partials else 8)
    while streams <= _MOST:
        runs.append(play(model, streams, seconds, partials=partials))
        print(model, "partials" if partials else "finals only", runs[-1], flush=True)
        if runs[-1].beyond_p95_ms > _HELD_MS:
            break
        streams *= 2
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--models", nargs="+", default=["whisper-base", "whisper-tiny.en"])
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    args = parser.parse_args()
    log.set_up(quiet=True)
    rows = []
    for model in args.models:
        for partials in (True, False):
            rows += [
                _row(model, run, partials=partials) for run in held(model, args.seconds, partials=partials)
            ]
    head = ["model", "partials", "streams", "finals", "missing", "gaps"]
    head += [
        "final beyond silence p50 ms",
        "p95 ms",
        "first partial p50 ms",
        "partials/s",
        "CPUs",
        "load step",
    ]
    body = (
        f"Sentences of two to five seconds with a second between, {args.seconds:g} s per stream, "
        f"{results.machine()}. A row with p95 above {_HELD_MS:g} ms is more than the machine holds.\n\n"
        f"{results.table(head, rows)}\n\n`python -m tests.benchmarks.streams --write`"
    )
    print(body)
    if args.write:
        results.write_section("streams", "Live streams of one agent", body)


def _row(model: str, run: Run, *, partials: bool) -> list[str]:
    return [
        model,
        "on" if partials else "off",
        str(run.streams),
        str(run.finals),
        str(run.missing),
        str(run.gaps),
        f"{run.beyond_p50_ms:.0f}",
        f"{run.beyond_p95_ms:.0f}",
        f"{run.first_p50_ms:.0f}" if partials else "",
        f"{run.partials_per_s:.1f}" if partials else "",
        f"{run.cpu_share:.2f}",
        run.step,
    ]


if __name__ == "__main__":
    main()
