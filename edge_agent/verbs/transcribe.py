"""`edge-agent transcribe`: recordings through the same recogniser the microphone uses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edge_agent.audio.files import read_audio
from edge_agent.errors import AudioFileError, UsageError
from edge_agent.files import write_atomically
from edge_agent.opening import Recogniser, Wish, open_recogniser
from edge_agent.text.segments import Segment, Transcript, segments_of, transcript_of
from edge_agent.text.subtitles import FORMATS, as_json_line
from edge_agent.types import SAMPLE_RATE_HZ
from edge_agent.verbs.common import Subparsers, models_dir, say, verb
from edge_agent.verbs.recordings import Ticks, decode_windows, find_speech, speech_within

_DESCRIPTION = """\
Transcribe recordings of any length: wav, flac, mp3, m4a, ogg, opus and whatever else FFmpeg reads.

The text goes to stdout, or with --output to one file per recording. Several recordings on stdout are
headed by their names (txt) or are one JSON object a line (json).

Exit code 0 when every recording was read, 1 when some were not, 2 when none was."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the verb."""
    parser = verb(subparsers, "transcribe", "audio files to text, JSON or subtitles", _DESCRIPTION)
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path)
    parser.add_argument("--format", choices=sorted(FORMATS), default="txt", help="default: txt")
    parser.add_argument(
        "--json", dest="format", action="store_const", const="json", help="the same as --format json"
    )
    parser.add_argument("--output", metavar="DIR", type=Path, help="write NAME.FORMAT there, for each FILE")
    add_recogniser_options(parser)
    parser.set_defaults(run=run)


def add_recogniser_options(parser: argparse.ArgumentParser) -> None:
    """The options that choose how to recognise; what is not given is None."""
    parser.add_argument("--model", metavar="NAME|DIR", help="instead of the profile's model")
    parser.add_argument("--profile", metavar="NAME", help="instead of the one that fits this machine")
    parser.add_argument("--language", metavar="TAG", help='for example "de", or "auto" (default: en)')
    parser.add_argument("--beam", type=_beam, metavar="N", help="1 is greedy (default: the profile's)")


def wish_of(args: argparse.Namespace) -> Wish:
    """What these options ask for."""
    model = args.model or ""
    if model and Path(model).is_dir():
        model = str(Path(model).resolve())
    return Wish(
        models_dir=models_dir(),
        profile=args.profile or "auto",
        model=model,
        language=args.language or "en",
        beam=args.beam,
    )


def run(args: argparse.Namespace) -> int:
    """Transcribe every file that can be read; name those that cannot."""
    targets = _targets(args.files, args.format, args.output)
    readable = [path for path in args.files if _exists(path)]
    if not readable:
        return AudioFileError.exit_code
    recogniser = open_recogniser(wish_of(args))
    failed = len(args.files) - len(readable)
    try:
        for path in readable:
            failed += not _one(path, recogniser, args, targets)
    finally:
        recogniser.engine.close()
    if not failed:
        return 0
    return 1 if failed < len(args.files) else AudioFileError.exit_code


def _one(path: Path, recogniser: Recogniser, args: argparse.Namespace, targets: dict[Path, Path]) -> bool:
    """Transcribe one file; False when it cannot be read."""
    try:
        pcm = read_audio(path)
    except AudioFileError as error:
        say(f"edge-agent: {error}")
        return False
    spans, windows = find_speech(pcm, recogniser.engine.info.max_audio_s)
    speech_s = sum(window.duration_s for window in windows)
    with _progress(path.name, speech_s, quiet=args.quiet) as tick:
        heard = decode_windows(
            recogniser.engine, pcm, windows, recogniser.options, workers=recogniser.choice.workers, tick=tick
        )
    segments: list[Segment] = []
    for window, hypothesis in zip(windows, heard, strict=True):
        start_s, end_s = window.start / SAMPLE_RATE_HZ, window.end / SAMPLE_RATE_HZ
        segments += segments_of(hypothesis, start_s, end_s, tuple(speech_within(spans, window)))
    language = heard[0].language if heard else recogniser.options.language
    transcript = transcript_of(str(path), len(pcm) / SAMPLE_RATE_HZ, language, segments)
    if not transcript.text and not args.quiet:
        say(f"edge-agent: {path}: no speech found")
    _write(transcript, path, args, targets)
    return True


def _write(transcript: Transcript, path: Path, args: argparse.Namespace, targets: dict[Path, Path]) -> None:
    if path in targets:
        try:
            write_atomically(targets[path], FORMATS[args.format](transcript).encode())
        except OSError as error:
            raise UsageError(
                f"{targets[path]} cannot be written: {error.strerror or error}",
                remedy="name another directory with --output",
            ) from error
        return
    several = len(args.files) > 1
    if several and args.format == "json":
        sys.stdout.write(as_json_line(transcript))
    else:
        head = f"==> {path} <==\n" if several else ""
        sys.stdout.write(head + FORMATS[args.format](transcript))
    sys.stdout.flush()


def _targets(files: Sequence[Path], kind: str, output: Path | None) -> dict[Path, Path]:
    """Where each file's transcript goes; empty for stdout."""
    if output is None:
        if len(files) > 1 and kind in {"srt", "vtt"}:
            raise UsageError(
                f"{kind} of {len(files)} recordings would run into one another on stdout",
                remedy="name a directory with --output DIR",
            )
        return {}
    stems = [path.stem for path in files]
    # Of "a.wav" and "a.mp3" both keep their ending, so that neither overwrites the other.
    targets = {
        path: output / f"{path.name if stems.count(path.stem) > 1 else path.stem}.{kind}" for path in files
    }
    if len(set(targets.values())) < len(set(files)):
        raise UsageError(
            f"two of the recordings would both be written to one file in {output}",
            remedy="transcribe them one at a time, or rename one",
        )
    return targets


def _exists(path: Path) -> bool:
    """Whether there is such a file; says so when not, before a model is loaded for nothing."""
    if path.is_file():
        return True
    what = "is a directory" if path.is_dir() else "does not exist"
    say(f"edge-agent: {path} {what}; name an audio file")
    return False


@contextmanager
def _progress(name: str, total_s: float, *, quiet: bool) -> Iterator[Ticks]:
    """A bar on stderr while a terminal watches; nothing otherwise."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total_s)
        yield lambda seconds: progress.advance(task, seconds)


def _beam(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10:
        raise argparse.ArgumentTypeError("a beam is 1 to 10 wide")
    return number
