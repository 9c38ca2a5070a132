"""Which words a growing transcript tells as stable, when, and how many of them the final takes back.

    .venv/bin/python -m tests.benchmarks.stable_words [--clips 50] [--every MS] [--languages ...] [--write]

Each recording is cut as the agent cuts it and decoded as the agent would while it is spoken: first 0.7 s,
then half a second more at a time, each with the hypothesis before as its draft, then all of it at the first
silence, which is a last partial and the final. Time is that of the sound alone, so the figures do not depend
on how busy the machine is: the agent adds its decode, less than 0.1 s.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from edge_agent.audio.files import read_audio
from edge_agent.audio.segment import EndpointConfig
from edge_agent.engine.base import Engine
from edge_agent.profile.load import load_all
from edge_agent.text.stabilise import Stabiliser, StabiliserConfig, units
from edge_agent.types import SAMPLE_RATE_HZ, DecodeOptions, Hypothesis
from tests import corpus
from tests.benchmarks.long_speech import by_agent

SETS = {
    "en": (
        "en_read_kathleen",
        "en_read_ljspeech",
        "en_read_misc",
        "en_noisy",
        "en_farfield",
        "tel8k_en_asterisk",
    ),
    "de": ("de_read_kerstin",),
    "zh": ("zh_read_aishell_S0150", "zh_tw"),
    "fr": ("tel8k_fr_asterisk",),
    "es": ("tel8k_es_asterisk",),
}
_FIRST_S, _SILENCE_S, _PROBE_S = 0.7, 0.6, 0.2
RULES = {
    "as shipped": StabiliserConfig(sure=load_all()["cpu-avx512-vnni"].profile.partials.sure),
    "as shipped for CTranslate2": StabiliserConfig(sure=load_all()["cpu-avx2"].profile.partials.sure),
    "first bar at 0.9": StabiliserConfig(sure=((2, 0.9), (3, 0.85), (4, 0.8), (6, 0.7))),
    "first bar at 0.95": StabiliserConfig(sure=((2, 0.95), (6, 0.7))),
    "one look of 0.5": StabiliserConfig(sure=((1, 0.5),)),
    "two looks in agreement": StabiliserConfig(rule="agreement"),
}


@dataclass(frozen=True)
class Told:
    """An utterance as it was heard: (seconds of sound, hypothesis) of each partial, and the final."""

    seconds: float
    partials: tuple[tuple[float, Hypothesis], ...]
    final: Hypothesis


@dataclass
class Figures:
    """Sums over utterances."""

    units: int = 0
    retracted: int = 0
    respelled: int = 0
    lags_s: list[float] = field(default_factory=list)


def listen(engine: Engine, language: str, most: int, every_s: float) -> list[Told]:
    """Decode recordings of a language as they would be while they are spoken."""
    clips = [clip for name in SETS[language] for clip in corpus.clips(set=name, language=language)]
    clips = [clip for clip in clips if clip.duration_s < 25]
    random.Random(5).shuffle(clips)
    options = DecodeOptions(language=language, words=True)
    growing = msgspec.structs.replace(options, growing=True)
    silence = np.zeros(SAMPLE_RATE_HZ, np.float32)
    told = []
    for clip in clips[:most]:
        for utterance in by_agent(
            np.concatenate((read_audio(clip.path), silence)), EndpointConfig(tail_ms=int(1000 * _PROBE_S))
        ):
            partials: list[tuple[float, Hypothesis]] = []
            draft = None
            for seconds in np.arange(_FIRST_S, utterance.duration_s, every_s):
                heard = utterance.pcm[: int(seconds * SAMPLE_RATE_HZ)]
                draft = engine.transcribe(heard, options=growing, draft=draft)
                if not draft.rejected and draft.text.strip():
                    partials.append((float(seconds), draft))
            final = engine.transcribe(utterance.pcm, options=options, draft=draft)
            if not final.rejected and final.text.strip():
                partials.append((utterance.duration_s, final))
                told.append(Told(utterance.duration_s, tuple(partials), final))
    return told


def judge(told: Sequence[Told], config: StabiliserConfig) -> Figures:
    """What a rule makes of them."""
    figures = Figures()
    for one in told:
        stabiliser = Stabiliser(config)
        shown = [(seconds, stabiliser.update(heard, seconds).stable) for seconds, heard in one.partials]
        stable, final = shown[-1][1], units(one.final.text)
        figures.units += len(final)
        wrong = sum(i >= len(final) or unit != final[i] for i, unit in enumerate(units(stable)))
        figures.retracted += wrong
        figures.respelled += not wrong and not " ".join(one.final.text.split()).startswith(stable.strip())
        seen = 0
        for word in one.final.words:
            seen += len(units(word.text))
            end_s = one.seconds - _PROBE_S + _SILENCE_S
            at_s = next((seconds for seconds, text in shown if len(units(text)) >= seen), end_s)
            figures.lags_s.append(at_s - word.end_s)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=50, help="of each language, at most")
    parser.add_argument("--every", type=int, default=500, metavar="MS", help="partial_interval_ms")
    parser.add_argument("--languages", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    args = parser.parse_args()

    from tests.benchmarks import results
    from tests.benchmarks.decoding.common import engine

    opened, rows = engine(args.model), []
    for language in args.languages:
        told = listen(opened, language, args.clips, args.every / 1000)
        for name, config in RULES.items():
            found = judge(told, config)
            ranked = sorted(found.lags_s)
            rows.append(
                [
                    f"{language}, {name}",
                    str(len(told)),
                    str(found.units),
                    str(found.retracted),
                    f"{found.retracted / found.units:.4f}",
                    str(found.respelled),
                    f"{ranked[len(ranked) // 2]:.2f}",
                    f"{ranked[int(0.95 * len(ranked))]:.2f}",
                ]
            )
    head = ["rule", "utterances", "units", "taken back", "share", "respelled", "lag s p50", "p95"]
    asked = f"--clips {args.clips} --every {args.every} --languages {' '.join(args.languages)}"
    text = (
        f"{args.model}, {results.machine()}. A unit is a word, in Chinese a character. Taken back: stable "
        "before, not in its place in the final. Respelled: utterances whose final has them with other signs "
        "or capitals. Lag: from the end of a word to the look that made it stable, decode time not counted; "
        "words that only the final tells count with the silence.\n\n"
        f"{results.table(head, rows)}\n\n`python -m tests.benchmarks.stable_words {asked} --write`"
    )
    print(text)
    if args.write:
        results.write_section("stable-words", "Stable words", text)


if __name__ == "__main__":
    main()
