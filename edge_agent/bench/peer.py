"""The plain peer: faster-whisper on the same model files, greedy, with its documented options."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_agent.errors import EngineLoadFailed, UsageError
from edge_agent.types import PcmFloat

NAME = "faster-whisper"


class FasterWhisper:
    """`WhisperModel(...)` as its README shows it for a CPU.

    Args:
        model_dir: the published files, untouched.
        threads: `cpu_threads`.
        beam: `beam_size`; 1 is greedy.
        compute_type: the same as on our side.
        device: "cpu" or "cuda".

    Raises:
        UsageError: faster-whisper is not installed, or lacks files it would otherwise fetch from the network.
        EngineLoadFailed: it cannot load the model.
    """

    def __init__(
        self, model_dir: Path, *, threads: int, beam: int = 1, compute_type: str = "int8", device: str = "cpu"
    ) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise UsageError(
                "the comparison needs faster-whisper, which is not installed",
                remedy="install it with: pip install 'edge-asr-agent[bench]'",
            ) from error
        if not (model_dir / "tokenizer.json").is_file():
            raise UsageError(
                f"{model_dir} holds no tokenizer.json, without which {NAME} would go to the network",
                remedy="fetch the published model with: edge-agent models pull",
            )
        self.label = f"{NAME} {version('faster-whisper')}"
        self._beam = beam
        # It logs each recording it is given; a measurement repeated a thousand times would drown in it.
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)
        try:
            self._model: Any = WhisperModel(
                str(model_dir), device=device, compute_type=compute_type, cpu_threads=threads
            )
        except (RuntimeError, ValueError) as error:
            raise EngineLoadFailed(
                f"{NAME} cannot load {model_dir}: {error}",
                remedy="fetch it again with: edge-agent models pull",
            ) from error

    def transcribe(self, pcm: PcmFloat, language: str) -> str:
        """The text of float32[samples] at 16 kHz; "auto" lets it detect the language.

        Raises:
            UsageError: it does not know the language.
        """
        try:
            segments, _ = self._model.transcribe(
                pcm,
                language=None if language == "auto" else language.split("-", maxsplit=1)[0],
                beam_size=self._beam,
                temperature=0.0,
                condition_on_previous_text=False,
                vad_filter=False,
            )
            # The segments are decoded while they are read.
            return " ".join(segment.text.strip() for segment in segments)
        except ValueError as error:
            raise UsageError(
                f"{NAME}: {str(error).partition('(')[0]}", remedy="correct the language"
            ) from error
