"""The language of a channel."""

from __future__ import annotations

from edge_agent.text.habit import Habit


def heard(*languages: str) -> Habit:
    habit = Habit()
    for language in languages:
        habit.note(language, 0.9)
    return habit


def test_a_habit_takes_two_finals_to_form_and_to_change() -> None:
    """One odd utterance among others is not followed."""
    assert heard("en").usual == ""
    assert heard("en", "en").usual == "en"
    assert heard("en", "en", "zh").usual == "en"
    assert heard("en", "en", "zh", "zh").usual == "zh"


def test_three_languages_in_three_finals_are_no_habit() -> None:
    """Nothing is expected then."""
    assert heard("en", "zh", "de").usual == ""


def test_what_was_unsure_teaches_nothing() -> None:
    """A guess must not become a habit."""
    habit = heard("en", "en")
    for _ in range(3):
        habit.note("zh", 0.4)
    assert habit.usual == "en"
