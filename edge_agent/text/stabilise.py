"""Which part of a growing transcript will not change any more. Pure.

Two rules decide what is committed:

- *alignment*: a word is committed when it ends at least `guard_s` before the end of the sound and the model
  is sure of it (after AlignAtt, Papi et al. 2023, with the word's probability added: on 81 clips 1.2 % of
  committed words were retracted at 0.9 s lag, against 6.2 % at 0.83 s for agreement);
- *agreement*: what two hypotheses in a row agree on is committed (LocalAgreement-2, Liu et al. 2020), for
  engines that give no word times.

A unit is a word, or a single character where the script has no spaces. What was committed stays.
"""

from __future__ import annotations

import unicodedata
from typing import Literal, TypeAlias

from edge_agent.types import Hypothesis, Value

Rule: TypeAlias = Literal["alignment", "agreement"]


class StabiliserConfig(Value, frozen=True):
    """When a unit counts as settled."""

    rule: Rule = "alignment"
    guard_s: float = 0.2
    """Sound that must follow a word."""
    min_confidence: float = 0.5
    """The least probability of a word's tokens."""


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
    end: int
    """Offset in the text just after the unit, closing punctuation included."""


class Stabiliser:
    """Of one utterance."""

    def __init__(self, config: StabiliserConfig) -> None:
        self._config = config
        self._stable = ""
        self._units: tuple[str, ...] = ()
        self._last: tuple[_Unit, ...] = ()

    def update(self, hypothesis: Hypothesis, audio_s: float) -> Stable:
        """Take the hypothesis of the first `audio_s` seconds of the utterance.

        Returns:
            The transcript so far; its `stable` begins with every `stable` returned before.
        """
        text = hypothesis.text
        found = _units(text)
        settled = self._settled(hypothesis, found, audio_s)
        self._last = found
        known = len(self._units)
        agrees = tuple(unit.key for unit in found[:known]) == self._units
        if agrees and settled > known:
            # Keep the letters already shown; only what follows them is new.
            begin = found[known - 1].end if known else 0
            self._stable += text[begin : found[settled - 1].end]
            self._units = tuple(unit.key for unit in found[:settled])
        elif not agrees:
            return Stable(stable=self._stable, tail=_rest(text, found, known))
        begin = found[len(self._units) - 1].end if self._units else 0
        return Stable(stable=self._stable, tail=text[begin:])

    def _settled(self, hypothesis: Hypothesis, units: tuple[_Unit, ...], audio_s: float) -> int:
        if self._config.rule == "alignment" and hypothesis.words:
            return _settled_by_alignment(hypothesis, units, audio_s, self._config)
        return _common(tuple(unit.key for unit in units), tuple(unit.key for unit in self._last))


def units(text: str) -> tuple[str, ...]:
    """The units of a text as they are compared: words or characters, letters and digits, case folded."""
    return tuple(unit.key for unit in _units(text))


def _settled_by_alignment(
    hypothesis: Hypothesis, units: tuple[_Unit, ...], audio_s: float, config: StabiliserConfig
) -> int:
    """Units covered by the leading words that are sure and far enough from the end of the sound."""
    text, place = hypothesis.text, 0
    for word in hypothesis.words:
        if word.end_s > audio_s - config.guard_s or word.confidence <= config.min_confidence:
            break
        found = text.find(word.text.strip(), place)
        if found < 0:
            break
        place = found + len(word.text.strip())
    return sum(1 for unit in units if unit.end <= place)


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
    return _Unit(key=letters.casefold(), end=end)


def _join_punctuation(units: list[_Unit]) -> tuple[_Unit, ...]:
    """A unit without letters belongs to the one before it."""
    joined: list[_Unit] = []
    for unit in units:
        if not unit.key and joined:
            joined[-1] = _Unit(key=joined[-1].key, end=unit.end)
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
