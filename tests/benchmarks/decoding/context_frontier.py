"""How much context costs how many words: python -m tests.benchmarks.decoding.context_frontier [--fresh]

The product's own decoder over every clip with a fit reference: view x guard x beam, and faster-whisper on
the same sound. Each engine call is made once, at one thread, and remembered with its CPU time, so that all
policies together cost little more than one (about half an hour on an idle core; --fresh forgets what earlier
runs asked). Then thresholds are chosen on one half of the speakers and scored on the other. Writes the
section "Context" or "Context on onnxruntime" of RESULTS.md with --write; it speaks for
edge_agent/decoding/context_policy.toml.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable, Sequence

from tests.benchmarks.decoding import common  # before numpy: it sets the BLAS threads

# isort: split
from edge_agent.audio.files import read_audio
from edge_agent.bench.peer import FasterWhisper
from edge_agent.decoding import features
from edge_agent.decoding.decoder import Decoder
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.engine.whisper import WhisperEngine
from edge_agent.models.store import ModelStore
from edge_agent.types import DecodeOptions, PcmFloat
from edge_agent.verbs.common import models_dir
from tests import corpus
from tests.benchmarks.decoding import frontier_report as report
from tests.benchmarks.decoding.frontier_policies import LANGUAGES, Policy, candidates, grid
from tests.benchmarks.decoding.frontier_report import Decoded
from tests.benchmarks.decoding.remember import Answer, Memory, Remembered
from tests.benchmarks.results import machine, write_section
from tests.benchmarks.score import FIT_REFERENCES

SECTIONS = {
    "onnxruntime": ("decoding-context-onnxruntime", "Context on onnxruntime"),
    "ctranslate2": ("decoding-context", "Context"),
}
_LONGEST_S = 29.9
_SAVED_EVERY = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--engine", choices=common.ENGINES, default=common.ENGINES[0])
    parser.add_argument("--fresh", action="store_true", help="forget what was asked before")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only N clips of each language")
    parser.add_argument("--known", action="store_true", help="only clips that were asked about before")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    chosen = parser.parse_args()
    memory = Memory(common.CACHE / f"context-{chosen.model}-{chosen.engine}.memory", fresh=chosen.fresh)
    bench = Bench(chosen.model, chosen.engine, memory)
    wanted = clips(chosen.limit)
    found: dict[str, dict[str, Decoded]] = {}
    for number, clip in enumerate(wanted):
        if not chosen.known or clip.id in bench.known:
            found[clip.id] = bench.decode(clip)
        if number % _SAVED_EVERY == 0:
            memory.save()
            print(f"{number} of {len(wanted)}", flush=True)
    memory.save()
    done = [clip for clip in wanted if clip.id in found]
    how = "--known" if chosen.known else "--fresh"
    text = report.body(done, found) + (
        f"\n\n{chosen.model} int8 on {chosen.engine}, one thread, {len(done)} of {len(wanted)} clips. "
        f"`python -m tests.benchmarks.decoding.context_frontier --engine {chosen.engine} {how} --write`, "
        f"{machine()}."
    )
    print(text)
    if chosen.write:
        write_section(*SECTIONS[chosen.engine], text)


def clips(limit: int) -> list[corpus.Clip]:
    """Those with a fit reference that one decode hears whole, in an order that is the same every time."""
    fit = [
        clip
        for clip in corpus.clips()
        if clip.reference in FIT_REFERENCES and clip.language in LANGUAGES and clip.duration_s < _LONGEST_S
    ]
    fit.sort(key=lambda clip: hashlib.sha256(clip.id.encode()).digest())
    if not limit:
        return fit
    return [clip for code in LANGUAGES for clip in [c for c in fit if c.language == code][:limit]]


class Bench:
    """Both sides, opened when they are first needed.

    Args:
        model: a name in the model store.
        kind: of our engine.
        memory: what was asked before.
    """

    def __init__(self, model: str, kind: str, memory: Memory) -> None:
        self._model = model
        self._kind = kind
        self._memory = memory
        self._engine: WhisperEngine | None = None
        self._peer: FasterWhisper | None = None
        self._tokenizer = Tokenizer(ModelStore(models_dir()).source_dir(model))
        self._steps = Remembered(lambda: self.engine.steps, memory)
        self.known = {key.split()[1] for key in memory.answers if key.startswith("features ")}

    @property
    def engine(self) -> WhisperEngine:
        self._engine = self._engine or common.engine(self._model, self._kind)
        return self._engine

    @property
    def peer(self) -> FasterWhisper:
        self._peer = self._peer or FasterWhisper(ModelStore(models_dir()).source_dir(self._model), threads=1)
        return self._peer

    def decode(self, clip: corpus.Clip) -> dict[str, Decoded]:
        """A clip by every policy, and by the peer."""
        pcm = read_audio(clip.path)
        heard = {"peer": self._by_peer(clip, pcm)}
        front_ms = self._features_ms(clip, pcm)
        for policy in unique([*grid(), *candidates()]):
            heard[policy.name] = self._by(policy, clip, pcm, front_ms)
        self._steps.forget_sounds()
        return heard

    def _by(self, policy: Policy, clip: corpus.Clip, pcm: PcmFloat, front_ms: float) -> Decoded:
        decoder = Decoder(self._steps, self._tokenizer, table=policy.table)
        self._steps.spent_ms = 0.0
        options = DecodeOptions(language=clip.language, beam=policy.beam, words=policy.words)
        heard = decoder.transcribe(pcm, options=options)
        return Decoded(
            text="" if heard.rejected else heard.text,
            cpu_ms=front_ms + self._steps.spent_ms,
            retried=heard.cost.retries > 0,
        )

    def _by_peer(self, clip: corpus.Clip, pcm: PcmFloat) -> Decoded:
        key = f"peer {clip.id}"
        if key not in self._memory.answers:
            text, ms = common.cpu_ms(lambda: self.peer.transcribe(pcm, clip.language))
            self._memory.answers[key] = Answer(ms=ms, text=text)
        answer = self._memory.answers[key]
        return Decoded(text=answer.text, cpu_ms=answer.ms, retried=False)

    def _features_ms(self, clip: corpus.Clip, pcm: PcmFloat) -> float:
        key = f"features {clip.id}"
        if key not in self._memory.answers:
            self._memory.answers[key] = Answer(ms=common.cpu_ms(lambda: features.log_mel(pcm, 80))[1])
        return self._memory.answers[key].ms


def unique(policies: Iterable[Policy]) -> Sequence[Policy]:
    """Each name once."""
    return list({policy.name: policy for policy in policies}.values())


if __name__ == "__main__":
    main()
