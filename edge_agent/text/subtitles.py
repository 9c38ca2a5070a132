"""A transcript as text, JSON, SubRip (srt) or WebVTT (vtt). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from edge_agent.text.segments import Segment, Transcript, spaceless, wide
from edge_agent.types import Value, Word

_LINE_WIDTH = 42
_LINES = 2
_CUE_S = 7.0
_SHORTEST_CUE_S = 0.5


class Cue(Value, frozen=True):
    """What stands on the screen from one moment to another."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]


def as_txt(transcript: Transcript) -> str:
    """The text, one line until a long pause."""
    return transcript.text + "\n" if transcript.text else ""


def as_json(transcript: Transcript) -> str:
    """One indented JSON object."""
    return msgspec.json.format(msgspec.json.encode(transcript), indent=2).decode() + "\n"


def as_json_line(transcript: Transcript) -> str:
    """One JSON object on one line."""
    return msgspec.json.encode(transcript).decode() + "\n"


def as_srt(transcript: Transcript) -> str:
    """SubRip: numbered cues, decimal commas."""
    blocks = []
    for number, cue in enumerate(cues(transcript.segments), start=1):
        times = f"{clock(cue.start_s, ',')} --> {clock(cue.end_s, ',')}"
        blocks.append(f"{number}\n{times}\n" + "\n".join(cue.lines) + "\n")
    return "\n".join(blocks)


def as_vtt(transcript: Transcript) -> str:
    """WebVTT, with the characters it gives a meaning escaped."""
    blocks = ["WEBVTT\n"]
    for cue in cues(transcript.segments):
        text = "\n".join(cue.lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{clock(cue.start_s, '.')} --> {clock(cue.end_s, '.')}\n{text}\n")
    return "\n".join(blocks)


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "txt": as_txt,
    "json": as_json,
    "srt": as_srt,
    "vtt": as_vtt,
}


def clock(seconds: float, point: str) -> str:
    """Seconds as hh:mm:ss and milliseconds after `point`."""
    milliseconds = max(0, round(seconds * 1000))
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def cues(segments: Iterable[Segment]) -> list[Cue]:
    """Segments cut to what fits a screen (two lines of 42 columns, 7 s), in order, not overlapping."""
    found: list[Cue] = []
    for segment in segments:
        for start_s, end_s, text in _screens(segment):
            begin = max(start_s, found[-1].end_s if found else 0.0)
            end = max(end_s, begin + _SHORTEST_CUE_S)
            found.append(Cue(start_s=begin, end_s=end, lines=tuple(_wrapped(text, _LINE_WIDTH))))
    return found


def columns(text: str) -> int:
    """Width on the screen: Chinese and Japanese characters take two columns."""
    return sum(2 if wide(mark) else 1 for mark in text)


def _screens(segment: Segment) -> list[tuple[float, float, str]]:
    """A segment in pieces that fit the screen, timed by words, or evenly where there are none."""
    pieces = _wrapped(segment.text, _LINE_WIDTH * _LINES - _LINE_WIDTH // 4)
    if not segment.words:
        return _timed_evenly(segment, pieces)
    screens: list[tuple[float, float, str]] = []
    for text, words in _by_words(segment):
        if screens and _fits(screens[-1], text, words[-1].end_s):
            start_s, _, before = screens[-1]
            screens[-1] = (start_s, words[-1].end_s, before + text)
        else:
            screens.append((words[0].start_s, words[-1].end_s, text))
    return [(start_s, end_s, text.strip()) for start_s, end_s, text in screens]


def _by_words(segment: Segment) -> list[tuple[str, list[Word]]]:
    """Each word with the text up to the next one; words that are not found join the one before."""
    pieces: list[tuple[str, list[Word]]] = []
    position = 0
    for word in segment.words:
        place = segment.text.find(word.text, position)
        if place < 0:
            if pieces:
                pieces[-1][1].append(word)
            continue
        if pieces:
            text, words = pieces[-1]
            pieces[-1] = (text + segment.text[position:place], words)
        begin = 0 if not pieces else place
        position = place + len(word.text)
        pieces.append((segment.text[begin:position], [word]))
    if pieces:
        text, words = pieces[-1]
        pieces[-1] = (text + segment.text[position:], words)
    return pieces


def _fits(screen: tuple[float, float, str], text: str, end_s: float) -> bool:
    width = columns((screen[2] + text).strip())
    return width <= _LINE_WIDTH * _LINES - _LINE_WIDTH // 4 and end_s - screen[0] <= _CUE_S


def _timed_evenly(segment: Segment, pieces: list[str]) -> list[tuple[float, float, str]]:
    """Time shared by the width of the text."""
    whole = max(1, sum(columns(piece) for piece in pieces))
    length = segment.end_s - segment.start_s
    screens, before = [], 0
    for piece in pieces:
        start_s = segment.start_s + length * before / whole
        before += columns(piece)
        screens.append((start_s, segment.start_s + length * before / whole, piece))
    return screens


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns, broken at spaces or between wide characters where possible."""
    lines: list[str] = [""]
    for unit in _units(text):
        if lines[-1] and columns((lines[-1] + unit).rstrip()) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append(unit)
        else:
            lines[-1] += unit
    return [line.rstrip() for line in lines if line.strip()]


def _units(text: str) -> list[str]:
    """Pieces a line may be broken between: words with their space, single wide characters."""
    units: list[str] = []
    for mark in text:
        breakable = bool(units) and (units[-1][-1] == " " or spaceless(units[-1][-1], mark))
        if not units or (breakable and mark not in "，。？！、：；」』）"):
            units.append(mark)
        else:
            units[-1] += mark
    return units
