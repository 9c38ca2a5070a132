"""From decoded windows of a recording to its transcript: sentences with times in the recording. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from edge_agent.types import Hypothesis, Value, Word

_SENTENCE_ENDS = ".?!。？！…"
_CLOSERS = "\"'”’」』）)»"
_SENTENCE = re.compile(r".+?(?:[.?!…]+[\"'”’)]*(?=\s|$)|[。？！]+[」』）]*|$)", re.DOTALL)
_PAUSE_S = 1.0
"""A pause this long ends a sentence even without punctuation."""


class Segment(Value, frozen=True):
    """A sentence, or as much of one as was said without a long pause. Seconds from the recording's start."""

    start_s: float
    end_s: float
    text: str
    confidence: float
    """0..1"""
    words: tuple[Word, ...] = ()


class Transcript(Value, frozen=True):
    """What is said in one recording."""

    file: str
    duration_s: float
    language: str
    text: str
    segments: tuple[Segment, ...] = ()


def segments_of(
    hypothesis: Hypothesis, start_s: float, end_s: float, speech: Sequence[tuple[float, float]] = ()
) -> list[Segment]:
    """The sentences of one decoded window.

    Args:
        hypothesis: what was heard; its word times count from the window's start.
        start_s: where the window starts in the recording.
        end_s: where it ends.
        speech: where in the recording speech is, within the window. When the engine gave no word times, the
            sentences are spread over it by their length.
    """
    text = said(hypothesis)
    if not text:
        return []
    places = _places(text, hypothesis.words)
    if not places:
        return _spread(text, tuple(speech) or ((start_s, end_s),), hypothesis)
    segments = []
    first = 0
    for index in range(len(places)):
        last = index == len(places) - 1
        if last or _ends_here(text, places, hypothesis.words, index):
            begin = 0 if first == 0 else places[first]
            stop = len(text) if last else places[index + 1]
            words = tuple(_moved(word, start_s, end_s) for word in hypothesis.words[first : index + 1])
            segments.append(
                Segment(
                    start_s=words[0].start_s,
                    end_s=words[-1].end_s,
                    text=text[begin:stop].strip(),
                    confidence=round(math.fsum(word.confidence for word in words) / len(words), 3),
                    words=words,
                )
            )
            first = index + 1
    return segments


def said(hypothesis: Hypothesis) -> str:
    """The text on one line; empty when a guard rejected it, when it is doubtful, or without a letter."""
    text = " ".join(hypothesis.text.split())
    if hypothesis.rejected or unheard(hypothesis) or not any(mark.isalnum() for mark in text):
        return ""
    return text


def unheard(hypothesis: Hypothesis) -> bool:
    """Whether the model doubts both its words and that there was speech (Radford et al. 2022, section 4.5).

    Of 75 one-word recordings this silences two, both of them misheard, and of 21 recordings without speech
    the one whose chime passes for a voice.
    """
    return hypothesis.no_speech_prob > 0.6 and hypothesis.avg_logprob < -1.0


def transcript_of(file: str, duration_s: float, language: str, segments: Sequence[Segment]) -> Transcript:
    """Join the segments of a recording; a pause of two seconds starts a new line of the text."""
    text = ""
    for index, segment in enumerate(segments):
        if index:
            long_pause = segment.start_s - segments[index - 1].end_s >= 2.0
            text += "\n" if long_pause else ("" if spaceless(text[-1:], segment.text[:1]) else " ")
        text += segment.text
    return Transcript(
        file=file, duration_s=round(duration_s, 3), language=language, text=text, segments=tuple(segments)
    )


def spaceless(before: str, after: str) -> bool:
    """Whether two pieces of text meet without a space: Chinese and Japanese on both sides."""
    return wide(before) and wide(after)


def wide(mark: str) -> bool:
    """Whether a character belongs to a script written without spaces (not Hangul, which has them)."""
    return bool(mark) and (
        "\u3000" <= mark <= "\u30ff" or "\u3400" <= mark <= "\u9fff" or "\uff00" <= mark <= "\uffef"
    )


def _places(text: str, words: Sequence[Word]) -> list[int]:
    """Where each word begins in the text; empty when they do not match it."""
    places = []
    position = 0
    for word in words:
        place = text.find(word.text.strip(), position)
        if place < 0:
            return []
        places.append(place)
        position = place + len(word.text.strip())
    return places


def _ends_here(text: str, places: Sequence[int], words: Sequence[Word], index: int) -> bool:
    if words[index + 1].start_s - words[index].end_s >= _PAUSE_S:
        return True
    said = text[places[index] : places[index + 1]].strip().rstrip(_CLOSERS)
    # "3.5" and "U.S." hold periods that end nothing: a sentence's end is followed by a space or a wide mark.
    ended = said.endswith(tuple(_SENTENCE_ENDS))
    return ended and (text[places[index + 1] - 1] == " " or wide(said[-1]))


def _spread(text: str, speech: tuple[tuple[float, float], ...], hypothesis: Hypothesis) -> list[Segment]:
    """Sentences timed by their share of the text, over the time in which there is speech."""
    confidence = round(min(1.0, math.exp(min(0.0, hypothesis.avg_logprob))), 3)
    sentences = [match.group().strip() for match in _SENTENCE.finditer(text) if match.group().strip()]
    whole = sum(map(len, sentences))
    segments, before = [], 0
    for sentence in sentences:
        start_s = _at(before / whole, speech, late=True)
        before += len(sentence)
        end_s = _at(before / whole, speech, late=False)
        segments.append(
            Segment(start_s=round(start_s, 3), end_s=round(end_s, 3), text=sentence, confidence=confidence)
        )
    return segments


def _at(share: float, speech: tuple[tuple[float, float], ...], *, late: bool) -> float:
    """The moment at which a share of all speech is over; between two stretches the later one if `late`."""
    left = share * math.fsum(end - start for start, end in speech)
    for start, end in speech[:-1]:
        if left < end - start or (left <= end - start and not late):
            return start + left
        left -= end - start
    return min(speech[-1][0] + max(0.0, left), speech[-1][1])


def _moved(word: Word, start_s: float, end_s: float) -> Word:
    begin = min(start_s + word.start_s, end_s)
    return Word(
        text=word.text.strip(),
        start_s=round(begin, 3),
        end_s=round(min(max(begin, start_s + word.end_s), end_s), 3),
        confidence=round(word.confidence, 3),
    )
