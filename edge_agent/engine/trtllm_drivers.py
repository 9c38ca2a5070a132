"""How the worker drives TensorRT-LLM. Read from beside the worker, in the worker's own environment.

Calls follow `trtllm_contract.json`, with keywords only: positions shifted between versions. Not yet run on
hardware; the contract tests run all of it against a stand-in made from the contract.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from edge_agent.engine.trtllm_protocol import Done, Environment, Failed, Job, Open
else:
    from trtllm_protocol import Done, Environment, Failed, Job, Open

Answer = Callable[["Done | Failed"], None]
_WAIT = timedelta(milliseconds=200)
_RATE_HZ = 16_000
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a library that is not what its description says may raise."""


def environment() -> Environment:
    """What is installed here, and which driver it offers: told by probing, never by version alone."""
    import tensorrt_llm
    import torch

    major, minor = torch.cuda.get_device_capability(0)
    return Environment(
        platform=f"{platform.system().lower()}-{platform.machine()}",
        gpu=torch.cuda.get_device_name(0),
        compute=f"{major}.{minor}",
        cuda=str(torch.version.cuda),
        tensorrt=_tensorrt_version(),
        tensorrt_llm=str(tensorrt_llm.__version__),
        driver=_driver(),
    )


def _tensorrt_version() -> str:
    try:
        import tensorrt
    except ImportError:
        return ""
    return str(tensorrt.__version__)


def _driver() -> str:
    try:
        from tensorrt_llm.bindings import executor
    except ImportError:
        executor = None
    if hasattr(executor, "Executor"):
        return "engine"
    try:
        from tensorrt_llm.llmapi import LLM
    except ImportError:
        return ""
    return "pytorch" if LLM is not None else ""


class EngineDriver:
    """Engine files on the C++ executor: requests in flight together, one thread that collects answers."""

    def __init__(self, wish: Open, answer: Answer) -> None:
        from tensorrt_llm.bindings import executor

        self._library = executor
        self._answer = answer
        self._jobs: dict[int, Job] = {}
        self._numbers: dict[int, int] = {}
        """The executor's request -> our job."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        cache = executor.KvCacheConfig(
            # Blocks are found again by their tokens alone, and two sounds share a prompt.
            enable_block_reuse=False,
            max_tokens=wish.cache_tokens,
            cross_kv_cache_fraction=wish.cross_fraction,
        )
        config = executor.ExecutorConfig(
            max_beam_width=wish.beam,
            max_batch_size=wish.batch,
            kv_cache_config=cache,
            enable_chunked_context=False,
        )
        directory = Path(wish.directory)
        self._executor = executor.Executor(
            encoder_model_path=directory / "encoder",
            decoder_model_path=directory / "decoder",
            model_type=executor.ModelType.ENCODER_DECODER,
            executor_config=config,
        )
        self._reader = threading.Thread(target=self._collect, name="responses")
        self._reader.start()

    def submit(self, job: Job) -> None:
        """Enqueue; the answer comes from the collecting thread."""
        import torch

        # The library keeps no copy of what a buffer of ours held.
        flat = torch.frombuffer(bytearray(job.features), dtype=torch.float16)
        request = self._library.Request(
            input_token_ids=list(job.prompt),
            max_tokens=job.max_new,
            encoder_input_features=flat.reshape(job.frames, job.mels).contiguous(),
            encoder_output_length=job.frames // 2,
            end_id=job.end,
            pad_id=job.end,
            bad_words=[[token] for token in job.suppressed],
            sampling_config=self._library.SamplingConfig(beam_width=job.beam),
            output_config=self._library.OutputConfig(return_log_probs=True, exclude_input_from_output=True),
        )
        with self._lock:
            number = self._executor.enqueue_request(request)
            self._jobs[number] = job
            self._numbers[job.id] = number

    def cancel(self, job_id: int) -> None:
        """Stop a job, if it still runs."""
        with self._lock:
            number = self._numbers.get(job_id)
        if number is not None:
            self._executor.cancel_request(number)

    def close(self) -> None:
        """End the collecting thread, then the executor."""
        self._stop.set()
        self._reader.join(5)
        self._executor.shutdown()

    def _collect(self) -> None:
        try:
            while not self._stop.is_set():
                for response in self._executor.await_responses(timeout=_WAIT):
                    self._take(response)
        except FAULTS as error:  # nobody would ever hear of an answer that this thread does not take
            self._answer(Failed(cause=f"the executor ended: {type(error).__name__}: {error}"))

    def _take(self, response: Any) -> None:
        if not response.has_error() and not response.result.is_final:
            return
        with self._lock:
            job = self._jobs.pop(response.request_id, None)
            if job is not None:
                self._numbers.pop(job.id, None)
        if job is None:
            return
        if response.has_error():
            self._answer(Failed(id=job.id, cause=str(response.error_msg)))
            return
        tokens = list(response.result.output_token_ids[0])
        ended = job.end in tokens
        if ended:
            tokens = tokens[: tokens.index(job.end)]
        scores = response.result.cum_log_probs
        total = float(scores[0]) if scores else 0.0
        self._answer(Done(id=job.id, tokens=tuple(tokens), ended=ended, sum_logprob=total))


class PytorchDriver:
    """A Hugging Face checkpoint on the PyTorch backend (pre-releases): sound in, text out, one at a time."""

    def __init__(self, wish: Open, answer: Answer) -> None:
        from tensorrt_llm.llmapi import LLM, KvCacheConfig, SamplingParams, SchedulerConfig

        self._parameters = SamplingParams
        self._answer = answer
        self._model = LLM(
            model=wish.directory,
            backend="pytorch",
            attn_backend="TRTLLM",
            max_batch_size=wish.batch,
            max_input_len=1500,
            max_num_tokens=3000,
            enable_chunked_prefill=False,
            kv_cache_config=KvCacheConfig(
                enable_block_reuse=False,
                free_gpu_memory_fraction=0.8,
                cross_kv_cache_fraction=wish.cross_fraction,
            ),
            scheduler_config=SchedulerConfig(use_python_scheduler=True),
        )

    def submit(self, job: Job) -> None:
        """Recognise now; the caller waits."""
        import numpy as np

        wave = np.frombuffer(job.pcm, dtype=np.float32)
        inputs = {"prompt": job.prompt_text, "multi_modal_data": {"audio": [(wave, _RATE_HZ)]}}
        parameters = self._parameters(max_tokens=job.max_new, temperature=0.0)
        output = self._model.generate(inputs, sampling_params=parameters, use_tqdm=False)
        self._answer(Done(id=job.id, tokens=(), ended=True, text=output.outputs[0].text))

    def cancel(self, job_id: int) -> None:
        """There is nothing to stop: jobs run one at a time, in `submit`."""

    def close(self) -> None:
        """Nothing is left running."""


Driver = EngineDriver | PytorchDriver


def open_driver(kind: str, wish: Open, answer: Answer) -> Driver:
    """The driver of that name, its model loaded. RuntimeError when this version has none."""
    if kind == "engine":
        return EngineDriver(wish, answer)
    if kind == "pytorch":
        return PytorchDriver(wish, answer)
    raise RuntimeError("this TensorRT-LLM runs no Whisper")
