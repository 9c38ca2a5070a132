"""Which part of a growing transcript will not change any more. Pure.

Two rules decide what is committed:

- *alignment*: a word is committed when it ends at least `guard_s` before the end of the sound (after
  AlignAtt, Papi et al. 2023) and the model is sure of it: in one look of 0.8 if the look before had it too,
  of less when it has stood for longer. One look alone proves little. What a rule takes back, and how long
  words wait for it, is measured by `python -m tests.benchmarks.stable_words`;
- *agreement*: what two hypotheses in a row agree on is committed (LocalAgreement-2, Liu et al. 2020), for
  engines that give no word times.

A unit is a word, or a single character where the script has no spaces; for these only the first step of
`sure` holds, because words that sound alike stay in doubt for longer. What was committed stays. The sign
behind the last committed word waits for the next one: often only the end of the sound makes it a full stop.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from edge_agent.types import Hypothesis, Value, Word

Rule: TypeAlias = Literal["alignment", "agreement"]


class StabiliserConfig(Value, frozen=True):
    """When a unit counts as settled."""

    rule: Rule = "alignment"
    guard_s: float = 0.2
    """Sound that must follow a word."""
    sure: tuple[tuple[int, float], ...] = ((2, 0.8), (3, 0.7), (5, 0.6))
    """(looks in a row that had the word in its place, least probability of its tokens in the last of them):
    any of these steps settles it."""
    open_after_s: float = math.inf
    """Words that end later in the utterance stay open: it may yet be cut before them."""


class Stable(Value, frozen=True):
    """A growing transcript: `stable` only ever grows, `tail` may change."""

    stable: str
    tail: str

    @property
    def text(self) -> str:
        """All of it."""
        return self.stable + self.tail


class _Unit(Value, frozen=True):
    key: str
    """What is compared: letters and digits, case folded."""
    letters_end: int
    """Offset in the text just after its last letter or digit."""
    end: int
    """Offset in the text just after the unit, closing punctuation included."""
    alone: bool = False
    """A character of a script without spaces."""


class Stabiliser:
    """Of one utterance."""

    def __init__(self, config: StabiliserConfig) -> None:
        self._config = config
        self._stable = ""
        self._units: tuple[str, ...] = ()
        self._last: tuple[_Unit, ...] = ()
        self._seen: tuple[int, ...] = ()  # of each unit of the last hypothesis, how many in a row had it

    def update(self, hypothesis: Hypothesis, audio_s: float) -> Stable:
        """Take the hypothesis of the first `audio_s` seconds of the utterance.

        Returns:
            The transcript so far; its `stable` begins with every `stable` returned before.
        """
        text = hypothesis.text
        found = _units(text)
        same = _common(_keys(found), _keys(self._last))
        self._seen = tuple(self._seen[i] + 1 if i < same else 1 for i in range(len(found)))
        settled = self._settled(hypothesis, found, same, audio_s)
        self._last = found
        known = len(self._units)
        agrees = _keys(found[:known]) == self._units
        if agrees and settled > known:
            # Keep the letters already shown; only what follows them is new.
            begin = found[known - 1].letters_end if known else 0
            self._stable += text[begin : found[settled - 1].letters_end]
            self._units = _keys(found[:settled])
        elif not agrees:
            return Stable(stable=self._stable, tail=_rest(text, found, known))
        begin = found[len(self._units) - 1].letters_end if self._units else 0
        return Stable(stable=self._stable, tail=text[begin:])

    def _settled(self, hypothesis: Hypothesis, found: tuple[_Unit, ...], same: int, audio_s: float) -> int:
        """How many of the leading units are settled."""
        config = self._config
        if config.rule != "alignment" or not hypothesis.words:
            return same if audio_s <= config.open_after_s else 0
        latest_s = min(audio_s - config.guard_s, config.open_after_s)
        for place, (unit, word) in enumerate(_aligned(hypothesis, found)):
            if place < len(self._units):
                continue  # committed already
            if word is None or word.end_s > latest_s or not self._sure(unit, word, self._seen[place]):
                return place
        return len(found)

    def _sure(self, unit: _Unit, word: Word, seen: int) -> bool:
        steps = self._config.sure[:1] if unit.alone else self._config.sure
        return any(seen >= looks and word.confidence >= least for looks, least in steps)


def units(text: str) -> tuple[str, ...]:
    """The units of a text as they are compared: words or characters, letters and digits, case folded."""
    return tuple(unit.key for unit in _units(text))


def _aligned(hypothesis: Hypothesis, units: tuple[_Unit, ...]) -> Iterator[tuple[_Unit, Word | None]]:
    """Each unit with the word it ends in; None from where the words do not follow the text."""
    text, words, reach = hypothesis.text, iter(hypothesis.words), 0
    word: Word | None = None
    for unit in units:
        while reach < unit.letters_end:
            word = next(words, None)
            found = -1 if word is None else text.find(word.text.strip(), reach)
            if word is None or found < 0:
                word, words, reach = None, iter(()), unit.letters_end
                break
            reach = found + len(word.text.strip())
        yield unit, word


def _keys(units: tuple[_Unit, ...]) -> tuple[str, ...]:
    return tuple(unit.key for unit in units)


def _rest(text: str, units: tuple[_Unit, ...], known: int) -> str:
    """The tail when the model has changed its mind about committed units: what follows as many units."""
    if known > len(units):
        return ""
    return text[units[known - 1].end :] if known else text


def _common(ours: tuple[str, ...], theirs: tuple[str, ...]) -> int:
    count = 0
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            break
        count += 1
    return count


def _units(text: str) -> tuple[_Unit, ...]:
    """Words, and single characters of scripts written without spaces."""
    units: list[_Unit] = []
    begin = None
    for place, character in enumerate([*text, " "]):
        alone = _is_unspaced(character)
        if begin is not None and (alone or character.isspace()):
            units.append(_unit(text, begin, place))
            begin = None
        if alone:
            units.append(_unit(text, place, place + 1))
        elif begin is None and not character.isspace():
            begin = place
    return _join_punctuation(units)


def _unit(text: str, begin: int, end: int) -> _Unit:
    letters = "".join(character for character in text[begin:end] if character.isalnum())
    last = max((at for at in range(begin, end) if text[at].isalnum()), default=end - 1)
    alone = end - begin == 1 and _is_unspaced(text[begin])
    return _Unit(key=letters.casefold(), letters_end=last + 1, end=end, alone=alone)


def _join_punctuation(units: list[_Unit]) -> tuple[_Unit, ...]:
    """A unit without letters belongs to the one before it."""
    joined: list[_Unit] = []
    for unit in units:
        if not unit.key and joined:
            joined[-1] = msgspec.structs.replace(joined[-1], end=unit.end)
        else:
            joined.append(unit)
    return tuple(joined)


def _is_unspaced(character: str) -> bool:
    """Han, kana, Thai, Lao, Khmer, Burmese letters; wide punctuation counts too."""
    if character.isascii():
        return False
    if unicodedata.east_asian_width(character) == "W" and not "\uac00" <= character <= "\ud7a3":
        return True
    return (
        "\u0e00" <= character <= "\u0eff"
        or "\u1000" <= character <= "\u109f"
        or "\u1780" <= character <= "\u17ff"
    )
