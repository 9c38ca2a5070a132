"""Do terms appear where nobody said them? python -m tests.benchmarks.decoding.term_leaks [--clips N]

Non-speech and speech without the terms are decoded with and without them; a term that only the biased decode
prints is a leak. Clips in which a term is said show what the biasing is worth. Writes the section "Terms" of
RESULTS.md.
"""

from __future__ import annotations

import argparse

from tests.benchmarks.decoding import common  # before numpy: it sets the BLAS threads

# isort: split
from edge_agent.audio.files import read_audio
from edge_agent.decoding.terms import present
from edge_agent.types import DecodeOptions
from tests import corpus
from tests.benchmarks.results import machine, table, write_section

TERMS = (
    "Sweynheim",
    "Pannartz",
    "Subiaco",
    "Schoeffer",
    "Gutenberg",
    "Thorpe",
    "Gregson",
    "Whittemore",
    "Saxon",
    "Philip Steels",
    "Typhoid",
    "Xylotex",
    "Kubernetes",
    "Asterisk",
    "Okada",
    "Sarnoff",
)
_MAX_SAMPLES = 28 * 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=80)
    chosen = parser.parse_args()
    opened = common.engine("whisper-base")
    english = [c for c in corpus.clips(language="en") if c.duration_s <= 15 and c.reference == "verbatim"]
    without = [clip for clip in english if not present(TERMS, clip.text)]
    groups = {
        "non-speech": corpus.clips(set="nonspeech"),
        "speech without terms": without[:: max(1, len(without) // chosen.clips)][: chosen.clips],
        "speech with a term": [clip for clip in english if present(TERMS, clip.text)],
    }
    rows = [row(opened, name, clips) for name, clips in groups.items()]
    head = [
        "clips of",
        "count",
        "terms said",
        "plain right",
        "biased right",
        "leaks",
        "leaks stopped",
        "changed",
    ]
    body = table(head, rows) + f"\n\nTerms: {', '.join(TERMS)}. {machine()}."
    print(body)
    write_section("decoding-terms", "Terms", body)


def row(opened: common.WhisperEngine, name: str, clips: list[corpus.Clip]) -> list[str]:
    """One group, decoded twice."""
    said = plain_right = biased_right = leaks = stopped = changed = 0
    for clip in clips:
        pcm = read_audio(clip.path)[:_MAX_SAMPLES]
        plain = opened.transcribe(pcm, options=DecodeOptions(language="en"))
        biased = opened.transcribe(pcm, options=DecodeOptions(language="en", terms=TERMS))
        here = present(TERMS, clip.text)
        printed = frozenset() if biased.rejected else present(TERMS, biased.text)
        said += len(here)
        plain_right += len(here & present(TERMS, plain.text))
        biased_right += len(here & printed)
        leaks += len(printed - here - present(TERMS, plain.text))
        stopped += "term_leak" in biased.flags
        changed += biased.text != plain.text
        if printed - here:
            print(f"{clip.id}: {clip.text!r} -> {biased.text!r} (plain {plain.text!r})")
    return [name, *map(str, (len(clips), said, plain_right, biased_right, leaks, stopped, changed))]


if __name__ == "__main__":
    main()
