"""`edge-agent demo`: the main job with nothing configured, seen through the eyes of a real subscriber."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.errors import BrokerUnreachable, UsageError
from edge_agent.verbs.common import Subparsers, add_json, models_dir, print_json_line, say, verb

if TYPE_CHECKING:
    from edge_agent.config import Config

_DEVICE_ID = "demo"
_GAP_S = 1.2
"""Silence after each recording: longer than the endpoint, so that each ends in finals of its own."""
_DELIVERY_S = 10.0

_DESCRIPTION = """\
Show the main job end to end: starts a private broker on loopback, fetches the model once, plays recordings
(the bundled ones, or those named) through the real capture, voice activity detection, recogniser, outbox and
MQTT path at real-time speed, and prints what a real subscriber receives, with latencies. Ends when all of it
has ended in finals or gaps.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the verb."""
    parser = verb(subparsers, "demo", "show the main job with nothing configured", _DESCRIPTION)
    parser.add_argument("files", nargs="*", type=Path, metavar="WAV", help="recordings of any common format")
    parser.add_argument("--fast", action="store_true", help="feed as fast as it can be recognised")
    parser.add_argument("--language", metavar="TAG", help="language spoken, or auto (default: en)")
    parser.add_argument("--model", metavar="NAME", help="model instead of the profile's")
    parser.add_argument("--profile", metavar="NAME", help="profile instead of the detected one")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="override one configuration key (may be repeated)",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Play, recognise, publish, receive, print."""
    from edge_agent import config as configuration
    from edge_agent import log
    from edge_agent.audio.files import read_audio
    from edge_agent.mqtt.private_broker import PrivateBroker

    if not arguments.verbose:
        log.set_up(quiet=True)  # what is received is the show; the agent's own log would talk over it
    files = arguments.files or _samples()
    if arguments.files:
        for path in files:
            read_audio(path)  # every file is sound before anything is started
    config = configuration.load(None, [*_as_overrides(arguments), *arguments.overrides])
    with tempfile.TemporaryDirectory(prefix="edge-agent-demo-") as state, PrivateBroker() as broker:
        config = configuration.with_broker(config, broker.url, _DEVICE_ID)
        return _play(arguments, config, files, Path(state))


def _play(arguments: argparse.Namespace, config: Config, files: list[Path], state: Path) -> int:
    from edge_agent.app import Agent
    from edge_agent.audio.recording import FileSource
    from edge_agent.clock import SystemClock
    from edge_agent.meaning import wish_of
    from edge_agent.mqtt.subscriber import Subscriber
    from edge_agent.opening import choose_profile, open_recogniser, wanted_model

    wish = wish_of(config, models_dir())
    _, choice = choose_profile(wish)
    _have_model(wanted_model(wish, choice), quietly=arguments.quiet)
    recogniser = open_recogniser(wish)
    clock = SystemClock()
    show = _Show(as_json=arguments.json)
    subscriber = Subscriber(config.mqtt.url, f"{config.mqtt.prefix}/{_DEVICE_ID}/up/#", show.message)
    if not arguments.json:
        say(f"{choice.profile.name}, {recogniser.model_name}, {_machine(recogniser.device)}")
    agent = Agent(
        config,
        device_id=_DEVICE_ID,
        recogniser=recogniser,
        source=FileSource(files, clock=clock, gap_s=_GAP_S, paced=not arguments.fast),
        state_dir=state,
        report_path=None,
        clock=clock,
    )
    with subscriber:
        agent.start()
        try:
            while not agent.ended:
                agent.tick()
                time.sleep(0.02 if arguments.fast else 0.1)
                if agent.failure is not None:
                    raise agent.failure
            complete = subscriber.wait_for_seq(agent.outbox.stats().last_seq, _DELIVERY_S)
        finally:
            agent.stop()
            recogniser.engine.close()
    if not complete:
        raise BrokerUnreachable(
            "not all transcripts came back from the broker", remedy="run it again with -v"
        )
    show.summary(len(files))
    return 0


def _have_model(name: str, *, quietly: bool) -> None:
    """Fetch the model when it is not there yet."""
    from edge_agent.errors import ModelMissing
    from edge_agent.models.fetch import pull
    from edge_agent.models.store import ModelStore
    from edge_agent.verbs.models import _shown_progress

    store = ModelStore(models_dir())
    try:
        store.path(name)
    except ModelMissing:
        if name not in store.catalog:
            return  # opening it will say what is wrong
        with _shown_progress(quietly=quietly) as progress:
            pull(store.catalog[name], store, progress=progress)


class _Show:
    """Prints received messages, for people or as JSON lines."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._finals = self._gaps = 0

    def message(self, topic: str, payload: Any) -> None:
        """One received message."""
        if self._as_json:
            print_json_line({"topic": topic, "payload": payload})
        if topic.endswith("/transcript/final"):
            self._finals += 1
            if not self._as_json:
                _print_final(payload)
        elif topic.endswith("/gap"):
            self._gaps += 1
            if not self._as_json:
                sys.stdout.write(f"  [gap of {payload['duration_ms']} ms: {payload['cause']}]\n")

    def summary(self, recordings: int) -> None:
        """The closing line."""
        if not self._as_json:
            spoken = "no speech was found" if not self._finals else f"{self._finals} finals"
            say(f"{recordings} recordings, {spoken}, {self._gaps} gaps, all received from the broker")


def _print_final(body: Any) -> None:
    latency = body["latency_ms"]
    sys.stdout.write(
        f"{body['text']}\n"
        f"    {latency['total']} ms after the last sound (endpoint {latency['endpoint']}, "
        f"waiting {latency['queue']}, decoding {latency['decode']}), confidence {body['confidence']:.2f}\n"
    )
    sys.stdout.flush()


def _samples() -> list[Path]:
    folder = resources.files("edge_agent") / "samples"
    paths = sorted(Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".flac"))
    if not paths:
        raise UsageError("the bundled recordings are missing", remedy="name a recording, or install again")
    return paths


def _as_overrides(arguments: argparse.Namespace) -> list[str]:
    named = (("language", arguments.language), ("model", arguments.model), ("profile", arguments.profile))
    return [f'recognition.{key}="{value}"' for key, value in named if value]


def _machine(device: Any) -> str:
    return f"{device.cpu_model}, {device.usable_cpus:g} CPUs"
