"""How much context costs how many words: python -m tests.benchmarks.decoding.context_frontier [POLICY ...]

Every policy decodes every clip with a fit reference through the product's own decoder: context, guard,
retries, beam. CPU milliseconds (features, encode, decode) at one thread. Hypotheses are kept in the cache
folder, so that only what changed is decoded again (--fresh forgets them). Writes the section "Context" of
RESULTS.md; the table it speaks for is edge_agent/decoding/context_policy.toml.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
from collections import defaultdict

from tests.benchmarks.decoding import common  # before numpy: it sets the BLAS threads

# isort: split
import msgspec

from edge_agent.audio.files import read_audio
from edge_agent.decoding import context
from edge_agent.decoding.context import Rule, Table
from edge_agent.decoding.decoder import Decoder
from edge_agent.types import DecodeOptions
from tests import corpus
from tests.benchmarks.results import machine, table, write_section
from tests.benchmarks.score import FIT_REFERENCES, Errors, errors, total

LANGUAGES = ("en", "de", "es", "fr", "zh")
FULL = Rule(context="full", retries=())
SHORT = Rule(context="short", retries=(), min_logprob=-10.0)
PADDED = Rule(context="padded", retries=(), min_logprob=-10.0)
POLICIES: dict[str, tuple[Table, int]] = {
    "shipped": (context.shipped_table(), 1),
    "full": (Table(default=FULL), 1),
    "short, no retry": (Table(default=SHORT), 1),
    "padded, no retry": (Table(default=PADDED), 1),
    "short, long": (Table(default=Rule(context="short", retries=("long",))), 1),
    "short, long, padded": (Table(default=Rule(context="short", retries=("long", "padded"))), 1),
    "padded, short, long": (Table(default=Rule(context="padded", retries=("short", "long"))), 1),
    "padded, long, full": (
        Table(default=Rule(context="padded", retries=("long", "full"), min_logprob=-0.5)),
        1,
    ),
    "shipped, beam 5": (context.shipped_table(), 5),
    "full, beam 5": (Table(default=FULL), 5),
}


class Decoded(msgspec.Struct, frozen=True):
    """One clip under one policy."""

    text: str
    rejected: str
    cpu_ms: float
    encode_ms: float
    retries: int
    duration_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("policies", nargs="*", choices=[*POLICIES, []], default=[])
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--only-kept", action="store_true", help="write the table from what is kept")
    chosen = parser.parse_args()
    clips = [
        clip
        for clip in corpus.clips()
        if clip.reference in FIT_REFERENCES
        and clip.language in LANGUAGES
        and clip.duration_s < 29.9
        and (clip.language != "en" or clip.duration_s <= 15)
    ]
    names = chosen.policies or list(POLICIES)
    rows: list[list[str]] = []
    opened = None
    for name in names:
        kept = Kept(chosen.model, name, fresh=chosen.fresh)
        missing = [clip for clip in clips if clip.id not in kept.found]
        if missing and chosen.only_kept:
            continue
        if missing:
            opened = opened or common.engine(chosen.model, layout="plain")
            decode(opened, missing, name, kept)
        rows += lines(name, clips, kept.found)
        print(table(HEAD, rows[-len(LANGUAGES) :]), flush=True)
    if names == list(POLICIES):
        write_section("decoding-context", "Context", body(rows, chosen.model))


class Kept:
    """Hypotheses of earlier runs, in one file for each model, policy and version of the decoder."""

    def __init__(self, model: str, name: str, *, fresh: bool) -> None:
        policy, beam = POLICIES[name]
        mark = hashlib.sha256(msgspec.json.encode((policy, beam))).hexdigest()[:12]
        self.path = common.CACHE / f"context-{model}-{mark}.json"
        self.found: dict[str, Decoded] = {}
        if self.path.is_file() and not fresh:
            self.found = msgspec.json.decode(self.path.read_bytes(), type=dict[str, Decoded])

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(msgspec.json.encode(self.found))


def decode(opened: common.Ct2Engine, clips: list[corpus.Clip], name: str, kept: Kept) -> None:
    """Decode `clips`, keeping the results as they come."""
    policy, beam = POLICIES[name]
    decoder = Decoder(opened.steps, opened.decoder.tokenizer, table=policy)
    for number, clip in enumerate(clips):
        pcm = read_audio(clip.path)
        options = DecodeOptions(language=clip.language, beam=beam)
        heard, ms = common.cpu_ms(lambda pcm=pcm, options=options: decoder.transcribe(pcm, options=options))
        kept.found[clip.id] = Decoded(
            heard.text, heard.rejected, ms, heard.cost.encode_ms, heard.cost.retries, clip.duration_s
        )
        if number % 50 == 0:
            kept.save()
    kept.save()


HEAD = [
    "policy",
    "language",
    "clips",
    "errors",
    "units",
    "rate %",
    "mean ms",
    "median",
    "median <= 4 s",
    "p95",
    "retried %",
]


def lines(name: str, clips: list[corpus.Clip], found: dict[str, Decoded]) -> list[list[str]]:
    """One row for each language."""
    by_language: dict[str, list[corpus.Clip]] = defaultdict(list)
    for clip in clips:
        by_language[clip.language].append(clip)
    rows = []
    for language in LANGUAGES:
        group = by_language[language]
        wrong: Errors = total(errors(clip.text, shown(found[clip.id]), language) for clip in group)
        ms = sorted(found[clip.id].cpu_ms for clip in group)
        brief = [found[clip.id].cpu_ms for clip in group if clip.duration_s <= 4]
        retried = sum(found[clip.id].retries > 0 for clip in group)
        rows.append(
            [name, language, str(len(group)), str(wrong.edits), str(wrong.units), f"{100 * wrong.rate:.2f}"]
            + [f"{value:.0f}" for value in (statistics.mean(ms), statistics.median(ms))]
            + [f"{statistics.median(brief):.0f}" if brief else "-", f"{ms[int(0.95 * len(ms))]:.0f}"]
            + [f"{100 * retried / len(group):.0f}"]
        )
    return rows


def shown(decoded: Decoded) -> str:
    """What is published."""
    return "" if decoded.rejected else decoded.text


def body(rows: list[list[str]], model: str) -> str:
    """The section's text."""
    return (
        f"{model} int8; word errors (Chinese: characters) of clips with a fit reference, English up to 15 s. "
        "CPU ms at one thread: features, encoder and decoder, retries included. Policies name the views in "
        'the order they are tried (edge_agent/decoding/context.py); "full" is the reference decoder\'s. '
        "Differences of a dozen errors are chance: int8 rounding alone moves that many.\n\n"
        + table(HEAD, rows)
        + f"\n\n`python -m tests.benchmarks.decoding.context_frontier`, {machine()}."
    )


if __name__ == "__main__":
    main()
