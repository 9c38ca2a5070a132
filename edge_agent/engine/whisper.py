"""What every Whisper engine that `decoding/` drives step by step has in common."""

from __future__ import annotations

from edge_agent.decoding.decoder import Decoder
from edge_agent.decoding.drafts import DraftStatistics
from edge_agent.decoding.steps import Steps
from edge_agent.engine.memory_care import MemoryCare
from edge_agent.errors import EngineError
from edge_agent.types import SAMPLE_RATE_HZ, DecodeOptions, EngineInfo, Hypothesis, PcmFloat

MAX_AUDIO_S = 30.0


def check_request(pcm: PcmFloat, options: DecodeOptions, info: EngineInfo) -> None:
    """Refuse what would lose words silently.

    Raises:
        EngineError: more than 30 s of sound, or a language the model does not know.
    """
    if len(pcm) > MAX_AUDIO_S * SAMPLE_RATE_HZ:
        raise EngineError(
            f"{len(pcm) / SAMPLE_RATE_HZ:.1f} s of audio are more than Whisper hears at once",
            remedy=f"cut it to at most {MAX_AUDIO_S:.0f} s",
        )
    language = options.language.split("-")[0].lower()
    if language != "auto" and language not in info.languages:
        raise EngineError(
            f'{info.model} does not know the language "{options.language}"',
            remedy="choose another model or language",
        )


class WhisperEngine:
    """A loaded model. `transcribe` may be called from as many threads as the configuration has workers."""

    def __init__(self, info: EngineInfo, decoder: Decoder, steps: Steps) -> None:
        self.info = info
        self.steps = steps
        self.decoder = decoder
        self._care = MemoryCare()

    def warm_up(self) -> None:
        """Build the library's kernels for the context lengths in use (about 40 ms each)."""
        self.decoder.warm_up()

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        """Recognise float32[samples] at 16 kHz, at most 30 s."""
        check_request(pcm, options, self.info)
        return self._care.run(lambda: self.decoder.transcribe(pcm, options=options, draft=draft))

    @property
    def draft_statistics(self) -> tuple[DraftStatistics, ...]:
        """How each kind of draft does on this device: acceptance, tokens per pass, milliseconds saved."""
        return self.decoder.draft_statistics

    def close(self) -> None:
        """Free the model."""
