"""The executor, as far as the contract goes: requests are checked and answered with given tokens."""

import os
import queue
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tensorrt_llm.made import check_call, make

NAME = "tensorrt_llm.bindings.executor"
MODE = os.environ.get("FAKE_TRTLLM", "work")
if MODE == "pytorch":
    raise ImportError("the executor was removed from this version")

ModelType = SimpleNamespace(ENCODER_DECODER="encoder-decoder", DECODER_ONLY="decoder")
ExecutorConfig = make(f"{NAME}.ExecutorConfig")
KvCacheConfig = make(f"{NAME}.KvCacheConfig")
SamplingConfig = make(f"{NAME}.SamplingConfig")
OutputConfig = make(f"{NAME}.OutputConfig")
Request = make(f"{NAME}.Request")


def _ready(self: Any) -> None:
    config, cache = self.executor_config, self.executor_config.kv_cache_config
    assert self.model_type == ModelType.ENCODER_DECODER
    assert cache.enable_block_reuse is False, "reuse mixes the sounds of equal prompts"
    assert 0 < cache.cross_kv_cache_fraction < 1
    assert config.enable_chunked_context is False
    for directory in (self.encoder_model_path, self.decoder_model_path):
        if not (Path(directory) / "rank0.engine").is_file():
            raise RuntimeError(f"{directory} holds no engine")
    if MODE == "refuse":
        raise RuntimeError("engine plan file is generated on an incompatible device, expecting compute 9.0")
    self.responses = queue.Queue()
    self.count = 0


def _babble() -> None:
    """Write over the replies, as a library with a wild file descriptor does."""
    for descriptor in range(3, 16):
        with suppress(OSError):
            os.write(descriptor, b"\x00\x00\x00\x05garbage")


def _enqueue_request(self: Any, request: Any) -> int:
    features = request.encoder_input_features
    assert features.shape == (3000, features.shape[1]), features.shape
    assert features.shape[1] in (80, 128)
    assert str(features.dtype) == "float16"
    assert request.encoder_output_length == 1500
    assert request.max_tokens >= 1
    assert len(request.input_token_ids) + request.max_tokens <= 448
    assert request.sampling_config.beam_width <= self.executor_config.max_beam_width
    assert all(isinstance(word, list) for word in request.bad_words)
    self.count += 1
    if MODE == "crash" or (MODE == "crash-second" and self.count == 2):
        os._exit(139)
    if MODE == "print":
        print("a line that a library prints in the middle of everything", flush=True)
        os.write(1, b"\x00\x01garbage\xff\n")
    if MODE == "babble":
        _babble()
    if MODE not in ("hang", "silent"):
        tokens = [int(token) for token in os.environ["FAKE_TRTLLM_TOKENS"].split()]
        if request.max_tokens == 1:
            tokens = [50260]
        if MODE == "nonsense":
            tokens = [10**7, -3]
        self.responses.put((self.count, [*tokens, request.end_id][: request.max_tokens]))
    if MODE == "silent":
        time.sleep(3600)
    return self.count


def _await_responses(self: Any, **given: Any) -> list[Any]:
    check_call(f"{NAME}.Executor", "await_responses", given)
    assert isinstance(given["timeout"], timedelta)
    try:
        number, tokens = self.responses.get(timeout=given["timeout"].total_seconds())
    except queue.Empty:
        return []
    words = {"fail": "the request failed", "memory": "CUDA out of memory"}.get(MODE, "")
    beams = [] if MODE == "odd" else [tokens]
    result = SimpleNamespace(is_final=True, output_token_ids=beams, cum_log_probs=[-1.5])
    return [SimpleNamespace(request_id=number, has_error=lambda: bool(words), error_msg=words, result=result)]


def _cancel_request(self: Any, number: int) -> None:
    assert number <= self.count


Executor = make(
    f"{NAME}.Executor",
    ready=_ready,
    enqueue_request=_enqueue_request,
    await_responses=_await_responses,
    cancel_request=_cancel_request,
    shutdown=lambda self: None,
)
