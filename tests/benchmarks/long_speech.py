"""Continuous reading without pauses, cut by the agent, against the same sound cut where the sentences end.

    .venv/bin/python -m tests.benchmarks.long_speech [--minutes 30] [--model whisper-base] [--write]

Recordings of two readers are joined, their pauses taken out, so that no silence ever ends an utterance: each
cut is one the agent had to make inside the speech. The difference of the word error rates is what its seams
cost. `--write` puts the figures into RESULTS.md.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from edge_agent.audio.cutter import Callbacks, Cutter
from edge_agent.audio.files import read_audio
from edge_agent.audio.ring import Ring
from edge_agent.audio.segment import EndpointConfig
from edge_agent.audio.vad import Vad
from edge_agent.clock import SystemClock
from edge_agent.engine.base import Engine
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, DecodeOptions, PcmFloat, Utterance
from tests import corpus
from tests.benchmarks.score import Errors, errors

READERS = ("en_read_ljspeech", "en_read_kathleen")
_SILENCE_LEFT = 3  # frames: shorter than any probe
_BLOCK = 4096


@dataclass(frozen=True)
class Reading:
    """Sound without pauses, and where its sentences begin."""

    sound: PcmFloat
    begins: tuple[int, ...]
    texts: tuple[str, ...]


def without_pauses(sound: PcmFloat) -> PcmFloat:
    """The frames that hold speech, and at most 96 ms of each silence."""
    vad, kept, quiet = Vad(1), [], _SILENCE_LEFT
    for first in range(0, len(sound) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        frame = sound[first : first + FRAME_SAMPLES]
        quiet = 0 if float(vad.probability(frame[:, None])[0]) >= 0.35 else quiet + 1
        if quiet <= _SILENCE_LEFT:
            kept.append(frame)
    return np.concatenate(kept) if kept else sound[:0]


def reading(seconds: float, seed: int = 7) -> Reading:
    """At least `seconds` of continuous reading; recordings come again in another order when they run out."""
    rng = random.Random(seed)
    dense: dict[str, PcmFloat] = {}
    parts, begins, texts, length = [], [], [], 0
    by_reader = [list(corpus.clips(set=reader)) for reader in READERS]
    for clips in cycle(by_reader):
        rng.shuffle(clips)
        for clip in clips:
            if length >= seconds * SAMPLE_RATE_HZ:
                return Reading(sound=np.concatenate(parts), begins=tuple(begins), texts=tuple(texts))
            if clip.id not in dense:
                dense[clip.id] = without_pauses(read_audio(clip.path))
            parts.append(dense[clip.id])
            begins.append(length)
            texts.append(clip.text)
            length += len(dense[clip.id])
    raise AssertionError("cycle never ends")


def by_hand(read: Reading, longest_s: float = 28.0) -> list[PcmFloat]:
    """Pieces as long as the agent's, cut where sentences end."""
    ends = (*read.begins[1:], len(read.sound))
    pieces, start, last = [], 0, 0
    for end in ends:
        if end - start > longest_s * SAMPLE_RATE_HZ:
            pieces.append(read.sound[start:last])
            start = last
        last = end
    return [*pieces, read.sound[start:]]


def by_agent(sound: PcmFloat, config: EndpointConfig | None = None) -> list[Utterance]:
    """Utterances, as the cutter makes them."""
    ring, found = Ring(), list[Utterance]()
    cutter = Cutter(
        ring,
        clock=SystemClock(),
        config=config or EndpointConfig(),
        callbacks=Callbacks(on_utterance=found.append, on_gap=_no_gap),
    )
    cutter.start()
    ring.begin(rate_hz=SAMPLE_RATE_HZ, channels=1, start_ns=0)
    pcm = np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.int16)[:, None]
    for first in range(0, len(pcm), _BLOCK):
        if not ring.wait_room(_BLOCK, 30.0):
            raise SystemExit("the cutter does not read")
        ring.write(pcm[first : first + _BLOCK], first * 62_500)
    ring.close()
    cutter.join(60)
    if cutter.failure is not None:
        raise cutter.failure
    return found


def _no_gap(gap: object) -> None:
    raise AssertionError(f"a gap in sound without one: {gap}")


def score(pieces: Sequence[PcmFloat], engine: Engine, reference: str) -> Errors:
    """Word errors of all pieces together."""
    options = DecodeOptions(language="en")
    # The scorer takes dots for a word; the model writes them where sound breaks off.
    texts = [engine.transcribe(piece, options=options).text.replace("...", " ") for piece in pieces]
    return errors(reference, " ".join(texts), "en")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--longest-s", type=float, default=28.0, help="max_utterance_s; less: more seams")
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    args = parser.parse_args()

    from tests.benchmarks import results
    from tests.benchmarks.decoding.common import engine

    read = reading(args.minutes * 60)
    cut = by_agent(read.sound, EndpointConfig(max_utterance_s=args.longest_s))
    sentences = by_hand(read, args.longest_s)
    opened, reference = engine(args.model), " ".join(read.texts)
    ours = score([utterance.pcm for utterance in cut], opened, reference)
    hand = score(sentences, opened, reference)
    minutes = len(read.sound) / SAMPLE_RATE_HZ / 60
    body = results.table(
        ["cut", "pieces", "words", "errors", "WER %"],
        [
            ["by the agent", str(len(cut)), str(ours.units), str(ours.edits), f"{100 * ours.rate:.2f}"],
            [
                "where sentences end",
                str(len(sentences)),
                str(hand.units),
                str(hand.edits),
                f"{100 * hand.rate:.2f}",
            ],
        ],
    )
    longest = "" if args.longest_s == 28.0 else f" --longest-s {args.longest_s:g}"
    asked = f"--minutes {args.minutes:g} --model {args.model}{longest}"
    command = f"python -m tests.benchmarks.long_speech {asked} --write"
    text = (
        f"{minutes:.1f} minutes of reading with every pause taken out, {args.model}, {results.machine()}:"
        f"\n\n{body}\n\n`{command}`"
    )
    print(text)
    if args.write:
        results.write_section("long-speech", "Continuous speech: what the seams cost", text)


if __name__ == "__main__":
    main()
