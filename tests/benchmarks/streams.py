"""How many live streams one agent holds: N microphones, each with recordings of its own order, in real time.

    .venv/bin/python -m tests.benchmarks.streams [--seconds 20] [--models whisper-base ...] [--write]

N doubles until the 95th percentile of the final's delay beyond the endpoint's silence exceeds 300 ms, then
the middle between the last two is tried. Delays are those of a subscriber, broker included. Each run is a
process of its own with the spares and the degrade ladder of the service. Ten minutes, on a machine that does
nothing else. `--write` puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from edge_agent import config as configuration
from edge_agent import log
from edge_agent.app import Agent
from edge_agent.audio.recording import FileSource
from edge_agent.clock import SystemClock
from edge_agent.meaning import endpoint_config, wish_of
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.mqtt.subscriber import Subscriber
from edge_agent.opening import has_smaller, open_recogniser
from edge_agent.spare import Spares
from edge_agent.types import Value
from edge_agent.verbs.common import models_dir
from tests import corpus
from tests.benchmarks import results

_HELD_MS = 300.0
_BEGIN_AT = {
    ("whisper-base", True): 4,
    ("whisper-base", False): 8,
    ("whisper-tiny.en", True): 8,
    ("whisper-tiny.en", False): 16,
}
"""Streams of the first run; fewer follow when even these are too many."""
_MOST = 64
_DRAIN_S = 60.0
"""What was not recognised so long after the last sample counts as missing."""
_RUN_S = 180.0


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
    steps: tuple[str, ...]
    """Of the load ladder, in the order they were taken."""

    @property
    def held(self) -> bool:
        """Nothing lost, nothing late."""
        return self.beyond_p95_ms <= _HELD_MS and not self.missing and not self.gaps


def play(model: str, streams: int, seconds: float, *, partials: bool) -> Run:
    """Run one agent with so many microphones."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="edge-agent-streams-") as state, PrivateBroker() as broker:
        overrides = [f'recognition.model="{model}"', f"recognition.partials={str(partials).lower()}"]
        config = configuration.with_broker(configuration.load(None, overrides), broker.url, "bench")
        wish = wish_of(config, models_dir())
        spares = Spares(lambda level: open_recogniser(wish, level), clock=clock, smaller=has_smaller(wish))
        sources = [_microphone(number, seconds, clock) for number in range(streams)]
        agent = Agent(
            config,
            device_id="bench",
            recogniser=spares.recogniser,
            spares=spares,
            source=sources[0],
            more_sources=sources[1:],
            state_dir=Path(state),
            report_path=None,
            clock=clock,
        )
        profile = spares.recogniser.choice.profile
        received: list[tuple[float, dict[str, Any]]] = []

        def on_message(topic: str, body: Any) -> None:
            if "/up/transcript/" in topic:
                received.append((time.time(), body))

        with Subscriber(broker.url, "edge/bench/up/#", on_message) as subscriber:
            steps, cpus = _run(agent, seconds)
            subscriber.wait_for_seq(agent.outbox.stats().last_seq, 15.0)
            statistics, cut = agent.scribe.statistics(), agent.cutter.statistics()
            agent.stop()
        spares.close()
    silence_ms = endpoint_config(config, profile).silence_ms
    closed = [(at_s, body) for at_s, body in received if body["kind"] == "final"]
    finals = [(at_s, body) for at_s, body in closed if not any("rejected" in flag for flag in body["flags"])]
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
        steps=tuple(steps),
    )


def _run(agent: Agent, seconds: float) -> tuple[list[str], float]:
    """To the end of the sound and of the work; answers the ladder's steps and the CPUs used meanwhile."""
    agent.start()
    began, began_cpu = time.monotonic(), time.process_time()
    wait, steps = threading.Event(), [agent.relief.step]
    while not agent.ended and time.monotonic() - began < seconds + _DRAIN_S + 10.0:
        agent.tick()
        if agent.relief.step != steps[-1]:
            steps.append(agent.relief.step)
        wait.wait(0.5)
        if agent.failure is not None:
            raise agent.failure
    return [*map(str, steps)], (time.process_time() - began_cpu) / (time.monotonic() - began)


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


def apart(model: str, streams: int, seconds: float, *, partials: bool) -> Run | None:
    """`play` in a process of its own; None when it did not end well."""
    one = [model, str(streams), "on" if partials else "off"]
    command = [sys.executable, "-m", "tests.benchmarks.streams", "--seconds", str(seconds), "--one", *one]
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=_RUN_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(model, streams, "did not end well:", error, flush=True)
        return None
    run = msgspec.convert(json.loads(done.stdout.splitlines()[-1]), Run)
    print(model, "partials" if partials else "finals only", run, flush=True)
    return run


def search(model: str, seconds: float, *, partials: bool) -> list[Run]:
    """Runs around the number of streams that is held, fewest streams first."""
    runs: dict[int, Run] = {}

    def holds(streams: int) -> bool:
        run = apart(model, streams, seconds, partials=partials)
        if run is not None:
            runs[streams] = run
        return run is not None and run.held

    most, least = 0, _MOST + 1  # held, and not held
    streams = _BEGIN_AT.get((model, partials), 4)
    up = holds(streams)
    most, least = (streams, least) if up else (most, streams)
    while (streams < _MOST) if up else (streams > 1):
        streams = 2 * streams if up else streams // 2
        if holds(streams):
            most = streams
        else:
            least = streams
        if most and least <= _MOST:
            break
    if most and 1 < least - most <= _MOST // 2:
        holds((most + least) // 2)
    return [runs[number] for number in sorted(runs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--models", nargs="+", default=["whisper-base", "whisper-tiny.en"])
    parser.add_argument(
        "--one", nargs=3, metavar=("MODEL", "STREAMS", "on|off"), help="only this run, as JSON"
    )
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    args = parser.parse_args()
    log.set_up(quiet=True)
    if args.one:
        model, streams, partials = args.one
        run = play(model, int(streams), args.seconds, partials=partials == "on")
        print(json.dumps(msgspec.to_builtins(run)))
        return
    rows, most = [], []
    for model in args.models:
        for partials in (True, False):
            runs = search(model, args.seconds, partials=partials)
            rows += [_row(model, run, partials=partials) for run in runs]
            most.append(
                [model, _on(partials), str(max((run.streams for run in runs if run.held), default=0))]
            )
    body = _body(rows, most, args.seconds)
    print(body)
    if args.write:
        results.write_section("streams", "Live streams of one agent", body)


def _body(rows: Sequence[list[str]], most: Sequence[list[str]], seconds: float) -> str:
    head = [
        "model",
        "partials",
        "streams",
        "finals",
        "missing",
        "gaps",
        "final beyond silence p50 ms",
        "p95 ms",
    ]
    head += ["first partial p50 ms", "partials/s", "CPUs", "load steps"]
    return (
        f"Sentences of two to five seconds with a second between, {seconds:g} s per stream, "
        f"{results.machine()}. Held: 95 of 100 finals at most {_HELD_MS:g} ms beyond the silence, none "
        "missing. Beyond that first the partials come more rarely, by themselves and then by the load steps; "
        "finals come late, but come.\n\n"
        f"{results.table(['model', 'partials', 'streams held'], list(most))}\n\n"
        f"{results.table(head, list(rows))}\n\n"
        "`python -m tests.benchmarks.streams --write`"
    )


def _on(partials: bool) -> str:
    return "on" if partials else "off"


def _row(model: str, run: Run, *, partials: bool) -> list[str]:
    return [
        model,
        _on(partials),
        str(run.streams),
        str(run.finals),
        str(run.missing),
        str(run.gaps),
        f"{run.beyond_p50_ms:.0f}",
        f"{run.beyond_p95_ms:.0f}",
        f"{run.first_p50_ms:.0f}" if partials else "",
        f"{run.partials_per_s:.1f}" if partials else "",
        f"{run.cpu_share:.2f}",
        ", ".join(run.steps),
    ]


if __name__ == "__main__":
    main()
