"""Are word times right? python -m tests.benchmarks.decoding.word_times [--clips N] [--write]

Two independent judges. faster-whisper's `word_timestamps` on the same recordings: other code, the full 30 s
and timestamp tokens. And sentences whose place in the sound is known to 20 ms: how far from it the first word
of each begins and the last one ends. Writes the section "Word times" of RESULTS.md.
"""

from __future__ import annotations

import argparse
import difflib
import statistics
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.decoding import common  # before numpy: it sets the BLAS threads

# isort: split
import msgspec
import numpy as np

from edge_agent.audio.files import read_audio
from edge_agent.engine.whisper import WhisperEngine
from edge_agent.models.store import ModelStore
from edge_agent.types import SAMPLE_RATE_HZ, DecodeOptions, PcmFloat, Word
from edge_agent.verbs.common import models_dir
from tests import corpus
from tests.benchmarks.results import machine, table, write_section
from tests.benchmarks.score import units

SETS = {
    "en": ("en_read_kathleen", "en_read_ljspeech", "en_noisy", "tel8k_en_asterisk"),
    "de": ("de_read_kerstin",),
    "fr": ("tel8k_fr_asterisk",),
    "zh": ("zh_read_aishell_S0150",),
}
_SHORTEST_S = 2.0
_CLOSE_S = 0.2


class Compared(msgspec.Struct, frozen=True):
    """Words both sides heard alike, and by how much their times differ, in seconds, ours less the peer's."""

    ours: int
    peer: int
    starts: tuple[float, ...]
    ends: tuple[float, ...]


class PeerWord(msgspec.Struct, frozen=True):
    """A word of faster-whisper."""

    text: str
    start_s: float
    end_s: float


def chosen_clips(language: str, count: int) -> list[corpus.Clip]:
    """`count` clips, spread over the language's sets."""
    groups = [
        [clip for clip in corpus.clips(set=name) if clip.duration_s >= _SHORTEST_S] for name in SETS[language]
    ]
    each = -(-count // len(groups))
    return [clip for group in groups for clip in group[:: max(1, len(group) // each)][:each]][:count]


def compare(ours: Sequence[Word], peer: Sequence[PeerWord], language: str) -> Compared:
    """Times of the words that stand in the same place of both texts."""
    mine, theirs = pieces(ours, language), pieces(peer, language)
    matcher = difflib.SequenceMatcher(
        a=[one[0] for one in mine], b=[one[0] for one in theirs], autojunk=False
    )
    starts, ends = [], []
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            left, right = mine[block.a + offset], theirs[block.b + offset]
            starts.append(left[1] - right[1])
            ends.append(left[2] - right[2])
    return Compared(ours=len(mine), peer=len(theirs), starts=tuple(starts), ends=tuple(ends))


def pieces(words: Sequence[Word] | Sequence[PeerWord], language: str) -> list[tuple[str, float, float]]:
    """Words, Chinese ones by character, as they are scored, with times; a word of several shares its time."""
    found = []
    for word in words:
        parts = units(word.text, language)
        share = (word.end_s - word.start_s) / max(1, len(parts))
        found += [
            (part, word.start_s + place * share, word.start_s + (place + 1) * share)
            for place, part in enumerate(parts)
        ]
    return found


class Peer:
    """faster-whisper with word times, one thread."""

    def __init__(self, model: str) -> None:
        from faster_whisper import WhisperModel

        directory = ModelStore(models_dir()).source_dir(model)
        self._model = WhisperModel(str(directory), device="cpu", compute_type="int8", cpu_threads=1)

    def words(self, pcm: PcmFloat, language: str) -> list[PeerWord]:
        """Greedy, with its usual options."""
        segments, _ = self._model.transcribe(
            pcm,
            language=language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            word_timestamps=True,
        )
        return [
            PeerWord(word.word, word.start, word.end) for segment in segments for word in segment.words or ()
        ]


def joined(count: int) -> list[tuple[PcmFloat, list[tuple[float, float]]]]:
    """Pairs of sentences with a second of silence between, and where the speech of each lies."""
    clips = [clip for clip in corpus.clips(set="en_read_kathleen") if 2.0 <= clip.duration_s <= 5.0]
    made = []
    for first, second in zip(clips[: 2 * count : 2], clips[1 : 2 * count : 2], strict=True):
        one, two = spoken_part(first.path), spoken_part(second.path)
        silence = np.zeros(SAMPLE_RATE_HZ, np.float32)
        at = (len(one) + len(silence)) / SAMPLE_RATE_HZ
        made.append(
            (
                np.concatenate([one, silence, two]),
                [(0.0, len(one) / SAMPLE_RATE_HZ), (at, at + len(two) / SAMPLE_RATE_HZ)],
            )
        )
    return made


def spoken_part(path: Path) -> PcmFloat:
    """A recording from its first to its last loud 20 ms (30 dB below the loudest)."""
    pcm = read_audio(path)
    size = SAMPLE_RATE_HZ // 50
    levels = np.square(pcm[: len(pcm) // size * size].reshape(-1, size)).mean(axis=1)
    loud = np.flatnonzero(levels > levels.max() * 1e-3)
    return pcm[loud[0] * size : (loud[-1] + 1) * size]


def edges(opened: WhisperEngine, count: int) -> tuple[list[float], list[float]]:
    """How far the first word begins from its sentence's begin, and the last ends from its end."""
    begins, ends = [], []
    for pcm, sentences in joined(count):
        words = opened.transcribe(pcm, options=DecodeOptions(words=True)).words
        middle = sum(sentences[0][1:] + sentences[1][:1]) / 2
        for (begin, end), group in (
            (sentences[0], [word for word in words if word.start_s < middle]),
            (sentences[1], [word for word in words if word.start_s >= middle]),
        ):
            if group:
                begins.append(group[0].start_s - begin)
                ends.append(group[-1].end_s - end)
    return begins, ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=20, help="of each language")
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--write", action="store_true", help="write the figures to RESULTS.md")
    chosen = parser.parse_args()
    opened, peer = common.engine(chosen.model), Peer(chosen.model)
    rows = []
    for language in SETS:
        found = []
        for clip in chosen_clips(language, chosen.clips):
            pcm = read_audio(clip.path)
            ours = opened.transcribe(pcm, options=DecodeOptions(language=language, words=True)).words
            found.append(compare(ours, peer.words(pcm, language), language))
        rows.append(row(language, found))
        print(rows[-1], flush=True)
    begins, ends = edges(opened, chosen.clips)
    text = body(chosen.model, rows, begins, ends)
    print(text)
    if chosen.write:
        write_section("decoding-words", "Word times", text)


HEAD = [
    "language",
    "clips",
    "words alike",
    "start: median ms",
    "90 %",
    "bias",
    "end: median ms",
    "90 %",
    "bias",
]


def row(language: str, found: Sequence[Compared]) -> list[str]:
    """Of all clips of a language together."""
    starts = [value for one in found for value in one.starts]
    ends = [value for one in found for value in one.ends]
    return [
        language,
        str(len(found)),
        f"{len(starts)} of {sum(one.ours for one in found)}",
        *_spread(starts),
        *_spread(ends),
    ]


def _spread(values: Sequence[float]) -> list[str]:
    sizes = sorted(map(abs, values))
    return [
        f"{1e3 * statistics.median(sizes):.0f}",
        f"{1e3 * sizes[int(0.9 * len(sizes))]:.0f}",
        f"{1e3 * statistics.median(values):+.0f}",
    ]


def body(model: str, rows: list[list[str]], begins: Sequence[float], ends: Sequence[float]) -> str:
    """The section's text."""
    close = sum(abs(value) <= _CLOSE_S for value in (*begins, *ends))
    return (
        f"{model} int8. Against faster-whisper's word_timestamps on the same recordings, for the words both "
        "heard: how far starts and ends lie apart (ours in the short or padded view, the peer's in 30 s).\n\n"
        + table(HEAD, rows)
        + "\n\nAgainst sentences whose place is known to 20 ms (two joined by a second of silence): first "
        f"words begin {1e3 * statistics.median(begins):+.0f} ms from the sentence's begin, last words end "
        f"{1e3 * statistics.median(ends):+.0f} ms from its end (medians of {len(begins)}); "
        f"{100 * close / (len(begins) + len(ends)):.0f} % of them within {1e3 * _CLOSE_S:.0f} ms.\n\n"
        f"`python -m tests.benchmarks.decoding.word_times --write`, {machine()}."
    )


if __name__ == "__main__":
    main()
