"""A Whisper vocabulary: the bytes of each token, and the special tokens by name. Loads in a few
milliseconds."""

from __future__ import annotations

import json
import re
from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.types import Value

_MULTILINGUAL_SIZE = 51865
"""From this size on a vocabulary is multilingual (OpenAI's and CTranslate2's rule)."""
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")


class SpecialTokens(Value, frozen=True):
    """Ids of the tokens that are not text."""

    eot: int
    sot: int
    transcribe: int
    translate: int
    sot_lm: int
    sot_prev: int
    no_speech: int
    no_timestamps: int
    timestamp_begin: int
    """Id of 0.00 s; each following id is 20 ms later."""
    languages: dict[str, int]
    """Whisper's language codes; all 99 or 100 also in English-only vocabularies, which never use them."""


class Vocabulary(Value, frozen=True):
    """Tokens in standard order."""

    tokens: tuple[str, ...]
    special: SpecialTokens

    @property
    def multilingual(self) -> bool:
        """False for English-only models, whose prompt has no language and no task."""
        return len(self.tokens) >= _MULTILINGUAL_SIZE

    def sot_sequence(self, language: str, task: str = "transcribe", *, timestamps: bool = False) -> list[int]:
        """The prompt that starts a decode.

        Raises:
            ModelError: the model does not know the language.
        """
        special = self.special
        prompt = [special.sot]
        if self.multilingual:
            if language not in special.languages:
                raise ModelError(
                    f'the model does not know the language "{language}"',
                    remedy="choose one of its languages or another model",
                )
            prompt.append(special.languages[language])
            prompt.append(special.translate if task == "translate" else special.transcribe)
        if not timestamps:
            prompt.append(special.no_timestamps)
        return prompt


def load_vocabulary(model_dir: Path) -> Vocabulary:
    """Read `vocabulary.json` or `vocabulary.txt`, undoing the moves that `prepared.json` tells of.

    Raises:
        ModelError: no vocabulary, or not one of Whisper's.
    """
    remedy = "pull the model again, or name a directory that holds a Whisper model"
    try:
        rows = _read_rows(model_dir)
        tokens = list(rows)
        for standard, row in _moved(model_dir).items():
            tokens[standard] = rows[row]
        return Vocabulary(tokens=tuple(tokens), special=_special(tokens))
    except FileNotFoundError as error:
        raise ModelError(f"{model_dir} holds no vocabulary", remedy=remedy) from error
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ModelError(f"the vocabulary in {model_dir} cannot be used ({error})", remedy=remedy) from error


def _byte_table() -> dict[int, int]:
    """GPT-2's table: code point of the printable character that stands for each byte -> the byte."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: byte for byte in printable} | {256 + place: byte for place, byte in enumerate(others)}


_TABLE = _byte_table()
_CHARACTERS = {byte: chr(code) for code, byte in _TABLE.items()}


def token_bytes(token: str) -> bytes:
    """The bytes a token of the vocabulary stands for; of one with characters outside GPT-2's table, its
    UTF-8."""
    if all(ord(char) in _TABLE for char in token):
        return token.translate(_TABLE).encode("latin-1")
    return token.encode("utf-8", "surrogatepass")


def first_byte(token: str) -> int:
    """The first of `token_bytes` of a token that is not empty."""
    return _TABLE.get(ord(token[0])) or token_bytes(token)[0]


def written_token(text: str) -> str:
    """How the vocabulary would write a token that stands for `text`."""
    return text.encode("utf-8").decode("latin-1").translate(_CHARACTERS)


def _read_rows(model_dir: Path) -> list[str]:
    """Tokens in the order of the model's rows."""
    listed = model_dir / "vocabulary.json"
    if listed.exists():
        rows = json.loads(listed.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
            raise ValueError("vocabulary.json is not a list of tokens")
        return rows
    rows = (model_dir / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
    return rows[:-1] if rows[-1] == "" else rows


def _moved(model_dir: Path) -> dict[int, int]:
    """Standard id -> row, from `prepared.json`; empty for a published model."""
    try:
        text = (model_dir / "prepared.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return {int(standard): int(row) for standard, row in json.loads(text)["ids"].items()}


def _special(tokens: list[str]) -> SpecialTokens:
    ids = {token: place for place, token in enumerate(tokens) if token.startswith("<|")}
    languages = {}
    for token, place in ids.items():
        match = _LANGUAGE.fullmatch(token)
        if match:
            languages[match[1]] = place
    return SpecialTokens(
        eot=ids["<|endoftext|>"],
        sot=ids["<|startoftranscript|>"],
        transcribe=ids["<|transcribe|>"],
        translate=ids["<|translate|>"],
        sot_lm=ids["<|startoflm|>"],
        sot_prev=ids["<|startofprev|>"],
        no_speech=ids["<|nospeech|>"] if "<|nospeech|>" in ids else ids["<|nocaptions|>"],
        no_timestamps=ids["<|notimestamps|>"],
        timestamp_begin=ids["<|0.00|>"] if "<|0.00|>" in ids else ids["<|notimestamps|>"] + 1,
        languages=languages,
    )
