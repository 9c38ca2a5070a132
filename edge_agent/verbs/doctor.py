"""`edge-agent doctor`: look deeper than health does; takes the time it needs (about ten seconds)."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import EdgeAgentError
from edge_agent.verbs.common import (
    Subparsers,
    add_config,
    add_json,
    config_path,
    models_dir,
    print_json_line,
    say,
    state_dir,
    verb,
)

if TYPE_CHECKING:
    from edge_agent.config import Config
    from edge_agent.health.checks import CheckResult

_GOLDEN_TIMEOUT_S = 180.0
"""A small board needs a minute to load and decode."""

_DESCRIPTION = """\
Everything that `edge-agent health` checks, and besides: each native library loaded in a process of its
own, which distribution owns onnxruntime, whether anything phones home, every digest of the model and its
tokenizer, a known recording decoded on the chosen device, and a question to the broker and back. Ends like
health: 0 well, 3 degraded, 1 failed.

With --bundle FILE it also writes an archive for support: facts, versions, configuration and journal. It holds
no sound, no transcripts, no passwords and no keys.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the verb."""
    parser = verb(subparsers, "doctor", "look deeper: libraries, golden clip, broker", _DESCRIPTION)
    add_config(parser)
    add_json(parser)
    parser.add_argument("--bundle", type=Path, metavar="FILE", help="write a support archive (.tar.gz)")
    # How it starts itself, so that an engine that crashes is a finding and not the end.
    parser.add_argument("--decode-golden", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Examine, print, and bundle when asked to."""
    from edge_agent import config as configuration
    from edge_agent.verbs import bundle
    from edge_agent.verbs.health import as_dict, last_report, quick, show

    path = config_path(arguments.config)
    config = configuration.load(path, arguments.overrides)
    if arguments.decode_golden:
        return _decode_golden(config)
    results = [*quick(config, last_report()), *_libraries(config), *_model(config)]
    results += [_golden(arguments), *_round_trip(config)]
    code = show(results, as_json=arguments.json)
    if arguments.bundle is not None:
        bundle.write(arguments.bundle, config, path, [as_dict(result) for result in results])
        say(f"{arguments.bundle} holds no sound, no transcripts and no secrets")
    return code


def _libraries(config: Config) -> list[CheckResult]:
    from edge_agent.health import children, deep

    owners = children.runtimes()
    found = [deep.loading(probe) for probe in children.libraries(cuda=_wants_cuda(config))]
    return [*found, deep.twins(owners), deep.telemetry(owners, os.environ.get("ORT_DISABLE_TELEMETRY"))]


def _wants_cuda(config: Config) -> bool:
    from edge_agent.meaning import wish_of
    from edge_agent.opening import choose_profile

    try:
        _, choice = choose_profile(wish_of(config, models_dir()))
    except EdgeAgentError:
        return False  # the check "model" tells why
    return choice.profile.engine.device == "cuda"


def _model(config: Config) -> list[CheckResult]:
    """Every digest, and the tokenizer, of the model that would be loaded."""
    from edge_agent.decoding.bpe import lost_merges
    from edge_agent.decoding.tokens import roundtrip_faults
    from edge_agent.health import deep
    from edge_agent.meaning import wish_of
    from edge_agent.models.store import ModelStore
    from edge_agent.opening import choose_profile, resolve_model, wanted_model

    wish = wish_of(config, models_dir())
    try:
        _, choice = choose_profile(wish)
        name = wanted_model(wish, choice)
        remedy = f"edge-agent models pull {name}"
        store = ModelStore(wish.models_dir)
        own = "/" in name  # a directory of the user's, of which nothing was published
        wrong = () if own else store.verify(name)
        found = [deep.faults("digests", wrong, f"every file of {name} is what was published", remedy)]
        if wrong:
            return found  # nothing is read from files whose digests are wrong
        directory, _ = resolve_model(wish, choice)
        faults = roundtrip_faults(directory)
        published = not own and store.has_source(name)
        lost = lost_merges(store.source_dir(name) if published else directory)
    except EdgeAgentError as error:
        return [deep.faults("digests", (error.cause,), "", error.remedy)]
    return [*found, deep.tokenizer(faults, lost, remedy)]


def _golden(arguments: argparse.Namespace) -> CheckResult:
    """The known recording, decoded in a process of its own."""
    from edge_agent.health import deep

    command = [sys.executable, "-m", "edge_agent", "doctor", "--decode-golden", "--quiet"]
    if arguments.config is not None:
        command += ["--config", str(arguments.config)]
    for override in arguments.overrides:
        command += ["--set", override]
    remedy = "edge-agent models verify; then a smaller profile: edge-agent profiles"
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_GOLDEN_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        fault = f"it did not end within {_GOLDEN_TIMEOUT_S:.0f} s"
        return deep.faults("golden clip", (fault,), "", remedy)
    if done.returncode < 0:
        fault = f"decoding it crashes (signal {-done.returncode})"
        return deep.faults("golden clip", (fault,), "", remedy)
    try:
        told = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        lines = done.stderr.strip().splitlines()
        fault = lines[-1].removeprefix("edge-agent: ") if lines else "decoding it ends without a word"
        return deep.faults("golden clip", (fault,), "", remedy)
    well = f"its words came out in {told['decode_ms']:.0f} ms with {told['profile']}, {told['model']}"
    return deep.faults("golden clip", tuple(filter(None, [told["fault"]])), well, remedy)


def _decode_golden(config: Config) -> int:
    from edge_agent import selftest
    from edge_agent.meaning import wish_of
    from edge_agent.opening import open_recogniser

    recogniser = open_recogniser(wish_of(config, models_dir()))
    recogniser.engine.warm_up()
    fault, facts = selftest.examine(recogniser.engine, recogniser.options, selftest.clip())
    profile, model = recogniser.choice.profile.name, recogniser.model_name
    print_json_line({"fault": fault, "decode_ms": 0, **facts, "profile": profile, "model": model})
    recogniser.engine.close()
    return 0


def _round_trip(config: Config) -> list[CheckResult]:
    """Ask the broker for this device's commands, as the agent does; nothing is published."""
    from edge_agent.config import device_id
    from edge_agent.health import deep
    from edge_agent.meaning import mqtt_settings
    from edge_agent.mqtt import wire
    from edge_agent.mqtt.client import Connection

    name = device_id(config, state_dir())
    topics = wire.Topics(config.mqtt.prefix, name)
    try:
        connection = Connection(mqtt_settings(config), client_id=f"{name}-doctor")
        connection.connect()
        began = time.perf_counter()
        connection.subscribe(topics.command)
        took_ms = (time.perf_counter() - began) * 1e3
        connection.disconnect()
    except EdgeAgentError as error:
        return [deep.faults("round trip", (error.cause,), "", error.remedy)]
    return [deep.round_trip(took_ms)]
