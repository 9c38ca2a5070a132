"""Does a draft change words, and what does it save? python -m tests.benchmarks.decoding.speculation --write

For each clip plain greedy decoding and verification of several drafts see the same encoder output, one after
the other; decoder CPU milliseconds at one thread. Where word times are wanted, too, plain decoding makes what
its engine needs for them after the last token, and is timed with it. Writes the section "Speculation" of
RESULTS.md when told to; `--wall` measures wall milliseconds, for a machine that does nothing else.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

from tests.benchmarks.decoding import common  # first: it sets the BLAS threads

# isort: split
import statistics
import time
from collections.abc import Callable

import msgspec

from edge_agent.audio.files import read_audio
from edge_agent.decoding import features, guards
from edge_agent.decoding.recycle import common as common_prefix
from edge_agent.decoding.speculate import EXACT, NEAR, Outcome, verify
from edge_agent.decoding.steps import Generated, Scored
from tests import corpus
from tests.benchmarks.results import machine, table, write_section


class Trial(msgspec.Struct, frozen=True):
    """One draft on one clip."""

    clip: str
    plain_ms: float
    draft_ms: float
    same: bool
    accepted: int
    tokens: int
    passes: int
    chances: tuple[float, float]
    """Where the two part first: what one scoring pass gives plain greedy's token, and the other one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--engine", choices=common.ENGINES, default=common.ENGINES[0])
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    clock = time.perf_counter if chosen.wall else time.process_time
    opened = common.engine(chosen.model, chosen.engine)
    trials = run(opened, pick(chosen.clips), clock)
    measured = f"{chosen.model} on {chosen.engine}, {'wall' if chosen.wall else 'CPU'}"
    print(report(trials, measured, write=chosen.write, section=SECTIONS[chosen.engine]))


def pick(count: int) -> list[corpus.Clip]:
    """Every n-th of the English and Chinese utterances up to 15 s."""
    fit = [
        clip
        for clip in corpus.clips()
        if clip.language in ("en", "zh") and clip.duration_s <= 15 and clip.reference == "verbatim"
    ]
    return fit[:: max(1, len(fit) // count)][:count]


class Mode(msgspec.Struct, frozen=True):
    """How a draft is used."""

    name: str
    tau: float = EXACT
    words: bool = False


SECTIONS = {
    "onnxruntime": ("decoding-speculation", "Speculation"),
    "ctranslate2": ("decoding-speculation-ctranslate2", "Speculation on CTranslate2"),
}
MODES = (Mode("exact"), Mode("exact, word times", words=True), Mode("near, word times", tau=NEAR, words=True))


def run(
    opened: common.WhisperEngine, clips: list[corpus.Clip], clock: Callable[[], float]
) -> dict[str, list[Trial]]:
    """All drafts on all clips."""
    found: dict[str, list[Trial]] = defaultdict(list)
    heard: dict[str, Generated] = {}
    for clip in clips:
        bench = Bench(opened, clip, clock)
        plain = bench.plain
        if not plain.ended or not plain.tokens:
            continue
        middle = len(plain.tokens) // 2
        wrong = (*plain.tokens[:middle], 4633, *plain.tokens[middle + 1 :])
        drafts = {
            "right": plain,
            "0.6 s earlier": bench.earlier(0.6),
            "one token wrong": msgspec.structs.replace(plain, tokens=wrong),
        }
        if clip.language in heard:
            drafts["another clip's"] = heard[clip.language]
        heard[clip.language] = plain
        for kind, draft in drafts.items():
            for mode in MODES:
                found[f"{kind}, {mode.name}"].append(bench.trial(draft, mode))
                if kind == "right" and len(plain.tokens) >= 16:
                    found[f"right, 16 tokens or more, {mode.name}"].append(found[f"{kind}, {mode.name}"][-1])
    return found


class Bench:
    """One clip with its plain greedy decode."""

    def __init__(self, opened: common.WhisperEngine, clip: corpus.Clip, clock: Callable[[], float]) -> None:
        self.clip = clip
        self.steps = opened.steps
        self.opened = opened
        self.clock = clock
        self.pcm = read_audio(clip.path)
        mel = features.log_mel(self.pcm, 80)
        self.frames = mel.shape[1]
        self.cap = guards.token_cap(clip.duration_s, clip.language)
        self.prompt = opened.decoder.tokenizer.sot_sequence(clip.language)
        self._encoded = common.view(opened, mel, common.short(mel))
        self.plain, plain_ms = self.timed(self.greedy)
        _, words_ms = self.timed(self.greedy_with_words)
        self.plain_ms = {False: plain_ms, True: words_ms}

    def timed(self, work: Callable[[], common.Result]) -> tuple[common.Result, float]:
        """What `work` gives, and its milliseconds; of two times the lesser."""
        spent = []
        for _ in range(2):
            started = self.clock()
            result = work()
            spent.append(1e3 * (self.clock() - started))
        return result, min(spent)

    def greedy(self) -> Generated:
        """Plain greedy decoding."""
        return self.steps.generate(common.fresh(self._encoded), self.prompt, max_new=self.cap)

    def greedy_with_words(self) -> Scored:
        """The same, then where its words lie."""
        encoded = common.fresh(self._encoded)
        found = self.steps.generate(encoded, self.prompt, max_new=self.cap)
        return self.steps.score(encoded, self.prompt, found.tokens, self.frames)

    def score(self, tokens: tuple[int, ...]) -> Scored:
        """Probabilities and places of given tokens."""
        return self.steps.score(common.fresh(self._encoded), self.prompt, tokens, self.frames)

    def earlier(self, seconds: float) -> Generated:
        """What was heard when the sound was that much shorter."""
        mel = features.log_mel(self.pcm[: max(8000, len(self.pcm) - int(seconds * 16_000))], 80)
        encoded = common.view(self.opened, mel, common.short(mel))
        return self.steps.generate(encoded, self.prompt, max_new=self.cap)

    def trial(self, draft: Generated, mode: Mode) -> Trial:
        """Verify a draft."""

        def check() -> Outcome:
            encoded = common.fresh(self._encoded)
            outcome = verify(
                self.steps,
                encoded,
                self.prompt,
                draft.tokens,
                frames=self.frames,
                tau=mode.tau,
                max_new=self.cap,
                avg_logprob=None if mode.words else draft.avg_logprob,
            )
            if mode.words and outcome.scored is None:
                self.steps.score(encoded, self.prompt, outcome.tokens, self.frames)
            return outcome

        outcome, draft_ms = self.timed(check)
        same = outcome.tokens == self.plain.tokens and outcome.ended == self.plain.ended
        return Trial(
            clip=self.clip.id,
            plain_ms=self.plain_ms[mode.words],
            draft_ms=draft_ms,
            same=same,
            accepted=outcome.accepted,
            tokens=len(self.plain.tokens),
            passes=outcome.passes,
            chances=(1.0, 1.0) if same else self.chances_at_difference(outcome.tokens),
        )

    def chances_at_difference(self, other: tuple[int, ...]) -> tuple[float, float]:
        """How likely either token is after what both share."""
        place = common_prefix(self.plain.tokens, other)

        def chance(tokens: tuple[int, ...]) -> float:
            scored = self.score(tokens[: place + 1])
            return scored.probabilities[place] if place < len(tokens) else scored.end_probability or 0.0

        return chance(self.plain.tokens), chance(other)


def report(trials: dict[str, list[Trial]], measured: str, *, write: bool, section: tuple[str, str]) -> str:
    """The table, and each difference by name."""
    rows = []
    notes = []
    for kind, group in trials.items():
        same = sum(trial.same for trial in group)
        ratio = sum(t.plain_ms for t in group) / sum(t.draft_ms for t in group)
        rows.append(
            [
                kind,
                str(len(group)),
                f"{100 * same / len(group):.1f} %",
                f"{statistics.mean(t.plain_ms for t in group):.0f}",
                f"{statistics.mean(t.draft_ms for t in group):.0f}",
                f"{ratio:.2f}",
                f"{statistics.median(t.draft_ms / t.plain_ms for t in group):.2f}",
                f"{sum(t.accepted for t in group) / sum(t.tokens for t in group):.2f}",
                f"{statistics.mean(t.passes for t in group):.2f}",
            ]
        )
        if ", exact" in kind and not kind.startswith("right, 16"):
            notes += [
                f"- {kind}: {t.clip}, plain greedy's token {t.chances[0]:.2f}, the other {t.chances[1]:.2f}"
                for t in group
                if not t.same
            ]
    head = [
        "draft, mode",
        "clips",
        "same tokens",
        "plain ms",
        "with draft ms",
        "times less",
        "median share",
        "accepted",
        "passes",
    ]
    body = table(head, rows)
    body += "\n\nDifferences in exact mode, with the probability of both tokens where the texts part:\n"
    body += "\n".join(notes) or "none"
    exact = [
        t.same for kind, group in trials.items() if ", exact" in kind and "16" not in kind for t in group
    ]
    body += f"\n\nSame tokens in exact mode: {sum(exact)} of {len(exact)} clips x drafts, "
    body += f"{100 * sum(exact) / len(exact):.1f} %. {measured} ms of the decoder, one thread. {machine()}."
    if write:
        write_section(*section, body)
    return body


if __name__ == "__main__":
    main()
