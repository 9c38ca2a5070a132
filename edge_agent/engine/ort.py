"""Whisper on onnxruntime, on the CPU or with CUDA. `models convert --to onnx` makes its models."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_agent.decoding.alike import Alike
from edge_agent.decoding.decoder import Decoder, Settings
from edge_agent.decoding.features import MAX_FRAMES
from edge_agent.decoding.steps import Abilities, Effort
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.engine.base import EngineConfig
from edge_agent.engine.ort_session import Runtime, Shapes, open_session
from edge_agent.engine.ort_steps import OrtSteps, Shape
from edge_agent.engine.whisper import MAX_AUDIO_S, WhisperEngine
from edge_agent.errors import EngineLoadFailed
from edge_agent.types import EngineInfo, Value

FACTS = "onnx.json"
GRAPHS = ("encoder", "cross", "decoder")
_FORMAT = 2
_REMEDY = "make it with: edge-agent models convert NAME --to onnx"


class Facts(Value, frozen=True):
    """What `onnx.json` says of the graphs beside it."""

    format: int
    source: str
    """sha256 of the model.bin it was made from."""
    precision: str
    """float32, float16 or int8."""
    mels: int
    layers: int
    heads: int
    vocabulary: int
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]


_EFFORT = Effort(
    look=1.0,
    look_token=0.17,
    proof=0.0,
    plain=0.5,
    go_on=0.0,
    go_on_token=1.0,
    favoured=0.001,
    refuted=0.001,
    written=0.001,
    ties=0.0,
)
"""Measured as CTranslate2's, in steps of 3.5 ms. The encoder output is projected once and the prompt stays in
the cache, so no call but the first has a fixed cost; a scoring pass proves. Of 1,989 tokens that were written
one by one and scored in one pass no lead over the next best token differed by more than 0.00002 nats."""


def open_engine(config: EngineConfig) -> WhisperEngine:
    """Load a Whisper model in ONNX form.

    Raises:
        EngineLoadFailed: onnxruntime or the model cannot be used.
    """
    facts = read_facts(config.model_dir)
    settings, runtime = _options(config)
    tokenizer = Tokenizer(config.model_dir)
    # Cross keys and the decoder stay with CUDA: the decoder's cache has too many shapes to plan for, and the
    # cross projection is two products of matrices, which both do alike.
    shapes = {"encoder": encoder_shapes(facts.mels)}
    graphs = {
        name: open_session(config.model_dir / f"{name}.onnx", config, runtime, shapes=shapes.get(name))
        for name in GRAPHS
    }
    multilingual = tokenizer.multilingual
    abilities = Abilities(
        mels=facts.mels,
        multilingual=multilingual,
        languages=tuple(tokenizer.special.languages) if multilingual else ("en",),
        suppressed=frozenset(facts.suppressed),
        suppressed_first=frozenset(facts.suppressed_first),
        # Every logit is known, and the cache goes back to any place: nothing has to be proven first.
        scores_end=True,
        fast_prefix=True,
        proves=True,
        remembers=True,
        effort=_EFFORT,
    )
    shape = Shape(layers=facts.layers, heads=facts.heads, vocabulary=facts.vocabulary)
    steps = OrtSteps(
        graphs,
        abilities,
        tokenizer.special,
        shape,
        alike=Alike(tokenizer.vocabulary),
        silence_file=_silence_file(config, facts.precision),
    )
    info = EngineInfo(
        kind=f"onnxruntime/{facts.precision}",
        model=config.model_name,
        languages=abilities.languages,
        steps=True,
        max_audio_s=MAX_AUDIO_S,
    )
    return WhisperEngine(info, Decoder(steps, tokenizer, settings=settings), steps)


def _options(config: EngineConfig) -> tuple[Settings, Runtime]:
    extra = dict(config.extra)
    try:
        runtime = msgspec.convert(extra.pop("session", {}), Runtime)
        return msgspec.convert(extra, Settings), runtime
    except msgspec.ValidationError as error:
        known = ", ".join((*(field.name for field in msgspec.structs.fields(Settings)), "session"))
        raise EngineLoadFailed(
            f"an option of the onnxruntime engine is wrong: {error}", remedy=f"options are {known}"
        ) from error


def encoder_shapes(mels: int) -> Shapes:
    """Log-mel frames that the encoder may be given: from nearly none to 30 s, and mostly 10 s."""
    return Shapes(name="features", least=(1, mels, 2), usual=(1, mels, 1000), most=(1, mels, MAX_FRAMES))


def _silence_file(config: EngineConfig, precision: str) -> Path | None:
    """Where silence is kept for these numbers."""
    import onnxruntime

    if config.device != "cpu":
        return None
    return config.model_dir / f"silence-{precision}-{onnxruntime.__version__}.f32"


def read_facts(model_dir: Path) -> Facts:
    """The facts of a model directory.

    Raises:
        EngineLoadFailed: it is no model in ONNX form, or one of another version.
    """
    path = model_dir / FACTS
    try:
        facts = msgspec.json.decode(path.read_bytes(), type=Facts)
    except FileNotFoundError as error:
        raise EngineLoadFailed(f"{model_dir} holds no ONNX model", remedy=_REMEDY) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise EngineLoadFailed(f"{path} cannot be used: {error}", remedy=_REMEDY) from error
    if facts.format != _FORMAT:
        raise EngineLoadFailed(f"{path} is of a form this version does not know", remedy=_REMEDY)
    return facts
