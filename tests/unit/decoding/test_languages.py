"""Detection among allowed languages, with hysteresis."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.decoding.languages import choose

RANKED = (("en", 0.5), ("zh", 0.3), ("de", 0.1), ("fr", 0.1))


def test_the_likeliest_of_the_allowed() -> None:
    """Its probability is that among the allowed."""
    assert choose(RANKED) == ("en", 0.5)
    assert choose(RANKED, {"zh", "de"}) == ("zh", 0.3 / 0.4)
    assert choose((), {"zh"}) is None


def test_an_unclear_utterance_is_in_the_usual_language() -> None:
    """Half against a third is no reason to switch; its own probability is told."""
    assert choose(RANKED, {"en", "zh"}, usual="zh") == ("zh", 0.3 / 0.8)


def test_a_clear_utterance_switches() -> None:
    """More than twice as probable."""
    assert choose((("en", 0.75), ("zh", 0.25)), {"en", "zh"}, usual="zh") == ("en", 0.75)


def test_a_usual_language_that_is_not_allowed_has_no_say() -> None:
    """After the list was changed from afar."""
    assert choose(RANKED, {"en", "de"}, usual="zh") == ("en", 0.5 / 0.6)


codes = st.sampled_from(["en", "de", "zh", "fr"])


@given(
    st.dictionaries(codes, st.floats(0, 1), max_size=4), st.frozensets(codes), st.one_of(st.just(""), codes)
)
def test_the_choice_is_allowed_and_probable(
    ranked: dict[str, float], allowed: frozenset[str], usual: str
) -> None:
    """Never a language that was not detected; within the allowed ones when any of them was."""
    chosen = choose(tuple(ranked.items()), allowed, usual)
    if chosen is None:
        return
    language, probability = chosen
    assert language in ranked
    if allowed & {code for code, share in ranked.items() if share > 0}:
        assert language in allowed
    assert 0 <= probability <= 1
