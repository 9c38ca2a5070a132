"""`edge-agent bench latency --live`: what a person feels, measured at a subscriber."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_agent import log
from edge_agent.bench import live
from edge_agent.errors import UsageError
from edge_agent.verbs.common import models_dir, print_json, say


def run(args: argparse.Namespace, files: Sequence[Path]) -> int:
    """Replay, then print."""
    from edge_agent.audio.files import read_audio

    if args.what != "latency" or args.against:
        raise UsageError(
            "--live measures our own latency", remedy="use: edge-agent bench latency --live FILES"
        )
    seconds = sum(len(read_audio(path)) for path in files) / 16_000
    if not args.quiet:
        say(f"playing {len(files)} recordings in real time: about {seconds + 1.5 * len(files):.0f} s")
    log.set_up(quiet=True)
    named = (("language", args.language), ("model", args.model), ("profile", args.profile))
    overrides = [f'recognition.{key}="{value}"' for key, value in named if value]
    figures = live.replay(files, [*overrides, *(args.overrides or [])], models_dir())
    summary = live.summary(figures)
    if args.json:
        print_json({"utterances": msgspec.to_builtins(figures.utterances), "summary": summary})
    else:
        for name, value in summary.items():
            sys.stdout.write(f"{name:34} {value}\n")
    return 0
