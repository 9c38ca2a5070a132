"""Text to tokens: the published `tokenizer.json`, with lost merges put back, and special tokens taken out.

Some published multilingual files lack their first merge ("Ġ t"): " then" becomes " ", "then". In a GPT-2
style vocabulary the token of id 256 + i is the product of merge i, so a lost merge shows as a token that no
merge makes, and its two halves follow from the merges before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from edge_agent.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Encoder

Merge: TypeAlias = tuple[str, str]

_BYTES = 256


def load_encoder(model_dir: Path) -> Encoder:
    """The encoder of a model directory. Text that looks like a special token is encoded as plain text, so
    that no prompt can smuggle one in.

    Raises:
        ModelError: `tokenizer.json` is missing or cannot be used.
    """
    import tokenizers

    path = model_dir / "tokenizer.json"
    try:
        return _build(tokenizers, json.loads(path.read_text(encoding="utf-8")))
    except Exception as error:  # the library raises bare Exception for what it cannot parse
        raise ModelError(f"{path} cannot be used ({error})", remedy="pull the model again") from error


def lost_merges(model_dir: Path) -> int:
    """How many merges the published `tokenizer.json` lacks; `load_encoder` puts them back.

    Raises:
        ModelError: the file cannot be used.
    """
    path = model_dir / "tokenizer.json"
    try:
        published = json.loads(path.read_text(encoding="utf-8"))
        return len(repaired(published)["model"]["merges"]) - len(published["model"]["merges"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be used ({error})", remedy="pull the model again") from error


def _build(tokenizers: ModuleType, published: dict[str, Any]) -> Encoder:
    description = repaired(published)
    model = description["model"]
    empty = {**model, "vocab": {}, "merges": []}
    frame = {**description, "model": empty, "added_tokens": [], "post_processor": None}
    encoder: Encoder = tokenizers.Tokenizer.from_str(json.dumps(frame))
    # Handing over the tables as they are takes half the time of writing and parsing them once more.
    encoder.model = tokenizers.models.BPE(model["vocab"], [_pair(merge) for merge in model["merges"]])
    return encoder


def repaired(description: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer description whose merges make every token of its vocabulary; the same one when none is
    lost."""
    model = description["model"]
    merges = [_pair(merge) for merge in model["merges"]]
    whole = restore_merges(model["vocab"], merges)
    if whole == merges:
        return description
    return {**description, "model": {**model, "merges": [list(merge) for merge in whole]}}


def restore_merges(vocabulary: dict[str, int], merges: list[Merge]) -> list[Merge]:
    """The merges in the order of their products' ids, lost ones put back.

    Args:
        vocabulary: token -> id, without special tokens.
        merges: as published, in order.

    Raises:
        ValueError: a token cannot be made from two earlier ones.
    """
    listed = iter(merges)
    ahead = next(listed, None)
    whole: list[Merge] = []
    rank: dict[Merge, int] = {}
    for token in _products(vocabulary):
        if ahead is not None and "".join(ahead) == token:
            merge = ahead
            ahead = next(listed, None)
        else:
            merge = _halves(token, rank)
        rank[merge] = len(whole)
        whole.append(merge)
    if ahead is not None:
        raise ValueError(f'the merge "{ahead[0]} {ahead[1]}" makes no token of the vocabulary in its place')
    return whole


def _products(vocabulary: dict[str, int]) -> Iterable[str]:
    """Tokens that a merge makes: those after the single bytes, until the first special or unused one."""
    for token, place in sorted(vocabulary.items(), key=lambda item: item[1]):
        if place < _BYTES:
            continue
        if len(token) < 2 or token.startswith("<|"):
            return
        yield token


def _halves(token: str, rank: dict[Merge, int]) -> Merge:
    """The pair that makes `token` when all merges before it have been applied."""
    pieces = list(token)
    while len(pieces) > 2:
        pairs = [(rank.get((a, b), -1), place) for place, (a, b) in enumerate(pairwise(pieces))]
        known = [pair for pair in pairs if pair[0] >= 0]
        if not known:
            raise ValueError(f'no two earlier tokens make "{token}"')
        _, place = min(known)
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    return pieces[0], pieces[1]


def _pair(merge: str | list[str]) -> Merge:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right
