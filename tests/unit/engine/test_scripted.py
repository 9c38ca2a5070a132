"""The scripted engine: answers exactly as written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_agent.engine.base import EngineConfig
from edge_agent.engine.scripted import open_engine
from edge_agent.errors import EngineError, EngineLoadFailed
from edge_agent.types import DecodeOptions

SOUND = np.zeros(160, dtype=np.float32)


def _config(**extra: object) -> EngineConfig:
    return EngineConfig(kind="scripted", model_dir=Path(), model_name="play", extra=extra)


def test_lines_come_in_order_and_again() -> None:
    """Texts, words, faults; after the last line the first."""
    engine = open_engine(
        _config(script=["one", {"text": "two", "words": [["two", 0.1, 0.4, 0.9]]}, {"error": "no"}])
    )
    options = DecodeOptions()
    assert engine.transcribe(SOUND, options=options).text == "one"
    assert engine.transcribe(SOUND, options=options).words[0].end_s == 0.4
    with pytest.raises(EngineError, match="no"):
        engine.transcribe(SOUND, options=options)
    assert engine.transcribe(SOUND, options=options).text == "one"
    assert len(engine.calls) == 4


def test_a_delay_is_kept() -> None:
    """The decode time is what the script says."""
    engine = open_engine(_config(script=[{"text": "slow", "delay_ms": 20}]))
    assert engine.transcribe(SOUND, options=DecodeOptions()).cost.decode_ms == 20


def test_a_script_may_be_a_file(tmp_path: Path) -> None:
    """JSON, as it would be given in the configuration."""
    file = tmp_path / "play.json"
    file.write_text(json.dumps(["from a file"]), encoding="utf-8")
    assert (
        open_engine(_config(file=str(file))).transcribe(SOUND, options=DecodeOptions()).text == "from a file"
    )


@pytest.mark.parametrize(
    "extra",
    [{}, {"script": []}, {"script": 5}, {"script": [{"txt": "x"}]}, {"file": "/nowhere"}, {"pace": 1}],
)
def test_a_bad_script_is_refused(extra: dict[str, object]) -> None:
    """Nothing, not a list, unknown keys, no file."""
    with pytest.raises(EngineLoadFailed):
        open_engine(_config(**extra))
