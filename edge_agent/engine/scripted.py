"""Engine without a model: replays a script. Tests use it where exact words, delays and faults matter, and
`edge-agent doctor` where only the path is to be checked.

A script is a list, in `config.extra["script"]` or as JSON in the file `config.extra["file"]`. An entry is a
text or an object: `text`, `language`, `words` (list of [text, start_s, end_s, confidence]), `avg_logprob`,
`no_speech_prob`, `rejected`, `delay_ms`, `error` (a sentence: the call fails with it). After the last entry
it starts again.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec

from edge_agent.engine.base import EngineConfig
from edge_agent.errors import EngineError, EngineLoadFailed
from edge_agent.types import DecodeCost, DecodeOptions, EngineInfo, Hypothesis, PcmFloat, Value, Word


class Line(Value, frozen=True):
    """One answer."""

    text: str = ""
    language: str = "en"
    words: tuple[tuple[str, float, float, float], ...] = ()
    avg_logprob: float = -0.1
    no_speech_prob: float = 0.0
    rejected: str = ""
    delay_ms: float = 0.0
    error: str = ""


def open_engine(config: EngineConfig) -> ScriptedEngine:
    """Open a script.

    Raises:
        EngineLoadFailed: no script, or not one.
    """
    unknown = sorted(set(config.extra) - {"script", "file"})
    if unknown:
        raise EngineLoadFailed(
            f"the scripted engine knows no option {', '.join(unknown)}", remedy="use script or file"
        )
    return ScriptedEngine(config.model_name, _read(config))


class ScriptedEngine:
    """Answers line by line, whatever is said."""

    def __init__(self, name: str, lines: list[Line]) -> None:
        self.info = EngineInfo(kind="scripted", model=name, languages=("en",))
        self.calls: list[DecodeOptions] = []
        """Options of every call so far."""
        self._lines = lines
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Nothing to warm."""

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        """The next line of the script; the sound is ignored."""
        del pcm, draft
        with self._lock:
            line = self._lines[len(self.calls) % len(self._lines)]
            self.calls.append(options)
        time.sleep(line.delay_ms / 1e3)
        if line.error:
            raise EngineError(line.error, remedy="read the script")
        return Hypothesis(
            text=line.text,
            words=tuple(
                Word(text=text, start_s=start, end_s=end, confidence=confidence)
                for text, start, end, confidence in line.words
            ),
            language=line.language,
            avg_logprob=line.avg_logprob,
            no_speech_prob=line.no_speech_prob,
            rejected=line.rejected,
            cost=DecodeCost(decode_ms=line.delay_ms, passes=1),
        )

    def close(self) -> None:
        """Nothing to free."""


def _read(config: EngineConfig) -> list[Line]:
    script = config.extra.get("script")
    named = config.extra.get("file")
    try:
        raw = msgspec.json.decode(Path(str(named)).read_bytes()) if named is not None else script
        lines = [
            Line(text=line) if isinstance(line, str) else msgspec.convert(line, Line)
            for line in msgspec.convert(raw, list[object])
        ]
    except (OSError, msgspec.MsgspecError) as error:
        raise EngineLoadFailed(
            f"the script cannot be read: {error}", remedy="give a list of texts"
        ) from error
    if not lines:
        raise EngineLoadFailed("the script is empty", remedy="give a list of texts")
    return lines
