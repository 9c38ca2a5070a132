"""Is recognition well: a known recording through the running engine, and whether its words come out."""

from __future__ import annotations

import time
from difflib import SequenceMatcher
from importlib import resources

import msgspec

from edge_agent.engine.base import Engine
from edge_agent.errors import EdgeAgentError
from edge_agent.types import DecodeOptions, PcmFloat

WORDS = "let us talk it over and find a way out"
_CLIP = ("edge_agent", "samples", "find_a_way_out.flac")
_ENOUGH = 0.7
"""Share of the words that a small model gets on a bad day; a broken one gets none."""


def clip() -> PcmFloat:
    """The recording, float32[samples] at 16 kHz.

    Raises:
        AudioFileError: it is missing from the installation.
    """
    from edge_agent.audio.files import read_audio  # brings a library that only this needs

    package, *below = _CLIP
    with resources.as_file(resources.files(package).joinpath(*below)) as path:
        return read_audio(path)


def examine(engine: Engine, options: DecodeOptions, sound: PcmFloat) -> tuple[str, dict[str, object]]:
    """Recognise the recording; answers what is wrong ("" when nothing is) and the result for the answer.

    Called on the thread that owns the engine.
    """
    english = msgspec.structs.replace(options, language="en", allowed_languages=(), prompt="", terms=())
    began = time.perf_counter()
    try:
        heard = engine.transcribe(sound, options=english)
    except EdgeAgentError as error:
        return f"recognition failed: {error.cause}", {}
    decode_ms = round((time.perf_counter() - began) * 1000)
    share = words_found(heard.text)
    result: dict[str, object] = {"text": heard.text, "words_found": round(share, 2), "decode_ms": decode_ms}
    return ("" if share >= _ENOUGH else "the words of the recording did not come out"), result


def words_found(text: str) -> float:
    """Share of the recording's words that are in `text`, in order."""
    heard = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    expected = WORDS.split()
    blocks = SequenceMatcher(a=expected, b=heard, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(expected)
