"""Sentences and their times from what the engine heard."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.text.segments import Segment, segments_of, transcript_of
from edge_agent.types import Hypothesis, Word


def heard(text: str, *times: tuple[str, float, float], **fields: object) -> Hypothesis:
    """A hypothesis with words at the given times."""
    words = tuple(Word(text=word, start_s=start, end_s=end, confidence=0.9) for word, start, end in times)
    return Hypothesis(text=text, words=words, **fields)  # type: ignore[arg-type]  # fields are a Hypothesis's


def test_sentences_are_split_and_moved_to_file_time() -> None:
    """Word times count from the window; segments count from the recording's start."""
    hypothesis = heard(
        "Hello there. How are you?",
        ("Hello", 0.1, 0.4),
        ("there.", 0.5, 0.8),
        ("How", 1.0, 1.2),
        ("are", 1.2, 1.3),
        ("you?", 1.3, 1.6),
    )
    first, second = segments_of(hypothesis, 60.0, 62.0)
    assert (first.text, first.start_s, first.end_s) == ("Hello there.", 60.1, 60.8)
    assert (second.text, second.start_s, second.end_s) == ("How are you?", 61.0, 61.6)
    assert [word.start_s for word in second.words] == [61.0, 61.2, 61.3]


def test_long_pause_ends_a_segment() -> None:
    """Words a second apart belong to two segments even without punctuation."""
    hypothesis = heard(
        "turn left then stop", ("turn", 0, 0.3), ("left", 0.3, 0.6), ("then", 2, 2.2), ("stop", 2.2, 2.6)
    )
    assert [segment.text for segment in segments_of(hypothesis, 0, 3)] == ["turn left", "then stop"]


def test_period_inside_a_number_ends_nothing() -> None:
    """Decimal points and abbreviations keep their sentence whole."""
    hypothesis = heard(
        "It is 3.5 m long.",
        ("It", 0, 0.1),
        ("is", 0.1, 0.2),
        ("3.5", 0.2, 0.6),
        ("m", 0.6, 0.7),
        ("long.", 0.7, 1),
    )
    assert len(segments_of(hypothesis, 0, 1)) == 1


def test_words_never_leave_their_window() -> None:
    """An engine's word that ends in the padding is cut at the window's end."""
    segment = segments_of(heard("stop", ("stop", 0.5, 29.0)), 10.0, 11.0)[0]
    assert (segment.start_s, segment.end_s) == (10.5, 11.0)


def test_without_word_times_sentences_share_the_speech() -> None:
    """The pause between two stretches of speech belongs to no sentence."""
    segments = segments_of(heard("One two. One two."), 0.0, 10.0, [(1.0, 3.0), (7.0, 9.0)])
    assert [(segment.start_s, segment.end_s) for segment in segments] == [(1.0, 3.0), (7.0, 9.0)]


def test_chinese_sentences_without_word_times() -> None:
    """Full-width stops end sentences without a space."""
    segments = segments_of(heard("今天天气怎么样？我不知道。"), 0.0, 4.0)
    assert [segment.text for segment in segments] == ["今天天气怎么样？", "我不知道。"]


def test_rejected_and_wordless_text_is_nothing() -> None:
    """What a guard rejected, and text without a letter, is not transcribed."""
    assert segments_of(heard("Thank you.", rejected="no_speech"), 0, 1) == []
    assert segments_of(heard("..."), 0, 1) == []


def test_doubtful_words_in_doubtful_speech_are_nothing() -> None:
    """Both doubts are needed: a mumbled word is kept, and so is a clear one in noise."""
    assert segments_of(heard("you", no_speech_prob=0.8, avg_logprob=-1.5), 0, 1) == []
    assert segments_of(heard("you", no_speech_prob=0.8, avg_logprob=-0.5), 0, 1) != []
    assert segments_of(heard("you", no_speech_prob=0.3, avg_logprob=-1.5), 0, 1) != []


def test_transcript_joins_by_script_and_breaks_at_pauses() -> None:
    """English is joined with spaces, Chinese without, and a long pause starts a line."""

    def segment(text: str, start_s: float) -> Segment:
        return Segment(start_s=start_s, end_s=start_s + 1, text=text, confidence=1.0)

    english = transcript_of(
        "a.wav", 9, "en", [segment("One.", 0), segment("Two.", 1.5), segment("Three.", 6)]
    )
    assert english.text == "One. Two.\nThree."
    assert (
        transcript_of("a.wav", 9, "zh", [segment("你好。", 0), segment("再见。", 1)]).text == "你好。再见。"
    )


@given(st.text(alphabet='ab .?!。 "', max_size=40), st.floats(0, 100), st.floats(0.1, 28))
def test_no_letter_is_lost(text: str, start_s: float, length_s: float) -> None:
    """Whatever the punctuation, the segments hold all letters, in order, within the window."""
    segments = segments_of(heard(text), start_s, start_s + length_s)
    letters = "".join(mark for segment in segments for mark in segment.text if mark.isalnum())
    assert letters == "".join(mark for mark in text if mark.isalnum())
    for segment in segments:
        assert start_s - 0.01 <= segment.start_s <= segment.end_s <= start_s + length_s + 0.01
