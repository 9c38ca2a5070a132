"""`edge-agent bench`: measured figures on this device, and the ratio against a plain peer."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.bench import measure, report
from edge_agent.bench.clips import Clip, load_clips
from edge_agent.bench.peer import NAME as FASTER_WHISPER
from edge_agent.bench.peer import FasterWhisper
from edge_agent.bench.wyoming import NAME as WYOMING
from edge_agent.errors import UsageError
from edge_agent.models.store import ModelStore
from edge_agent.opening import Recogniser, Wish, open_recogniser, wanted_model
from edge_agent.profile.choose import Choice
from edge_agent.text.segments import said
from edge_agent.types import SAMPLE_RATE_HZ, PcmFloat
from edge_agent.verbs import bench_plot
from edge_agent.verbs.bench_table import print_tables
from edge_agent.verbs.common import Subparsers, add_json, models_dir, print_json, verb
from edge_agent.verbs.progress import progress_bar
from edge_agent.verbs.recordings import decode_windows, find_speech
from edge_agent.verbs.transcribe import add_recogniser_options, check_language, wish_of

_DESCRIPTION = """\
Measure this device.

  latency     time of each recording: features, encoder and decoder of one utterance
  throughput  seconds of audio per second, with all workers busy
  accuracy    word (Chinese, Japanese, Korean: character) error rate, where a manifest.jsonl beside the
              recordings says what is said

With --live the recordings are played in real time through the whole agent and a private broker, and what a
subscriber sees is measured: first partial, word lag, changes of mind, delay of the final, CPU, memory.

With --live --against wyoming the same recordings are spoken to a Wyoming server (wyoming-faster-whisper of
PATH, or the one of --peer-url) through its public protocol, with --live --against faster-whisper decoded when
the silence window is over; each peer's delay is counted from there, as ours.

Without --live, with --against faster-whisper, both sides decode the same recordings with the same model
files, in turns, on the same cores. Loading models and reading files is not counted. Without FILES the bundled
recordings are used; a folder stands for the recordings its manifest.jsonl names.

--plot FILE.svg draws what was measured: the share of recordings, or utterances, that took at most so long,
medians and ratios beside the peer, error rates where references are known. It opens in any browser."""

_RUNS = {"latency": 3, "throughput": 3, "accuracy": 1}


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb. Options may stand before or after the word that says what to measure."""
    parser = verb(
        subparsers, "bench", "measure latency, throughput and accuracy on this device", _DESCRIPTION
    )
    _add_options(parser)
    parser.set_defaults(run=run, what="latency", files=[])
    kinds = parser.add_subparsers(metavar="latency|throughput|accuracy")
    for what in _RUNS:
        # Without defaults of its own it leaves alone what was given before the word.
        kind = kinds.add_parser(
            what,
            argument_default=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            description=_DESCRIPTION,
        )
        kind.add_argument("-v", "--verbose", action="count", help=argparse.SUPPRESS)
        kind.add_argument("-q", "--quiet", action="store_true", help=argparse.SUPPRESS)
        _add_options(kind)
        kind.add_argument("files", nargs="*", metavar="FILE", type=Path)
        kind.set_defaults(what=what)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", choices=[FASTER_WHISPER, WYOMING], help="measure this peer too")
    parser.add_argument("--peer-url", metavar="tcp://HOST:PORT", help="the Wyoming server that runs already")
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPUs to use (default: all allowed)")
    parser.add_argument(
        "--runs", type=_positive, metavar="N", help="times each is measured (default: 3, accuracy 1)"
    )
    parser.add_argument("--peer-beam", type=_positive, metavar="N", help="default: 1, greedy")
    parser.add_argument(
        "--live",
        action="store_true",
        help="latency: play the recordings in real time through the whole agent and a broker of its own",
    )
    parser.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        dest="overrides",
        help="with --live: override one configuration key (may be repeated)",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.svg",
        help="also draw it: distribution of latencies, medians, ratios, error rates",
    )
    parser.add_argument("--references", type=Path, metavar="FILE", help="a manifest.jsonl kept elsewhere")
    add_recogniser_options(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, then print."""
    bench_plot.check(args.plot)
    if args.live:
        from edge_agent.verbs import bench_live

        return bench_live.run(args, args.files or _samples())
    if args.against == WYOMING:
        raise UsageError("a Wyoming server is measured live", remedy="add --live")
    clips = load_clips(args.files or _samples(), language=args.language or "", manifest=args.references)
    if args.what == "accuracy":
        clips = [clip for clip in clips if clip.reference is not None]
    if not clips:
        raise UsageError(
            "no recording has a reference text to compare with",
            remedy="name one with --references manifest.jsonl, or measure latency",
        )
    allowed = os.sched_getaffinity(0)
    threads = _pin(args.threads)
    try:
        result = _run(args, clips, threads)
    finally:
        os.sched_setaffinity(0, allowed)
    if args.json:
        print_json(result)
    else:
        print_tables(result)
    bench_plot.write(args.plot, result, quiet=args.quiet)
    return 0


def _run(args: argparse.Namespace, clips: Sequence[Clip], threads: int) -> dict[str, Any]:
    """Open both sides and measure them."""
    runs = args.runs or _RUNS[args.what]
    wish = msgspec.structs.replace(wish_of(args), words=False)
    recogniser = open_recogniser(wish)
    try:
        for language in sorted({clip.language for clip in clips}):
            check_language(recogniser, language)
        recogniser.engine.warm_up()
        peer = _open_peer(wish, recogniser, args, threads) if args.against else None
        facts = {
            "what": args.what,
            "threads": threads,
            "runs": runs,
            "engine": recogniser.engine.info.kind,
            "model": recogniser.engine.info.model,
            "profile": recogniser.choice.profile.name,
            "beam": recogniser.options.beam,
            **({"peer_name": peer.label, "peer_beam": args.peer_beam or 1} if peer else {}),
        }
        result = _measure(args, clips, recogniser, peer, runs)
    finally:
        recogniser.engine.close()
    result["summary"] = {**facts, **result["summary"]}
    return result


def _measure(
    args: argparse.Namespace,
    clips: Sequence[Clip],
    recogniser: Recogniser,
    peer: FasterWhisper | None,
    runs: int,
) -> dict[str, Any]:
    """Clips and summary; throughput times whole rounds, so each of its clips is timed once beside them."""
    ours = _ours(recogniser)
    theirs = peer.transcribe if peer else None
    if args.what == "throughput":
        rounds = runs * (2 if peer else 1)
        with progress_bar("rounds", quiet=args.quiet) as bar:
            bar.total(rounds)
            mine, others = measure.flow(
                clips, ours, theirs, runs=runs, workers=recogniser.choice.workers, done=bar.advance
            )
        summary = report.throughput(sum(clip.duration_s for clip in clips), mine, others)
        summary["workers"] = recogniser.choice.workers
        runs = 1
    with progress_bar("recordings", quiet=args.quiet) as bar:
        bar.total(len(clips))
        pairs = measure.compare(clips, ours, theirs, runs=runs, done=bar.advance)
    if args.what != "throughput":
        summary = report.latency(pairs)
    if args.what == "accuracy":
        summary["sets"] = report.accuracy(pairs)
    return {"clips": [report.clip_facts(pair) for pair in pairs], "summary": summary}


def _ours(recogniser: Recogniser) -> measure.Transcribe:
    """One utterance straight through the engine; what is longer is packed into windows first."""
    engine, longest = recogniser.engine, recogniser.engine.info.max_audio_s

    def transcribe(pcm: PcmFloat, language: str) -> str:
        options = msgspec.structs.replace(recogniser.options, language=language)
        if len(pcm) <= longest * SAMPLE_RATE_HZ:
            return said(engine.transcribe(pcm, options=options))
        _, windows = find_speech(pcm, longest)
        heard = decode_windows(engine, pcm, windows, options, workers=recogniser.choice.workers)
        return " ".join(filter(None, map(said, heard)))

    return transcribe


def published(wish: Wish, choice: Choice) -> Path:
    """The published files of the model that ours was made from.

    Raises:
        UsageError: they are not in the store.
    """
    name = wanted_model(wish, choice)
    if Path(name).is_dir():
        return Path(name)
    store = ModelStore(models_dir())
    if not store.has_source(name):
        raise UsageError(
            f"the published files of {name} are not in the store, only their prepared form",
            remedy=f"fetch them with: edge-agent models pull {name}",
        )
    return store.source_dir(name)


def _open_peer(wish: Wish, recogniser: Recogniser, args: argparse.Namespace, threads: int) -> FasterWhisper:
    engine = recogniser.choice.profile.engine
    return FasterWhisper(
        published(wish, recogniser.choice),
        threads=threads,
        beam=args.peer_beam or 1,
        compute_type=engine.compute_type,
        device=engine.device,
    )


def _pin(wanted: int | None) -> int:
    """Keep this process, and every thread it will start, to so many CPUs; answers how many."""
    allowed = sorted(os.sched_getaffinity(0))
    if wanted is not None and wanted > len(allowed):
        raise UsageError(
            f"{wanted} CPUs were asked for, {len(allowed)} may be used", remedy=f"use at most {len(allowed)}"
        )
    os.sched_setaffinity(0, allowed[:wanted])
    return wanted or len(allowed)


def _samples() -> list[Path]:
    folder = Path(str(resources.files("edge_agent") / "samples"))
    paths = sorted(folder.glob("*.flac"))
    if not paths:
        raise UsageError("the bundled recordings are missing", remedy="name a recording, or install again")
    return paths


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number
