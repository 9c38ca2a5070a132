"""Tokens to text and back, always in standard token ids.

Decoding needs the vocabulary alone and loads in milliseconds; the encoder (84 ms, 40 MB) is loaded when first
asked for. A token may end in the middle of a character, Chinese ones often do: such a tail is held back,
never shown as U+FFFD.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.decoding.bpe import load_encoder
from edge_agent.decoding.vocabulary import SpecialTokens, Vocabulary, load_vocabulary, token_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Encoder

_REPLACEMENT = "\ufffd"


class Tokenizer:
    """Reads and writes the tokens of one model. Safe to share between threads."""

    def __init__(self, model_dir: Path) -> None:
        """Load the vocabulary of a model directory.

        Raises:
            ModelError: it holds no usable vocabulary.
        """
        self._model_dir = model_dir
        self.vocabulary: Vocabulary = load_vocabulary(model_dir)
        self._pieces: dict[int, bytes] = {}

    @property
    def special(self) -> SpecialTokens:
        """Ids of the special tokens."""
        return self.vocabulary.special

    @property
    def multilingual(self) -> bool:
        """False for English-only models."""
        return self.vocabulary.multilingual

    def sot_sequence(self, language: str, task: str = "transcribe", *, timestamps: bool = False) -> list[int]:
        """The prompt that starts a decode: `<|startoftranscript|>`, language and task, `<|notimestamps|>`."""
        return self.vocabulary.sot_sequence(language, task, timestamps=timestamps)

    def is_text(self, token: int) -> bool:
        """True for tokens that stand for text."""
        return 0 <= token < self.special.eot

    def bytes_of(self, tokens: Iterable[int]) -> bytes:
        """The raw bytes; special tokens give none."""
        return b"".join(self._piece(token) for token in tokens if self.is_text(token))

    def decode(self, tokens: Iterable[int]) -> str:
        """The text; special tokens, an unfinished character at the end and broken bytes give none."""
        return _text(self.bytes_of(tokens))

    def split_unfinished(self, tokens: Sequence[int]) -> tuple[list[int], list[int]]:
        """Tokens whose bytes end with a whole character, and the rest that waits for more."""
        cut = len(tokens)
        for place in range(len(tokens), max(len(tokens) - 4, -1), -1):
            if _unfinished_bytes(self.bytes_of(tokens[:place])) == 0:
                cut = place
                break
        return list(tokens[:cut]), list(tokens[cut:])

    def units(self, tokens: Iterable[int]) -> list[tuple[str, tuple[int, ...]]]:
        """The smallest runs of tokens that are whole characters, each with its text; an unfinished last run
        has the text "". Special tokens are left out."""
        found: list[tuple[str, tuple[int, ...]]] = []
        run: list[int] = []
        data = b""
        for token in tokens:
            if not self.is_text(token):
                continue
            run.append(token)
            data += self._piece(token)
            if _unfinished_bytes(data) == 0:
                found.append((_text(data), tuple(run)))
                run, data = [], b""
        if run:
            found.append(("", tuple(run)))
        return found

    def encode(self, text: str) -> list[int]:
        """Standard ids of a text; nothing in it is taken for a special token.

        Raises:
            ModelError: the model's `tokenizer.json` is missing or unusable.
        """
        return list(self._encoder.encode(text, add_special_tokens=False).ids)

    def _piece(self, token: int) -> bytes:
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = token_bytes(self.vocabulary.tokens[token])
        return piece

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(self._model_dir)


def roundtrip_faults(model_dir: Path, *, limit: int = 5) -> tuple[str, ...]:
    """Check that the encoder and the vocabulary agree. One line per fault, at most `limit`; empty when all is
    well.

    Every text token's own characters must be merged back into that token, and every token that is whole text,
    with a space before it, must come back as the same text. (The first step looks below the splitting into
    words: published vocabularies hold tokens, "'S" for one, that no splitting leaves whole.)

    Raises:
        ModelError: the tokenizer or the vocabulary cannot be read.
    """
    tokenizer = Tokenizer(model_dir)
    encoder = load_encoder(model_dir)
    faults: list[str] = []
    for token, written in enumerate(tokenizer.vocabulary.tokens[: tokenizer.special.eot]):
        merged = [piece.id for piece in encoder.model.tokenize(written)] if written else [token]
        text = " " + tokenizer.decode([token])
        if merged != [token]:
            faults.append(f"token {token} ({written!r}) comes back as {merged}")
        elif tokenizer.decode(tokenizer.encode(text)) != text:
            faults.append(f"the text {text!r} does not come back")
        if len(faults) >= limit:
            break
    return tuple(faults)


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="ignore").replace(_REPLACEMENT, "")


def _unfinished_bytes(data: bytes) -> int:
    """How many bytes at the end begin a character that is not whole yet (0 to 3)."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        length = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b11110 else 1
        return back if length > back else 0
    return 0
