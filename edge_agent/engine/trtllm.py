"""Whisper on TensorRT-LLM, for many streams on one large card. The library lives in a worker process.

It decodes greedily or with a beam from a prompt, and no more: no scoring of given tokens, so neither word
times nor speculation. (Upstream refuses drafts for models with cross-attention; a forced beginning is all
there is.) Not yet run on hardware.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np

from edge_agent.decoding import features, guards
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.engine import trtllm_recipe as recipe
from edge_agent.engine.base import EngineConfig
from edge_agent.engine.trtllm_client import WorkerClient
from edge_agent.engine.trtllm_files import Found, checked, find, model_facts
from edge_agent.engine.trtllm_protocol import Done, Environment, Job, Open
from edge_agent.engine.whisper import MAX_AUDIO_S, check_request
from edge_agent.errors import EngineError, EngineLoadFailed
from edge_agent.types import SAMPLE_RATE_HZ, DecodeCost, DecodeOptions, EngineInfo, Hypothesis, PcmFloat

PYTHON = "EDGE_AGENT_TRTLLM_PYTHON"
DEFAULT_PYTHON = Path("/opt/edge-agent/trtllm/bin/python")
NO_SPECULATION = "speculation: not supported; TensorRT-LLM refuses drafts for models with cross-attention"
NO_WORDS = "word times: not supported by this engine"
_LANGUAGE_TOKENS = 1


def open_engine(config: EngineConfig) -> TrtllmEngine:
    """Start the worker and load the engine that was built for exactly this machine and model.

    Raises:
        EngineLoadFailed: no environment, no such engine, or it cannot be loaded.
    """
    unknown = config.extra.keys() - {"engine_dir"}
    if unknown:
        raise EngineLoadFailed(
            f"the TensorRT-LLM engine has no options {', '.join(sorted(unknown))}", remedy="leave them out"
        )
    if config.compute_type not in get_args(recipe.Precision):
        raise EngineLoadFailed(
            f"the TensorRT-LLM engine does not compute in {config.compute_type}",
            remedy=f"use one of {', '.join(get_args(recipe.Precision))}",
        )
    client = WorkerClient(python())
    try:
        mels, _, digest = model_facts(config.model_dir)
        wanted = key_for(client.environment, digest, config)
        given = str(config.extra.get("engine_dir", ""))
        if given:
            return load(config, client, checked(Path(given), wanted, mels))
        return load(config, client, find(config.model_dir, wanted, client.environment, mels))
    except BaseException:  # whatever it was: no worker is left behind
        client.close()
        raise


def load(config: EngineConfig, client: WorkerClient, found: Found) -> TrtllmEngine:
    """Load an engine that was found to fit into a worker.

    Raises:
        EngineLoadFailed: the worker cannot load it.
    """
    tokenizer = Tokenizer(config.model_dir)
    mels, suppressed, _ = model_facts(config.model_dir)
    sizes = found.key.sizes
    client.open(
        Open(
            directory=str(found.directory),
            batch=sizes.batch,
            beam=sizes.beam,
            cache_tokens=recipe.cache_tokens(sizes),
            cross_fraction=recipe.cross_fraction(sizes.beam),
        )
    )
    info = EngineInfo(
        kind=f"tensorrt-llm/{config.compute_type}",
        model=config.model_name,
        languages=tuple(tokenizer.special.languages) if tokenizer.multilingual else ("en",),
        steps=False,
        max_audio_s=MAX_AUDIO_S,
        notes=(NO_SPECULATION, NO_WORDS),
    )
    return TrtllmEngine(info, client, tokenizer, found, mels=mels, suppressed=suppressed)


def python() -> Path:
    """The Python of the environment that holds TensorRT-LLM."""
    return Path(os.environ.get(PYTHON) or DEFAULT_PYTHON)


def key_for(environment: Environment, digest: str, config: EngineConfig) -> recipe.Key:
    """What an engine must have been built for to be loaded here."""
    return recipe.Key(
        model_sha256=digest,
        platform=environment.platform,
        compute=environment.compute,
        cuda=environment.cuda,
        tensorrt=environment.tensorrt,
        tensorrt_llm=environment.tensorrt_llm,
        precision=msgspec.convert(config.compute_type, recipe.Precision),
        sizes=recipe.Sizes(batch=config.workers),
    )


class TrtllmEngine:
    """A loaded engine. `transcribe` may be called from many threads; requests are in flight together."""

    def __init__(
        self,
        info: EngineInfo,
        client: WorkerClient,
        tokenizer: Tokenizer,
        found: Found,
        *,
        mels: int,
        suppressed: tuple[int, ...],
    ) -> None:
        self.info = info
        self._client = client
        self._tokenizer = tokenizer
        self._sizes = found.key.sizes
        self._mels = mels
        self._suppressed = suppressed

    def warm_up(self) -> None:
        """One request of noise through everything."""
        noise = np.random.default_rng(0).normal(0, 0.02, SAMPLE_RATE_HZ).astype(np.float32)
        self.transcribe(noise, options=DecodeOptions(language=self.info.languages[0]))

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        """Recognise float32[samples] at 16 kHz, at most 30 s. A draft is not used."""
        del draft  # nothing in this engine can judge one
        check_request(pcm, options, self.info)
        if len(pcm) == 0 or not np.abs(pcm).max() > 1e-4:
            return Hypothesis(text="", flags=("quiet",))
        started = time.perf_counter()
        mel = features.fit(features.log_mel(pcm, self._mels), features.MAX_FRAMES)
        window = np.ascontiguousarray(mel.T).astype(np.float16).tobytes()
        features_ms = 1e3 * (time.perf_counter() - started)
        language = self._language(window, pcm, options)
        prompt = self._prompt(options, language)
        done = self._run(window, pcm, prompt, options.beam, max_new=recipe.DECODER_LENGTH // 2)
        total_ms = 1e3 * (time.perf_counter() - started)
        cost = DecodeCost(
            features_ms=features_ms, decode_ms=total_ms - features_ms, context_s=MAX_AUDIO_S, passes=1
        )
        return self._hypothesis(done, language, len(pcm) / SAMPLE_RATE_HZ, cost)

    def close(self) -> None:
        """End the worker."""
        self._client.close()

    def _language(self, window: bytes, pcm: PcmFloat, options: DecodeOptions) -> str:
        """The one asked for, or the token the model puts after the start of transcript."""
        asked = options.language.split("-", maxsplit=1)[0].lower()
        if asked != "auto":
            return asked
        special = self._tokenizer.special
        done = self._run(window, pcm, [special.sot], 1, max_new=_LANGUAGE_TOKENS)
        allowed = options.allowed_languages or self.info.languages
        for name, token in special.languages.items():
            if token in done.tokens and name in allowed:
                return name
        return options.usual_language or allowed[0]

    def _prompt(self, options: DecodeOptions, language: str) -> list[int]:
        """Prompt text, shortened from its beginning to what the engine was built for, and the task tokens."""
        task = self._tokenizer.sot_sequence(language, options.task)
        text = " ".join([*options.terms, options.prompt]).strip()
        if not text:
            return task
        room = self._sizes.max_prompt - len(task) - 1
        return [self._tokenizer.special.sot_prev, *self._tokenizer.encode(" " + text)[-room:], *task]

    def _run(self, window: bytes, pcm: PcmFloat, prompt: list[int], beam: int, *, max_new: int) -> Done:
        tokens = self._tokenizer.vocabulary.tokens
        done = self._client.recognise(
            Job(
                id=0,
                features=window,
                frames=features.MAX_FRAMES,
                mels=self._mels,
                prompt=tuple(prompt),
                prompt_text="".join(
                    tokens[token] for token in prompt if token >= self._tokenizer.special.eot
                ),
                max_new=min(max_new, self._sizes.max_length - len(prompt)),
                beam=min(beam, self._sizes.beam),
                end=self._tokenizer.special.eot,
                suppressed=self._suppressed,
                pcm=pcm.tobytes() if self._client.environment.driver == "pytorch" else b"",
            )
        )
        if not all(0 <= token < len(tokens) for token in done.tokens) or not math.isfinite(done.sum_logprob):
            raise EngineError("the TensorRT-LLM worker answered what no model can", remedy="try again")
        return done

    def _hypothesis(self, done: Done, language: str, seconds: float, cost: DecodeCost) -> Hypothesis:
        tokens = tuple(done.tokens)
        text = (done.text or self._tokenizer.decode(tokens)).strip()
        sample = guards.Sample(
            text=text,
            tokens=tokens,
            ended=done.ended,
            avg_logprob=done.sum_logprob / (len(tokens) + 1),
            no_speech_prob=0.0,
            speech_s=seconds,
            language=language,
        )
        return Hypothesis(
            text=text,
            tokens=tokens,
            language=language,
            avg_logprob=sample.avg_logprob,
            compression_ratio=guards.compression_ratio(text),
            rejected=guards.rejection(sample),
            cost=cost,
        )
