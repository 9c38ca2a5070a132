"""Chinese script: what is asked for is what comes out, and nothing else changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.text.script import Script
from edge_agent.types import Hypothesis, Word


def zh(text: str, *words: str) -> Hypothesis:
    placed = tuple(Word(text=w, start_s=i, end_s=i + 1, confidence=1.0) for i, w in enumerate(words))
    return Hypothesis(text=text, words=placed, tokens=(1, 2), language="zh")


def test_simplified_becomes_traditional_text_and_words() -> None:
    """Words are cut from the converted sentence: 发 is 髮 in hair, 發 in develop."""
    heard = Script("Hant")(zh("理发很发达", "理发", "很", "发达"))
    assert heard.text == "理髮很發達"
    assert [word.text for word in heard.words] == ["理髮", "很", "發達"]
    assert heard.tokens == (1, 2)


def test_traditional_becomes_simplified() -> None:
    """And back."""
    assert Script("Hans")(zh("臺灣的天氣")).text == "台湾的天气"


def test_english_inside_stays() -> None:
    """Mixed speech keeps its English words and punctuation."""
    assert Script("Hant")(zh("打开 Wi-Fi，然后 reboot。")).text == "打開 Wi-Fi，然後 reboot。"


def test_other_languages_are_left_alone() -> None:
    """Japanese uses Han characters of its own."""
    said = Hypothesis(text="国会の会議", language="ja")
    assert Script("Hant")(said) is said


def test_no_script_changes_nothing() -> None:
    """The default is what the model writes."""
    said = zh("体验")
    assert Script("")(said) is said


TRADITIONAL = Script("Hant")
SIMPLIFIED_ONLY = "发国会说话时间这个们东车马鸟鱼见贝门问闻头买卖书长"


@given(st.lists(st.sampled_from(list(SIMPLIFIED_ONLY + "你好的，a ")), max_size=30).map("".join))
def test_no_simplified_character_gets_out(text: str) -> None:
    """Whatever the model writes, characters that exist only in Simplified do not appear."""
    only_simplified = set("发国说话时间这个们东车马鸟鱼见贝门问闻头买卖书长会")
    assert not only_simplified & set(TRADITIONAL(zh(text)).text)
