"""The PyTorch backend, as far as the contract goes."""

from types import SimpleNamespace
from typing import Any

from tensorrt_llm.made import CONTRACT, make

NAME = "tensorrt_llm.llmapi"
KvCacheConfig = make(f"{NAME}.KvCacheConfig")
SchedulerConfig = make(f"{NAME}.SchedulerConfig")
SamplingParams = make(f"{NAME}.SamplingParams")


def _generate(self: Any, inputs: dict[str, Any], **given: Any) -> Any:
    known = {p["name"] for p in CONTRACT["classes"][f"{NAME}.LLM.generate"]["parameters"]}
    assert set(given) <= known, given
    assert self.kv_cache_config.enable_block_reuse is False
    assert self.max_input_len >= 1500
    assert inputs["prompt"].startswith("<|startoftranscript|>"), inputs["prompt"]
    ((wave, rate),) = inputs["multi_modal_data"]["audio"]
    if rate != 16_000 or len(wave) > 30 * rate:
        raise ValueError("one clip of at most 30 s at 16 kHz")
    return SimpleNamespace(outputs=[SimpleNamespace(text=f" {len(wave)} samples heard")])


LLM = make(f"{NAME}.LLM", generate=_generate)
