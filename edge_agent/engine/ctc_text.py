"""From what a single-pass model answers to words. Pure.

A CTC model (Graves et al. 2006) names one token for every stretch of sound, most of them the blank; repeated
ones count once. Paraformer names the tokens themselves, up to the end of the sentence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_agent.types import Value, Word

BLANK = 0
_WORD_START = "▁"
_GOES_ON = "@@"
_END = "</s>"
_TAG = re.compile(r"<.+>")
_FIRST_WIDE = 0x2E80
"""Characters from here on (Chinese, Japanese, Korean) are words of their own."""


class Piece(Value, frozen=True):
    """One token that was heard."""

    token: int
    text: str
    first: int
    """Row of the answer where it begins."""
    end: int
    """Row after its last."""
    logprob: float


class Spoken(Value, frozen=True):
    """One word."""

    text: str
    """As written, with the space before it where there is one."""
    pieces: tuple[Piece, ...]


def collapsed(logprobs: NDArray[np.float32], tokens: Sequence[str]) -> tuple[Piece, ...]:
    """Of float32[rows, vocabulary]: runs of the best token, without the blank and without tags."""
    best = logprobs.argmax(axis=1)
    changes = [0, *(np.flatnonzero(np.diff(best)) + 1), len(best)] if len(best) else []
    runs = ((int(best[first]), int(first), int(end)) for first, end in pairwise(changes))
    return tuple(
        Piece(
            token=token,
            text=tokens[token],
            first=first,
            end=end,
            logprob=float(logprobs[first:end, token].max()),
        )
        for token, first, end in runs
        if token != BLANK and not _TAG.fullmatch(tokens[token])
    )


def named(logprobs: NDArray[np.float32], tokens: Sequence[str]) -> tuple[Piece, ...]:
    """Of float32[tokens, vocabulary]: the best of each row, up to the end of the sentence."""
    found: list[Piece] = []
    for row, token in enumerate(map(int, logprobs.argmax(axis=1))):
        if tokens[token] == _END:
            break
        if not _TAG.fullmatch(tokens[token]):
            found.append(
                Piece(
                    token=token,
                    text=tokens[token],
                    first=row,
                    end=row + 1,
                    logprob=float(logprobs[row, token]),
                )
            )
    return tuple(found)


def spelt(pieces: Sequence[Piece]) -> tuple[Spoken, ...]:
    """Words of SenseVoice's pieces, which mark where a word begins."""
    found: list[Spoken] = []
    space = ""
    for piece in pieces:
        text = space + piece.text.replace(_WORD_START, " ")
        space = ""
        if not text.strip():
            space = " "
            continue
        begins = not _is_mark(text) and (text[0] == " " or _is_wide(text[0]) or _ends_wide(found))
        _put(found, text, piece, begins=begins)
    return tuple(found)


def unmarked(pieces: Sequence[Piece]) -> tuple[Spoken, ...]:
    """Words of Paraformer's pieces, which mark where a word goes on."""
    found: list[Spoken] = []
    goes_on = False
    for piece in pieces:
        text = piece.text.removesuffix(_GOES_ON)
        if text:
            apart = bool(found) and not goes_on and not (_is_wide(text[0]) and _ends_wide(found))
            _put(found, f" {text}" if apart else text, piece, begins=not goes_on)
        goes_on = piece.text.endswith(_GOES_ON)
    return tuple(found)


def _put(found: list[Spoken], text: str, piece: Piece, *, begins: bool) -> None:
    if begins or not found:
        found.append(Spoken(text=text, pieces=(piece,)))
    else:
        last = found[-1]
        found[-1] = Spoken(text=last.text + text, pieces=(*last.pieces, piece))


def timed(spoken: Sequence[Spoken], row_s: float, longest_s: float) -> tuple[Word, ...]:
    """Words with their places; a row of the answer stands for `row_s` seconds."""
    return tuple(
        Word(
            text=word.text.strip(),
            start_s=min(word.pieces[0].first * row_s, longest_s),
            end_s=min(word.pieces[-1].end * row_s, longest_s),
            confidence=math.exp(sum(piece.logprob for piece in word.pieces) / len(word.pieces)),
        )
        for word in spoken
    )


def _is_wide(character: str) -> bool:
    return ord(character) >= _FIRST_WIDE


def _ends_wide(found: Sequence[Spoken]) -> bool:
    return bool(found) and _is_wide(found[-1].text[-1])


def _is_mark(text: str) -> bool:
    return not any(character.isalnum() for character in text)
