"""Word times and confidences from the scoring pass. Pure.

The path is the dynamic time warp over the model's alignment heads (Radford et al. 2022); each token begins at
the first encoder position it is matched with. A position is 20 ms whatever the length of the context.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from edge_agent.decoding.steps import POSITION_S, Scored
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.types import Value, Word

_LONGEST_WORD_S = 2.0
"""A word that seems longer has swallowed a pause: its end is brought back."""


class _Unit(Value, frozen=True):
    """Whole characters with the tokens that made them."""

    text: str
    first: int
    last: int
    """Token indices, `last` exclusive."""


def words(
    tokens: Sequence[int], scored: Scored, tokenizer: Tokenizer, *, duration_s: float, offset_s: float = 0.0
) -> tuple[Word, ...]:
    """Words of `tokens`, in order; Chinese, Japanese and Thai ones are single characters.

    Punctuation belongs to the word it touches and does not lower its confidence, which is the least
    probability among the word's tokens: whatever its capitals, where the engine can tell.

    Args:
        duration_s: of the sound; no word ends later.
        offset_s: added to all times.
    """
    starts = token_starts_s(scored, len(tokens), duration_s)
    sure = scored.sure or scored.probabilities
    found: list[Word] = []
    for group in _group(_units(tokens, tokenizer)):
        text = "".join(unit.text for unit in group).strip()
        spoken = [unit for unit in group if _is_spoken(unit.text)] or group
        start, end = starts[spoken[0].first], starts[spoken[-1].last]
        confidence = min(sure[place] for unit in spoken for place in range(unit.first, unit.last))
        end = min(max(end, start + POSITION_S), start + _LONGEST_WORD_S, max(duration_s, start))
        found += _split(text, start + offset_s, end + offset_s, confidence)
    return tuple(found)


def token_starts_s(scored: Scored, count: int, duration_s: float) -> list[float]:
    """Seconds at which each of `count` tokens begins, and, last, at which the text ends; never falling."""
    starts = [duration_s] * (count + 1)
    seen = -1
    for token, position in scored.path:
        if token > seen and token <= count:
            starts[token] = min(position * POSITION_S, duration_s)
            seen = token
    for place in range(count - 1, -1, -1):
        starts[place] = min(starts[place], starts[place + 1])
    return starts


def _units(tokens: Sequence[int], tokenizer: Tokenizer) -> list[_Unit]:
    units, place = [], 0
    for text, run in tokenizer.units(tokens):
        units.append(_Unit(text=text, first=place, last=place + len(run)))
        place += len(run)
    return units


def _group(units: Sequence[_Unit]) -> list[list[_Unit]]:
    """Units into words: a space or an ideograph begins one, punctuation joins the one before it."""
    groups: list[list[_Unit]] = []
    opening: list[_Unit] = []
    for unit in units:
        text = unit.text
        bare = text.strip()
        if bare and all(unicodedata.category(mark) in ("Ps", "Pi") for mark in bare):
            opening.append(unit)
            continue
        starts_word = not groups or (
            _is_spoken(text) and (text[:1].isspace() or _is_alone(bare[:1]) or _is_alone(_tail(groups[-1])))
        )
        if opening or starts_word:
            groups.append([*opening, unit])
            opening = []
        else:
            groups[-1].append(unit)
    if opening:
        if groups:
            groups[-1] += opening
        else:
            groups.append(opening)
    return [group for group in groups if "".join(unit.text for unit in group).strip()]


def _tail(group: Sequence[_Unit]) -> str:
    return "".join(unit.text for unit in group).rstrip()[-1:]


def _split(text: str, start: float, end: float, confidence: float) -> list[Word]:
    """One word, or each ideograph of a run for itself with its share of the time."""
    parts: list[str] = []
    for mark in text:
        if not parts or (mark.isalnum() and _is_spoken(parts[-1]) and _is_alone(mark + parts[-1][-1])):
            parts.append(mark)
        else:
            parts[-1] += mark
    share = (end - start) / max(1, len(parts))
    return [
        Word(
            text=part.strip(),
            start_s=round(start + place * share, 3),
            end_s=round(start + (place + 1) * share, 3),
            confidence=round(min(1.0, max(0.0, confidence)), 4),
        )
        for place, part in enumerate(parts)
        if part.strip()
    ]


def _is_spoken(text: str) -> bool:
    return any(mark.isalnum() or unicodedata.category(mark).startswith("M") for mark in text)


def _is_alone(marks: str) -> bool:
    """Any character of a script that is written without spaces, where a character is the unit?"""
    return any(
        "\u3040" <= mark <= "\u30ff"
        or "\u3400" <= mark <= "\u9fff"
        or "\uf900" <= mark <= "\ufaff"
        or "\U00020000" <= mark <= "\U0003ffff"
        or "\u0e00" <= mark <= "\u0e7f"
        for mark in marks
    )
