"""Word and character error rates, the way the field counts them for Whisper.

English goes through Whisper's own English normaliser; Chinese is compared by characters in Simplified
script with numerals spelled; Japanese and Korean by characters; every other language by words without
case, punctuation and diacritics. Rates are those of a corpus: all edits over all reference units, so a
long clip weighs more than a short one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Protocol

from edge_agent.bench.numerals import spell
from edge_agent.errors import UsageError
from edge_agent.types import Value

FIT_REFERENCES = frozenset({"verbatim", "corrected", "grammar"})
"""Origins of a reference that error rates may be computed from; a text drafted from a model is not one."""

_BY_CHARACTER = frozenset({"zh", "yue", "ja", "ko"})
# Whisper's normaliser deletes whatever stands in brackets; the words in them were spoken, so only the
# brackets go.
_BRACKETS = str.maketrans(dict.fromkeys("()[]{}<>（）【】「」『』《》〈〉", " "))


class Errors(Value, frozen=True):
    """Edits against a number of reference units (words or characters)."""

    edits: int = 0
    units: int = 0

    @property
    def rate(self) -> float:
        """Edits per unit, 0 for no units and no edits; above 1 when much was invented."""
        return self.edits / max(1, self.units)

    def __add__(self, other: Errors) -> Errors:
        return Errors(edits=self.edits + other.edits, units=self.units + other.units)


def measure_of(language: str) -> str:
    """The name of the rate for a language: CER where characters are counted, else WER."""
    return "CER" if _primary(language) in _BY_CHARACTER else "WER"


def units(text: str, language: str) -> list[str]:
    """The words, or the characters, that `text` is compared by.

    Raises:
        UsageError: the packages of the extra `bench` are not installed.
    """
    primary = _primary(language)
    text = text.translate(_BRACKETS)
    if primary not in _BY_CHARACTER:
        return _words(text, english=primary == "en")
    if primary in {"zh", "yue"}:
        text = spell(_simplified().convert(text))
    folded = unicodedata.normalize("NFKC", text).casefold()
    return [mark for mark in folded if unicodedata.category(mark)[0] in "LNM"]


def errors(reference: str, heard: str, language: str) -> Errors:
    """Edits that turn `heard` into `reference`, over the units of the reference."""
    wanted = units(reference, language)
    return Errors(edits=edit_distance(wanted, units(heard, language)), units=len(wanted))


def total(parts: Iterable[Errors]) -> Errors:
    """The errors of a corpus."""
    return sum(parts, Errors())


def edit_distance(wanted: Sequence[str], heard: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions between two sequences (Levenshtein)."""
    above = list(range(len(heard) + 1))
    for row, unit in enumerate(wanted, start=1):
        current = [row]
        for column, other in enumerate(heard, start=1):
            change = above[column - 1] + (unit != other)
            current.append(min(change, above[column] + 1, current[-1] + 1))
        above = current
    return above[-1]


def _primary(language: str) -> str:
    return language.split("-", maxsplit=1)[0].lower()


def _words(text: str, *, english: bool) -> list[str]:
    normaliser = _english_normaliser() if english else _basic_normaliser()
    return normaliser(text).split()


class _Normaliser(Protocol):
    def __call__(self, text: str) -> str: ...


class _Converter(Protocol):
    def convert(self, text: str) -> str: ...


def _extra_missing(error: ImportError) -> UsageError:
    return UsageError(
        f"error rates need the package {error.name}",
        remedy="install it with: pip install 'edge-asr-agent[bench]'",
    )


@cache
def _english_normaliser() -> _Normaliser:
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise _extra_missing(error) from error
    normaliser: _Normaliser = EnglishTextNormalizer()
    return normaliser


@cache
def _basic_normaliser() -> _Normaliser:
    try:
        from whisper_normalizer.basic import BasicTextNormalizer
    except ImportError as error:
        raise _extra_missing(error) from error
    normaliser: _Normaliser = BasicTextNormalizer(remove_diacritics=True)
    return normaliser


@cache
def _simplified() -> _Converter:
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise _extra_missing(error) from error
    converter: _Converter = OpenCC("t2s")
    return converter
