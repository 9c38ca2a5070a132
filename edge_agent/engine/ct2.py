"""Whisper on CTranslate2: the default engine on every CPU, and on CUDA where the library has it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from edge_agent import cuda
from edge_agent.decoding.decoder import Decoder, Settings
from edge_agent.decoding.steps import Abilities
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.engine.base import EngineConfig
from edge_agent.engine.ct2_draft import Ct2Draft
from edge_agent.engine.ct2_layout import read_layout
from edge_agent.engine.ct2_selftest import prove
from edge_agent.engine.ct2_steps import Ct2Steps
from edge_agent.engine.memory_care import is_out_of_memory
from edge_agent.engine.whisper import MAX_AUDIO_S, WhisperEngine
from edge_agent.errors import EngineLoadFailed
from edge_agent.types import EngineInfo


def open_engine(config: EngineConfig) -> Ct2Engine:
    """Load a CTranslate2 Whisper model.

    Raises:
        EngineLoadFailed: the library is missing, the model is not one, or the compute type is not possible
            on this machine.
    """
    settings, draft_dir = _settings(config)
    model, steps, tokenizer = _open(config)
    draft = None
    if draft_dir is not None:
        smaller = msgspec.structs.replace(config, model_dir=draft_dir, model_name="draft@0", extra={})
        draft = Ct2Draft(*_open(smaller)[1:])
    info = EngineInfo(
        kind=f"ctranslate2/{config.compute_type}",
        model=_label(config),
        languages=steps.abilities.languages,
        steps=True,
        max_audio_s=MAX_AUDIO_S,
        notes=steps.abilities.notes,
    )
    decoder = Decoder(steps, tokenizer, settings=settings, draft_model=draft)
    return Ct2Engine(info, decoder, steps, model)


class Ct2Engine(WhisperEngine):
    """A loaded CTranslate2 model."""

    steps: Ct2Steps

    def __init__(self, info: EngineInfo, decoder: Decoder, steps: Ct2Steps, model: Any) -> None:
        super().__init__(info, decoder, steps)
        self._model = model

    def close(self) -> None:
        """Free the weights now rather than at the next garbage collection."""
        self._model.unload_model()


def _open(config: EngineConfig) -> tuple[Any, Ct2Steps, Tokenizer]:
    """A model with its tokenizer, its row layout proven."""
    model = _load(config)
    tokenizer = Tokenizer(config.model_dir)
    layout = read_layout(config.model_dir)
    facts = _model_config(config.model_dir)
    judge = None
    if layout.judge and config.device == "cpu":
        judge = _load(msgspec.structs.replace(config, model_dir=config.model_dir / layout.judge))
    abilities = Abilities(
        mels=int(model.n_mels),
        multilingual=bool(model.is_multilingual),
        languages=tuple(tokenizer.special.languages) if model.is_multilingual else ("en",),
        suppressed=frozenset(layout.tokens(facts["suppress_ids"])),
        suppressed_first=frozenset(layout.tokens(facts["suppress_ids_begin"])),
        scores_end=layout.end_mirror is not None,
        fast_prefix=layout.parallel_prefix,
        proves=judge is not None,
    )
    steps = Ct2Steps(model, layout, abilities, judge, silence_file=_silence_file(config))
    prompt = tokenizer.sot_sequence(abilities.languages[0])
    steps.abilities = prove(steps, layout, prompt, tokenizer.special.eot)
    return model, steps, tokenizer


def _silence_file(config: EngineConfig) -> Path | None:
    """Where silence is kept for these numbers; None beside published files, which stay as they are."""
    import ctranslate2

    if config.device != "cpu" or not (config.model_dir / "prepared.json").is_file():
        return None
    return config.model_dir / f"silence-{config.compute_type}-{ctranslate2.__version__}.f32"


def _settings(config: EngineConfig) -> tuple[Settings, Path | None]:
    """The engine's own options: those of `Settings`, and "draft_model", the directory of a smaller model."""
    extra = dict(config.extra)
    draft = extra.pop("draft_model", None)
    try:
        return msgspec.convert(extra, Settings), None if draft is None else Path(str(draft))
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(Settings))
        raise EngineLoadFailed(
            f"an option of the CTranslate2 engine is wrong: {error}",
            remedy=f"options are {known}, draft_model",
        ) from error


def _load(config: EngineConfig) -> Any:
    try:
        import ctranslate2
    except ImportError as error:
        raise EngineLoadFailed(
            f"the library CTranslate2 cannot be loaded: {error}",
            remedy="install it with: pip install ctranslate2",
        ) from error
    if not (config.model_dir / "model.bin").is_file():
        raise EngineLoadFailed(
            f"{config.model_dir} holds no model.bin", remedy="fetch the model with: edge-agent models pull"
        )
    if config.device == "cuda":
        cuda.preload()  # cuBLAS from its wheel; the library itself looks only where the system's loader does
    try:
        return ctranslate2.models.Whisper(
            str(config.model_dir),
            device=config.device,
            compute_type=config.compute_type,
            inter_threads=config.workers,
            intra_threads=config.threads_per_worker,
        )
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise EngineLoadFailed(
            f"CTranslate2 cannot load {config.model_dir}: {_sentence(error)}",
            remedy=_load_remedy(config, str(error)),
        ) from error


def _sentence(error: Exception) -> str:
    """The library's own words, their first sentence, on one line."""
    return " ".join(str(error).split()).split(". ")[0][:200].rstrip(".")


def _load_remedy(config: EngineConfig, message: str) -> str:
    import ctranslate2

    if "compute type" in message:
        try:
            known = sorted(ctranslate2.get_supported_compute_types(config.device))
        except (RuntimeError, ValueError):
            known = ["default"]
        return f"use one of {', '.join(known)}"
    if is_out_of_memory(message):
        return "end what else uses the GPU, or choose a smaller model"
    if "cublas" in message.lower():
        return "install cuBLAS 12: pip install nvidia-cublas-cu12"
    if "CUDA" in message or "device" in message:
        return 'use device "cpu"'
    return "fetch it again with: edge-agent models pull"


def _model_config(model_dir: Path) -> dict[str, list[int]]:
    path = model_dir / "config.json"
    try:
        facts = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return {key: [int(v) for v in facts[key]] for key in ("suppress_ids", "suppress_ids_begin")}
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise EngineLoadFailed(
            f"{path} does not describe a Whisper model: {error}",
            remedy="fetch it again with: edge-agent models pull",
        ) from error


def _label(config: EngineConfig) -> str:
    """name@digest; the digest is skipped when the name already carries one."""
    if "@" in config.model_name:
        return config.model_name
    digest = hashlib.sha256()
    with (config.model_dir / "model.bin").open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"{config.model_name}@{digest.hexdigest()[:12]}"
