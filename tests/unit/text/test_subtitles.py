"""Transcripts as text, JSON and subtitles that players accept."""

import json
import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.text.segments import Segment, transcript_of
from edge_agent.text.subtitles import as_json, as_json_line, as_srt, as_txt, as_vtt, clock, columns, cues
from edge_agent.types import Word


def spoken(text: str, start_s: float = 0.0, pace_s: float = 0.4) -> Segment:
    """A segment whose words follow each other at an even pace."""
    words = tuple(
        Word(
            text=word, start_s=start_s + index * pace_s, end_s=start_s + (index + 1) * pace_s, confidence=1.0
        )
        for index, word in enumerate(text.split())
    )
    return Segment(start_s=start_s, end_s=words[-1].end_s, text=text, confidence=1.0, words=words)


def test_srt() -> None:
    """Cues are numbered from 1 and times have a decimal comma."""
    transcript = transcript_of("a.wav", 5, "en", [spoken("Hello there.", 0.5), spoken("Bye.", 3)])
    assert as_srt(transcript) == (
        "1\n00:00:00,500 --> 00:00:01,300\nHello there.\n\n2\n00:00:03,000 --> 00:00:03,500\nBye.\n"
    )


def test_vtt_escapes_its_markup() -> None:
    """Text that looks like a tag is shown, not obeyed."""
    transcript = transcript_of("a.wav", 5, "en", [spoken("a < b & c")])
    assert as_vtt(transcript).startswith("WEBVTT\n\n00:00:00.000 --> ")
    assert "a &lt; b &amp; c" in as_vtt(transcript)


def test_nothing_said() -> None:
    """A recording without speech gives empty text and valid, empty subtitles."""
    transcript = transcript_of("a.wav", 5, "en", [])
    assert (as_txt(transcript), as_srt(transcript), as_vtt(transcript)) == ("", "", "WEBVTT\n")


def test_json_has_the_agreed_fields() -> None:
    """Programs find file, duration, language, text and timed segments with words."""
    transcript = transcript_of("a.wav", 2.0, "en", [spoken("Hello there.")])
    found = json.loads(as_json(transcript))
    assert found == json.loads(as_json_line(transcript))
    assert set(found) == {"file", "duration_s", "language", "text", "segments"}
    assert set(found["segments"][0]) == {"start_s", "end_s", "text", "confidence", "words"}
    assert found["segments"][0]["words"][0] == {
        "text": "Hello",
        "start_s": 0.0,
        "end_s": 0.4,
        "confidence": 1.0,
    }


def test_long_sentences_are_cut_to_the_screen() -> None:
    """A cue has at most two lines of 42 columns and 7 seconds."""
    for cue in cues([spoken("the quick brown fox jumps over the lazy dog " * 8)]):
        assert len(cue.lines) <= 2
        assert all(columns(line) <= 42 for line in cue.lines)
        assert cue.end_s - cue.start_s <= 7.001


def test_chinese_takes_two_columns() -> None:
    """Text without spaces is broken between characters, and no line begins with a comma."""
    segment = Segment(start_s=0, end_s=20, text="今天天气怎么样，" * 10, confidence=1.0)
    shown = cues([segment])
    assert all(columns(line) <= 43 for cue in shown for line in cue.lines)
    assert not any(line.startswith("，") for cue in shown for line in cue.lines)
    assert "".join(line for cue in shown for line in cue.lines) == segment.text


def test_clock_rounds_to_milliseconds() -> None:
    """59.9996 s is a minute, not 60 seconds."""
    assert clock(59.9996, ".") == "00:01:00.000"
    assert clock(3_725.5, ",") == "01:02:05,500"


word = st.text(alphabet="abcü.,-", min_size=1, max_size=60)


@given(st.lists(word, min_size=1, max_size=30), st.floats(0.01, 3), st.booleans())
def test_subtitles_show_every_word_in_order(words: list[str], pace_s: float, timed: bool) -> None:
    """No word is lost or repeated, times rise, and no two cues overlap."""
    segment = spoken(" ".join(words), 1.0, pace_s)
    if not timed:
        segment = Segment(start_s=1.0, end_s=segment.end_s, text=segment.text, confidence=1.0)
    shown = cues([segment])
    assert " ".join(line for cue in shown for line in cue.lines).split() == words
    for before, after in pairwise(shown):
        assert before.start_s < before.end_s <= after.start_s
    times = re.findall(r"^(.*) --> (.*)$", as_srt(transcript_of("a", 1, "en", [segment])), re.MULTILINE)
    assert all(start < end for start, end in times)
