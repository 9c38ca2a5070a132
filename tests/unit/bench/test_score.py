"""What counts as an error, and what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bench.numerals import spell, value
from edge_agent.bench.score import Errors, edit_distance, errors, measure_of, total, units

words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12)


@pytest.mark.parametrize(
    ("reference", "heard"),
    [
        ("Turn on the lights, please!", "turn on the lights please"),
        ("twenty-three dollars", "$23"),
        ("It's a colour", "it is a color"),
        ("the (small) dog", "The small dog."),
    ],
)
def test_english_spelling_is_no_error(reference: str, heard: str) -> None:
    """Case, punctuation, numerals, contractions, spelling and brackets do not count as errors."""
    assert errors(reference, heard, "en").edits == 0


@pytest.mark.parametrize(
    ("reference", "heard"),
    [
        ("加密是將明文資訊改變", "加密是将明文资讯改变"),
        ("二零一五年三月", "2015年3月"),
        ("百分之三点五", "3.5%"),
        ("今天天气怎么样？", "今天 天气 怎么样"),
    ],
)
def test_chinese_script_and_numerals_are_no_error(reference: str, heard: str) -> None:
    """Traditional and Simplified script, numerals, punctuation and spaces do not count as errors."""
    assert errors(reference, heard, "zh-TW").edits == 0


def test_chinese_is_counted_by_character() -> None:
    """One wrong character of six is a sixth."""
    assert errors("今天天气很好", "今天天气真好", "zh") == Errors(edits=1, units=6)


@pytest.mark.parametrize(
    ("language", "measure"), [("en-GB", "WER"), ("zh", "CER"), ("ja", "CER"), ("de", "WER")]
)
def test_measure_is_named_by_language(language: str, measure: str) -> None:
    """Languages written without spaces are measured by characters."""
    assert measure_of(language) == measure


def test_diacritics_are_no_error() -> None:
    """German and French are compared without diacritics, by words."""
    assert units("Größe, déjà vu!", "de") == ["grosse", "deja", "vu"]


def test_korean_vowels_are_kept() -> None:
    """Korean syllables stay whole: a wrong syllable is an error."""
    assert errors("커피를 줘", "커피를 조", "ko") == Errors(edits=1, units=4)


def test_invented_words_count_against_silence() -> None:
    """Words heard where nothing was said are edits, although there is nothing to divide by."""
    assert errors("", "thank you", "en").edits == 2


def test_corpus_rate_weighs_by_length() -> None:
    """The corpus rate is the sum of edits over the sum of units, not the mean of rates."""
    assert total([Errors(edits=1, units=1), Errors(edits=0, units=9)]).rate == pytest.approx(0.1)


@given(words, words)
def test_distance_is_a_metric(left: list[str], right: list[str]) -> None:
    """The distance is symmetric, zero only for equals, and never above the longer side."""
    distance = edit_distance(left, right)
    assert distance == edit_distance(right, left)
    assert (distance == 0) == (left == right)
    assert abs(len(left) - len(right)) <= distance <= max(len(left), len(right))


@given(words, st.integers(0, 11))
def test_one_deletion_is_one_edit(sequence: list[str], index: int) -> None:
    """Leaving one word out costs one edit."""
    if index < len(sequence):
        assert edit_distance(sequence, sequence[:index] + sequence[index + 1 :]) == 1


@pytest.mark.parametrize(
    ("number", "read"),
    [
        (0, "零"),
        (10, "十"),
        (15, "十五"),
        (20, "二十"),
        (105, "一百零五"),
        (110, "一百一十"),
        (1001, "一千零一"),
        (1010, "一千零一十"),
        (20_000, "二万"),
        (100_500, "十万零五百"),
        (30_000_001, "三千万零一"),
        (100_000_000, "一亿"),
    ],
)
def test_numbers_by_value(number: int, read: str) -> None:
    """Whole numbers are read as Mandarin reads them, with one zero for each run of zeros."""
    assert value(number) == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2008年8月", "二零零八年八月"),
        ("13800138000", "一三八零零一三八零零零"),
        ("1,200元", "一千二百元"),
        ("0.5", "零点五"),
    ],
)
def test_numerals_in_text(written: str, read: str) -> None:
    """Years and telephone numbers go digit by digit, amounts by value."""
    assert spell(written) == read
