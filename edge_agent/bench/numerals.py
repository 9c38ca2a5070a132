"""Arabic numerals written as Chinese characters, so that "3.5" and "三点五" score as the same words. Pure."""

from __future__ import annotations

import re

_DIGITS = "零一二三四五六七八九"
_NUMBER = re.compile(r"(\d[\d,]*)(?:\.(\d+))?(%|％)?(年)?")


def spell(text: str) -> str:
    """Every numeral in `text` as it is read aloud in Mandarin.

    Years, numerals of five digits and more and those with a leading zero are read digit by digit, as people
    read years and telephone numbers; the others by value.
    """
    return _NUMBER.sub(_read, text)


def _read(match: re.Match[str]) -> str:
    whole, fraction, percent, year = match.groups()
    digits = whole.replace(",", "")
    by_digit = len(digits) > 4 and "," not in whole
    by_digit = by_digit or (len(digits) > 1 and digits.startswith("0")) or (bool(year) and len(digits) == 4)
    read = _one_by_one(digits) if by_digit else value(int(digits))
    if fraction:
        read += "点" + _one_by_one(fraction)
    return ("百分之" if percent else "") + read + (year or "")


def _one_by_one(digits: str) -> str:
    return "".join(_DIGITS[int(digit)] for digit in digits)


def value(number: int) -> str:
    """A whole number by value: 105 is 一百零五, 20000 is 二万."""
    if number == 0:
        return _DIGITS[0]
    groups = []
    while number:
        number, group = divmod(number, 10_000)
        groups.append(group)
    read = ""
    for place in range(len(groups) - 1, -1, -1):
        group = groups[place]
        if group == 0:
            continue
        gap = bool(read) and group < 1000
        read += (_DIGITS[0] if gap else "") + _below_ten_thousand(group) + _large_unit(place)
    # 10 to 19 drop the leading one: 十五, not 一十五.
    return read[1:] if read.startswith("一十") else read


def _large_unit(place: int) -> str:
    return ("", "万", "亿", "兆", "京")[place] if place < 5 else "亿" * (place - 1)


def _below_ten_thousand(group: int) -> str:
    read, skipped = "", False
    for power, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = group // power % 10
        if digit:
            read += (_DIGITS[0] if skipped and read else "") + _DIGITS[digit] + unit
            skipped = False
        else:
            skipped = True
    return read
