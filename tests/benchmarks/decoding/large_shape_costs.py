"""What each step costs at large-v2's shape: python -m tests.benchmarks.decoding.large_shape_costs

The weights are random int8 numbers, so the words mean nothing and only the costs are real: encoding 3 s
against 30 s, a greedy token, a scoring pass over 8 to 64 tokens; and what follows from them for a history
draft and for a draft by whisper-base, on either engine. Needs 2 GB of memory and twice as much room in the
cache folder. CPU milliseconds at one thread. Writes the section "Large model" of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.decoding import common  # before numpy: it sets the BLAS threads

# isort: split
import ctranslate2
import numpy as np
from ctranslate2.specs import WhisperSpec

from edge_agent.decoding.steps import Abilities, Steps
from edge_agent.engine import ort
from edge_agent.engine.base import EngineConfig
from edge_agent.engine.ct2_layout import Layout
from edge_agent.engine.ct2_steps import Ct2Steps
from edge_agent.models.convert import write_onnx
from edge_agent.models.store import ModelStore
from edge_agent.verbs.common import models_dir
from tests.benchmarks.results import machine, table, write_section

LAYERS, HEADS, WIDTH, MELS = 32, 20, 1280, 80
TOKENS = 27
"""Of a typical utterance of 8 s, for the computed lines."""
WHOLE = "30 s, greedy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--keep", action="store_true", help="keep the random model (1.6 GB)")
    chosen = parser.parse_args()
    home = common.CACHE / f"large-{chosen.layers}"
    if not (home / "model.bin").is_file():
        write_model(home, chosen.layers)
    try:
        costs = {kind: measure(opened(home)) for kind, opened in OPEN.items()}
    finally:
        if not chosen.keep:
            shutil.rmtree(home, ignore_errors=True)
    text = body(costs, {kind: base_costs(kind) for kind in OPEN})
    print(text)
    if chosen.layers == LAYERS:
        write_section("decoding-large", "Large model", text)


def write_model(home: Path, layers: int) -> None:
    """A model of random int8 rows with one scale each."""
    rng = np.random.default_rng(0)
    spec = WhisperSpec(layers, HEADS, layers, HEADS)

    def rows(count: int, width: int) -> tuple[Any, Any]:
        # Scales differ because equal arrays would be stored once, which the library does not expect of them.
        return rng.integers(-127, 128, (count, width), dtype=np.int8), rng.uniform(2400, 2600, count).astype(
            np.float32
        )

    def linear(target: Any, out: int, width: int) -> None:
        target.weight, target.weight_scale = rows(out, width)
        target.bias = np.zeros(out, np.float32)

    def norm(target: Any) -> None:
        target.gamma, target.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    def attention(target: Any, *, cross: bool) -> None:
        norm(target.layer_norm)
        for place, out in enumerate((WIDTH, 2 * WIDTH, WIDTH) if cross else (3 * WIDTH, WIDTH)):
            linear(target.linear[place], out, WIDTH)

    def feed_forward(target: Any) -> None:
        norm(target.layer_norm)
        linear(target.linear_0, 4 * WIDTH, WIDTH)
        linear(target.linear_1, WIDTH, 4 * WIDTH)

    encoder, decoder = spec.encoder, spec.decoder
    for conv, width in ((encoder.conv1, MELS), (encoder.conv2, WIDTH)):
        conv.weight = (0.02 * rng.standard_normal((WIDTH, width, 3))).astype(np.float32)
        conv.bias = np.zeros(WIDTH, np.float32)
    encoder.position_encodings.encodings = (0.02 * rng.standard_normal((1500, WIDTH))).astype(np.float32)
    decoder.position_encodings.encodings = (0.02 * rng.standard_normal((448, WIDTH))).astype(np.float32)
    norm(encoder.layer_norm)
    norm(decoder.layer_norm)
    for layer in encoder.layer:
        attention(layer.self_attention, cross=False)
        feed_forward(layer.ffn)
    for layer in decoder.layer:
        attention(layer.self_attention, cross=False)
        attention(layer.attention, cross=True)
        feed_forward(layer.ffn)
    source = ModelStore(models_dir()).source_dir("whisper-base")
    names = (source / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
    names = names[:-1] if names[-1] == "" else names
    decoder.embeddings.weight, decoder.embeddings.weight_scale = rows(len(names), WIDTH)
    decoder.projection.weight = decoder.embeddings.weight
    decoder.projection.weight_scale = decoder.embeddings.weight_scale
    decoder.scale_embeddings = False
    facts = json.loads((source / "config.json").read_text(encoding="utf-8"))
    spec.config.suppress_ids = facts["suppress_ids"]
    spec.config.suppress_ids_begin = facts["suppress_ids_begin"]
    spec.config.lang_ids = facts["lang_ids"]
    spec.config.alignment_heads = [(layers // 2, head) for head in range(4)]
    spec.register_vocabulary(names)
    spec.validate()
    spec.optimize(quantization=None)
    home.mkdir(parents=True, exist_ok=True)
    spec.save(str(home))


def on_ctranslate2(home: Path) -> Steps:
    """The model as CTranslate2 loads it."""
    model = ctranslate2.models.Whisper(str(home), compute_type="int8", intra_threads=1)
    facts = json.loads((home / "config.json").read_text(encoding="utf-8"))
    abilities = Abilities(
        mels=MELS, multilingual=True, languages=("en",), suppressed=frozenset(facts["suppress_ids"])
    )
    return Ct2Steps(model, Layout(), abilities)


def on_onnxruntime(home: Path) -> Steps:
    """The same weights as int8 graphs."""
    graphs = home / "onnx"
    if not (graphs / "onnx.json").is_file():
        graphs.mkdir(exist_ok=True)
        write_onnx(home, graphs, "int8", "random")
    return ort.open_engine(EngineConfig(kind="onnxruntime", model_dir=graphs, model_name="large@0")).steps


OPEN = {"onnxruntime": on_onnxruntime, "ctranslate2": on_ctranslate2}


def measure(steps: Steps) -> dict[str, float]:
    """CPU ms of each step; the lesser of two runs."""
    prompt = [50258, 50259, 50359, 50363]
    noise = np.random.default_rng(1).standard_normal((MELS, 3000)).astype(np.float32)
    costs: dict[str, float] = {}
    for seconds in (3, 5, 10, 30):
        mel = np.ascontiguousarray(noise[:, : 100 * seconds])
        encoded, costs[f"encode {seconds} s"] = best(lambda mel=mel: steps.encode(mel))
        if seconds not in (10, 30):
            continue
        where = f"at {seconds} s"
        fresh = partial(common.fresh, encoded)
        _, one = best(lambda fresh=fresh: steps.generate(fresh(), prompt, max_new=1))
        written, nine = best(lambda fresh=fresh: steps.generate(fresh(), prompt, max_new=9))
        costs[f"first token {where}"] = one
        costs[f"each further token {where}"] = (nine - one) / max(1, len(written.tokens) - 1)
        if seconds == 10:
            for count in (8, 16, 32, 64):
                tokens = list(range(1000, 1000 + count))
                _, costs[f"score {count} tokens {where}"] = best(
                    lambda fresh=fresh, tokens=tokens: steps.score(fresh(), prompt, tokens, 500)
                )
    return costs


def base_costs(kind: str) -> dict[str, float]:
    """What whisper-base takes to write a draft of the same utterance."""
    opened = common.engine("whisper-base", kind)
    noise = np.random.default_rng(1).standard_normal((MELS, 900)).astype(np.float32)
    encoded, encode = best(lambda: opened.steps.encode(noise, 500))
    prompt = [50258, 50259, 50359, 50363]
    _, one = best(lambda: opened.steps.generate(common.fresh(encoded), prompt, max_new=1))
    written, nine = best(lambda: opened.steps.generate(common.fresh(encoded), prompt, max_new=9))
    token = (nine - one) / max(1, len(written.tokens) - 1)
    return {"draft": encode + one + (TOKENS - 1) * token}


def best(work: Any) -> tuple[Any, float]:
    """The less disturbed of two runs."""
    _, first = common.cpu_ms(work)
    result, second = common.cpu_ms(work)
    return result, min(first, second)


def body(costs: dict[str, dict[str, float]], base: dict[str, dict[str, float]]) -> str:
    """Measured, then computed."""
    kinds = list(costs)
    measured = table(
        ["step", *(f"{kind}, CPU ms" for kind in kinds)],
        [[name, *(f"{costs[kind][name]:.0f}" for kind in kinds)] for name in costs[kinds[0]]],
    )
    ways = {kind: computed(costs[kind], base[kind]) for kind in kinds}
    rows = []
    for name in ways[kinds[0]]:
        cells = []
        for kind in kinds:
            whole = ways[kind][WHOLE]
            cells += [f"{ways[kind][name]:.0f}", f"{whole / ways[kind][name]:.1f}"]
        rows.append([name, *cells])
    head = [f"an utterance of 8 s and {TOKENS} tokens"]
    for kind in kinds:
        head += [f"{kind}, CPU ms", "times less"]
    return (
        f"{measured}\n\nComputed from these:\n\n{table(head, rows)}\n\n"
        "Random int8 weights of large-v2's shape, one thread; each against 30 s, greedy, on its own engine. "
        f"`python -m tests.benchmarks.decoding.large_shape_costs`, {machine()}."
    )


def computed(costs: dict[str, float], base: dict[str, float]) -> dict[str, float]:
    """CPU ms of ways to hear one utterance."""

    def greedy(where: str) -> float:
        return costs[f"first token {where}"] + (TOKENS - 1) * costs[f"each further token {where}"]

    encode, score = costs["encode 10 s"], costs["score 32 tokens at 10 s"]
    return {
        WHOLE: costs["encode 30 s"] + greedy("at 30 s"),
        "10 s, greedy": encode + greedy("at 10 s"),
        "10 s, right history draft": encode + score,
        "10 s, right draft by whisper-base": encode + score + base["draft"],
        "10 s, wrong draft by whisper-base": encode + score + base["draft"] + greedy("at 10 s"),
    }


if __name__ == "__main__":
    main()
