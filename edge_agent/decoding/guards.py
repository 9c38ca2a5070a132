"""Signs that a text was not heard but made up. Pure.

Two questions are kept apart. `suspicion`: is this decode of a shortened context worth repeating with more? It
may be asked too often, that costs time. `rejection`: must this text not be published? It may not be asked too
often, that costs words.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence

from edge_agent.decoding.phrases import is_stock_phrase
from edge_agent.types import Value, Word

MAX_COMPRESSION = 2.4
"""Radford et al. 2022, section 4.5."""
NO_SPEECH_PROB = 0.6
NO_SPEECH_LOGPROB = -1.0
"""A no-speech probability above the one and a log-probability below the other: silence, in Whisper's view."""

NO_SPEECH_WORD = 0.2
"""No-speech probability as above, and a word less likely than this: a bark that was given letters."""
_HALF_SILENT = 0.3
_MADE_UP_LOGPROB, _MADE_UP_WORD_LOGPROB = -1.2, -2.2
"""Some doubt that there was speech, and a log-probability below the first (of a single word: the second;
those are always less sure). Coughs become such sentences; none of 566 recordings of speech did."""
_SINGLE_TOKENS = 3
DOUBTFUL_LOGPROB = -0.7

_GAP_LEAST_S, _LEAST_COVERED = 3.0, 0.3
_RATE_ALLOWANCE = 12
_TOKENS_PER_SECOND = {"en": 8.0, "zh": 14.0, "yue": 14.0, "ja": 14.0, "ko": 14.0, "th": 14.0}
_OTHER_TOKENS_PER_SECOND = 11.0


class Sample(Value, frozen=True):
    """What the guards look at."""

    text: str
    tokens: tuple[int, ...]
    ended: bool
    avg_logprob: float
    no_speech_prob: float
    speech_s: float
    language: str
    least_word: float = 1.0
    """Confidence of the least certain word; 1: not known."""
    unheard_s: float = 0.0
    """Longest stretch of speech without a word; 0: none, or not known."""


def token_cap(speech_s: float, language: str) -> int:
    """More tokens than anybody says in that time."""
    rate = _TOKENS_PER_SECOND.get(language, _OTHER_TOKENS_PER_SECOND)
    return min(224, int(rate * speech_s) + _RATE_ALLOWANCE)


def suspicion(
    sample: Sample, *, min_logprob: float, min_token: float = 0.0, max_unheard_s: float = 0.0
) -> str:
    """Name of the first sign that a longer context might hear better; empty when there is none."""
    if not sample.ended:
        return "no_end"
    repeated = repetition(sample)
    if repeated:
        return repeated
    if tail_is_head(sample.tokens):
        return "tail_is_head"
    if not spoken(sample.text):
        return "empty"
    if sample.avg_logprob < min_logprob:
        return "low_logprob"
    if sample.least_word < min_token:
        return "low_token"
    if 0 < max_unheard_s < sample.unheard_s:
        return "unheard"
    return ""


def rejection(sample: Sample) -> str:
    """Why a text must not be published; empty when it may."""
    if not spoken(sample.text):
        return ""
    nobody = nobody_spoke(sample)
    if nobody:
        return nobody
    if compression_ratio(sample.text) > MAX_COMPRESSION:
        return "compression"
    if not sample.ended and has_loop(sample.tokens):
        return "loop"
    if not sample.ended and len(sample.tokens) > token_cap(sample.speech_s, sample.language):
        return "too_fast"
    doubtful = sample.no_speech_prob > _HALF_SILENT or sample.avg_logprob < DOUBTFUL_LOGPROB
    if doubtful and is_stock_phrase(sample.text, sample.language):
        return "stock_phrase"
    return ""


def nobody_spoke(sample: Sample) -> str:
    """Name of the sign that the text was made of a sound that is no speech; empty when there is none."""
    if sample.no_speech_prob > NO_SPEECH_PROB and sample.avg_logprob < NO_SPEECH_LOGPROB:
        return "no_speech"
    if sample.no_speech_prob > NO_SPEECH_PROB and sample.least_word < NO_SPEECH_WORD:
        return "no_word"
    least = _MADE_UP_LOGPROB if len(sample.tokens) > _SINGLE_TOKENS else _MADE_UP_WORD_LOGPROB
    if sample.no_speech_prob > _HALF_SILENT and sample.avg_logprob < least:
        return "made_up"
    return ""


def repetition(sample: Sample) -> str:
    """ "compression" or "loop" when the text repeats itself beyond what people do."""
    if compression_ratio(sample.text) > MAX_COMPRESSION:
        return "compression"
    return "loop" if has_loop(sample.tokens) else ""


def compression_ratio(text: str) -> float:
    """Bytes of the text over bytes after zlib."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def has_loop(tokens: Sequence[int]) -> bool:
    """An n-gram follows itself: 4 to 24 tokens twice, 2 or 3 tokens three times, one token five times."""
    for size in range(1, min(24, len(tokens) // 2) + 1):
        times = {1: 5, 2: 3, 3: 3}.get(size, 2)
        run = 0
        for place in range(len(tokens) - size):
            run = run + 1 if tokens[place] == tokens[place + size] else 0
            if run >= size * (times - 1):
                return True
    return False


def tail_is_head(tokens: Sequence[int]) -> bool:
    """The text ends with its own first tokens: a loop that was cut off."""
    if len(tokens) < 6:
        return False
    return any(
        list(tokens[-size:]) == list(tokens[:size]) for size in range(2, min(12, len(tokens) // 2) + 1)
    )


def has_gap(words: Sequence[Word], speech_s: float) -> bool:
    """Do the words leave most of the sound unexplained? For cut utterances, which are nearly all speech."""
    if speech_s < _GAP_LEAST_S or not words:
        return False
    covered = sum(word.end_s - word.start_s for word in words)
    return covered < _LEAST_COVERED * speech_s


def spoken(text: str) -> bool:
    """Anything but signs in it?"""
    return any(unicodedata.category(mark)[0] in "LN" for mark in text)
