"""Do batches of short utterances pay? python -m tests.benchmarks.decoding.batches

CPU milliseconds per utterance at one thread, for batches of 1, 2 and 4 of the same length; the smallest of
several turns, the sizes in turns. One minute. `--write` puts the section "Batches" into RESULTS.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks.decoding import common  # before numpy: it sets the BLAS threads

# isort: split
import ctranslate2
import numpy as np

from edge_agent.audio.files import read_audio
from edge_agent.decoding.features import fit, log_mel
from edge_agent.models.store import ModelStore
from edge_agent.verbs.common import models_dir
from tests import corpus
from tests.benchmarks.results import machine, table, write_section

SIZES = (1, 2, 4)
SECONDS = (2.0, 4.0, 6.0, 10.0)
_TOKENS = 16
_PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
_TURNS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="whisper-base")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    store = ModelStore(models_dir())
    if not store.has_source(chosen.model):
        raise SystemExit(f"the published files are wanted: edge-agent models pull {chosen.model}")
    model = ctranslate2.models.Whisper(
        str(store.source_dir(chosen.model)),
        device="cpu",
        compute_type="int8",
        inter_threads=1,
        intra_threads=1,
    )
    sound = np.concatenate([read_audio(clip.path) for clip in corpus.clips(set="en_read_kathleen")[:4]])
    rows = []
    for seconds in SECONDS:
        mels = fit(log_mel(sound, 80), round(100 * seconds))
        encoded = model.encode(_view(np.stack([mels])))
        wide = np.array(encoded)
        rows += [
            [f"encode {seconds:g} s", *_cells(lambda n, m=mels: model.encode(_view(np.stack([m] * n))))],
            [
                f"decode {_TOKENS} tokens of {seconds:g} s",
                *_cells(lambda n, w=wide: _decode(model, np.concatenate([w] * n))),
            ],
        ]
        print(rows[-2], rows[-1], flush=True)
    head = ["step", *(f"{size} at once" for size in SIZES)]
    body = (
        f"CPU milliseconds per utterance at one thread, {chosen.model} int8. {machine()}.\n\n"
        f"{table(head, rows)}\n\n`python -m tests.benchmarks.decoding.batches --write`"
    )
    print(body)
    if chosen.write:
        write_section("decoding-batches", "Batches", body)


def _decode(model: Any, encoded: Any) -> None:
    prompts = [list(_PROMPT)] * len(encoded)
    # The end is kept away, so that each size makes the same number of tokens.
    model.generate(_view(encoded), prompts, beam_size=1, max_length=2 * _TOKENS, suppress_tokens=[-1, 50257])


def _cells(work: Callable[[int], object]) -> list[str]:
    best = dict.fromkeys(SIZES, float("inf"))
    for _ in range(_TURNS):
        for size in SIZES:
            began = time.process_time()
            work(size)
            best[size] = min(best[size], (time.process_time() - began) / size)
    return [f"{1e3 * best[size]:.1f}" for size in SIZES]


def _view(array: Any) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array, dtype=np.float32))


assert common  # imported for what it does


if __name__ == "__main__":
    main()
