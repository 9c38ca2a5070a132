"""Recordings of minutes: python -m tests.benchmarks.decoding.long_files [ID ...] [--write]

The path of `edge-agent transcribe` (speech found, windows packed, decoded, words placed) against
faster-whisper on the same files, greedy on both sides: errors, CPU time, and whether the word times run on:
none before its predecessor, none outside its recording. Writes the section "Long files" of RESULTS.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise

from tests.benchmarks.decoding import common  # before numpy: it sets the BLAS threads

# isort: split
import msgspec

from edge_agent.audio.files import read_audio
from edge_agent.bench.peer import FasterWhisper
from edge_agent.engine.whisper import WhisperEngine
from edge_agent.models.store import ModelStore
from edge_agent.text.segments import Transcript, segments_of, transcript_of
from edge_agent.types import SAMPLE_RATE_HZ, DecodeOptions, Word
from edge_agent.verbs.common import models_dir
from edge_agent.verbs.recordings import passages
from tests import corpus
from tests.benchmarks.results import machine, table, write_section
from tests.benchmarks.score import FIT_REFERENCES, Errors, errors

SETS = ("longform", "longform_multilingual_azure")


class Compared(msgspec.Struct, frozen=True):
    """One recording on both sides."""

    clip: corpus.Clip
    ours: Errors
    peer: Errors
    our_s: float
    peer_s: float
    words: int
    steps_back: int
    """Words that begin before their predecessor does, or end outside the recording."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="recordings of the corpus (default: all long ones)"
    )
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--write", action="store_true", help="write the figures to RESULTS.md")
    chosen = parser.parse_args()
    opened = common.engine(chosen.model)
    peer = FasterWhisper(ModelStore(models_dir()).source_dir(chosen.model), threads=1)
    found = []
    for clip in clips(chosen.ids):
        found.append(compare(clip, opened, peer))
        print(row(found[-1]), flush=True)
    text = body(chosen.model, found)
    print(text)
    if chosen.write:
        write_section("long-files", "Long files", text)


def clips(ids: Sequence[str]) -> list[corpus.Clip]:
    """The recordings named, or all long ones with a fit reference."""
    known = [clip for name in SETS for clip in corpus.clips(set=name) if clip.reference in FIT_REFERENCES]
    return [clip for clip in known if not ids or clip.id in ids]


def compare(clip: corpus.Clip, opened: WhisperEngine, peer: FasterWhisper) -> Compared:
    """Transcribe a recording on both sides."""
    pcm = read_audio(clip.path)
    duration_s = len(pcm) / SAMPLE_RATE_HZ

    def ours() -> Transcript:
        options = DecodeOptions(language=clip.language, words=True)
        segments = [
            segment
            for said in passages(opened, [pcm], options, workers=1)
            for segment in segments_of(said.hypothesis, said.start_s, said.end_s, said.speech)
        ]
        return transcript_of(clip.id, duration_s, clip.language, segments)

    heard, our_ms = common.cpu_ms(ours)
    text, peer_ms = common.cpu_ms(lambda: peer.transcribe(pcm, clip.language))
    words = [word for segment in heard.segments for word in segment.words]
    return Compared(
        clip=clip,
        ours=errors(clip.text, heard.text, clip.language),
        peer=errors(clip.text, text, clip.language),
        our_s=our_ms / 1e3,
        peer_s=peer_ms / 1e3,
        words=len(words),
        steps_back=steps_back(words, duration_s),
    )


def steps_back(words: Sequence[Word], duration_s: float) -> int:
    """Breaks in the order of words, and words outside the recording."""
    back = sum(after.start_s < before.start_s for before, after in pairwise(words))
    return back + sum(not 0 <= word.start_s <= word.end_s <= duration_s + 0.01 for word in words)


HEAD = [
    "recording",
    "s",
    "units",
    "errors",
    "peer",
    "points",
    "CPU s",
    "peer",
    "words placed",
    "out of order",
]


def row(one: Compared) -> list[str]:
    return [
        f"{one.clip.id} ({one.clip.language})",
        f"{one.clip.duration_s:.0f}",
        str(one.ours.units),
        str(one.ours.edits),
        str(one.peer.edits),
        f"{100 * (one.ours.rate - one.peer.rate):+.2f}",
        f"{one.our_s:.1f}",
        f"{one.peer_s:.1f}",
        str(one.words),
        str(one.steps_back),
    ]


def body(model: str, found: Sequence[Compared]) -> str:
    """The section's text."""
    return (
        f"`edge-agent transcribe`'s path against faster-whisper, {model} int8, greedy, one thread, word "
        "times on our side. Errors are words, of Chinese, Japanese and Korean characters.\n\n"
        + table(HEAD, [row(one) for one in found])
        + f"\n\n`python -m tests.benchmarks.decoding.long_files --write`, {machine()}."
    )


if __name__ == "__main__":
    main()
