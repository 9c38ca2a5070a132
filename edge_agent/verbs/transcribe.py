"""`edge-agent transcribe`: recordings through the same recogniser the microphone uses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.audio.files import audio_info, stream_audio
from edge_agent.errors import AudioFileError, UsageError
from edge_agent.files import write_atomically
from edge_agent.opening import Recogniser, Wish, open_recogniser
from edge_agent.text.segments import Segment, Transcript, segments_of, transcript_of
from edge_agent.text.subtitles import FORMATS, as_json_line
from edge_agent.types import SAMPLE_RATE_HZ
from edge_agent.verbs.common import Subparsers, models_dir, say, verb
from edge_agent.verbs.progress import SILENT, Bar, progress_bar
from edge_agent.verbs.recordings import passages

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


def check_language(recogniser: Recogniser, language: str) -> None:
    """Refuse a language the model does not know, rather than write it down as another one.

    Raises:
        UsageError: naming the languages it knows, when they are few.
    """
    known = recogniser.engine.info.languages
    primary = language.partition("-")[0].lower()
    if not known or primary in {*known, "auto"}:
        return
    several = f"one of its {len(known)} languages" if len(known) > 10 else " or ".join(known)
    raise UsageError(
        f'{recogniser.model_name} does not know the language "{language}"',
        remedy=f"use {several} or another --model",
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
        check_language(recogniser, args.language or "en")
        for path, result in _transcripts(readable, recogniser, args):
            if isinstance(result, Transcript):
                _write(result, path, args, targets)
            else:
                say(f"edge-agent: {result}")
                failed += 1
    finally:
        recogniser.engine.close()
    if not failed:
        return 0
    return 1 if failed < len(args.files) else AudioFileError.exit_code


def _transcripts(
    files: Sequence[Path], recogniser: Recogniser, args: argparse.Namespace
) -> Iterator[tuple[Path, Transcript | AudioFileError]]:
    """In the order given: one file with all workers, or several side by side, one worker each."""
    workers = recogniser.choice.workers
    if len(files) == 1:
        with progress_bar(files[0].name, quiet=args.quiet) as bar:
            result = _one(files[0], recogniser, workers, bar)
        yield files[0], result
        return
    with (
        progress_bar(f"{len(files)} files", quiet=args.quiet) as bar,
        ThreadPoolExecutor(max_workers=workers, thread_name_prefix="file") as pool,
    ):
        bar.total(len(files))
        jobs = [pool.submit(_one, path, recogniser, 1, SILENT) for path in files]
        try:
            for path, job in zip(files, jobs, strict=True):
                yield path, job.result()
                bar.advance(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one(path: Path, recogniser: Recogniser, workers: int, bar: Bar) -> Transcript | AudioFileError:
    """Read, find speech, decode."""
    samples = 0
    segments: list[Segment] = []
    language = recogniser.options.language

    def blocks() -> Iterator[NDArray[np.float32]]:
        nonlocal samples
        for block in stream_audio(path):
            samples += len(block)
            yield block[:, 0]

    try:
        duration_s = audio_info(path).duration_s
        if duration_s:
            bar.total(duration_s)
        for said in passages(
            recogniser.engine, blocks(), recogniser.options, workers=workers, tick=bar.advance
        ):
            if not segments:
                language = said.hypothesis.language
            segments += segments_of(said.hypothesis, said.start_s, said.end_s, said.speech)
    except AudioFileError as error:
        return error
    return transcript_of(str(path), samples / SAMPLE_RATE_HZ, language, segments)


def _write(transcript: Transcript, path: Path, args: argparse.Namespace, targets: dict[Path, Path]) -> None:
    if not transcript.text and not args.quiet:
        say(f"edge-agent: {path}: no speech found")
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


def _beam(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10:
        raise argparse.ArgumentTypeError("a beam is 1 to 10 wide")
    return number
