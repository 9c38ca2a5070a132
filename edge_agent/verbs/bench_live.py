"""`edge-agent bench latency --live`: what a person feels, measured at a subscriber."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from edge_agent import log
from edge_agent.bench import live, live_peer, wyoming
from edge_agent.bench.peer import FasterWhisper
from edge_agent.errors import UsageError
from edge_agent.opening import choose_profile
from edge_agent.types import PcmFloat
from edge_agent.verbs import bench_plot
from edge_agent.verbs.bench import published
from edge_agent.verbs.common import models_dir, print_json, say
from edge_agent.verbs.transcribe import wish_of

_TIMES_AS_LONG = {None: 1, "faster-whisper": 1, "wyoming": 2}


def run(args: argparse.Namespace, files: Sequence[Path]) -> int:
    """Replay, then print."""
    from edge_agent.audio.files import read_audio

    if args.what != "latency":
        raise UsageError("--live measures latency", remedy="use: edge-agent bench latency --live FILES")
    recordings = [(path, read_audio(path)) for path in files]
    seconds = sum(len(pcm) for _, pcm in recordings) / 16_000 + 1.5 * len(recordings)
    if not args.quiet:
        times = _TIMES_AS_LONG[args.against]
        say(f"playing {len(files)} recordings in real time: about {times * seconds:.0f} s")
    log.set_up(quiet=True)
    if args.against == wyoming.NAME and not args.peer_url:
        _server(args).close()  # what is missing is said before minutes are spent
    named = (("language", args.language), ("model", args.model), ("profile", args.profile))
    overrides = [f'recognition.{key}="{value}"' for key, value in named if value]
    figures = live.replay(files, [*overrides, *(args.overrides or [])], models_dir())
    peer = _peer(args, recordings, figures.silence_ms) if args.against else None
    summary: dict[str, object] = dict(live.summary(figures))
    if peer is not None:
        summary["peer"] = live_peer.summary(peer)
    told = {"peer_utterances": msgspec.to_builtins(peer.utterances)} if peer is not None else {}
    result = {"utterances": msgspec.to_builtins(figures.utterances), **told, "summary": summary}
    if args.json:
        print_json(result)
    else:
        _print(summary)
    bench_plot.write(args.plot, result, quiet=args.quiet)
    return 0


def _peer(
    args: argparse.Namespace, recordings: Sequence[tuple[Path, PcmFloat]], silence_ms: float
) -> live_peer.PeerFigures:
    """The same recordings through the peer, on the same model and cores."""
    language = args.language or "en"
    if args.against != wyoming.NAME:
        wish = wish_of(args)
        _, choice = choose_profile(wish)
        engine = choice.profile.engine
        peer = FasterWhisper(
            published(wish, choice),
            threads=_threads(args),
            beam=args.peer_beam or 1,
            compute_type=engine.compute_type,
        )
        speak = live_peer.at_the_end(peer, language)
        return live_peer.measure(
            peer.label, recordings, speak, silence_ms=silence_ms, cpu_s=time.process_time
        )
    if args.peer_url:
        speak = partial(wyoming.transcribe, args.peer_url, language=language)
        return live_peer.measure(args.peer_url, recordings, speak, silence_ms=silence_ms)
    with _server(args) as server:
        return live_peer.measure(
            wyoming.PROGRAM,
            recordings,
            partial(wyoming.transcribe, server.url, language=language),
            silence_ms=silence_ms,
            cpu_s=server.cpu_s,
            rss_mb=server.rss_mb,
        )


def _server(args: argparse.Namespace) -> wyoming.Server:
    wish = wish_of(args)
    _, choice = choose_profile(wish)
    return wyoming.Server(
        published(wish, choice),
        language=args.language or "en",
        threads=_threads(args),
        beam=args.peer_beam or 1,
        compute_type=choice.profile.engine.compute_type,
    )


def _threads(args: argparse.Namespace) -> int:
    return args.threads or len(os.sched_getaffinity(0))


def _print(summary: Mapping[str, object]) -> None:
    for name, value in summary.items():
        if isinstance(value, Mapping):
            sys.stdout.write("\n")
            _print({f"{name} {key}": inner for key, inner in value.items()})
        else:
            sys.stdout.write(f"{name:36} {value}\n")
