"""Finals find their recordings, and result sections do not overwrite each other."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.demo_wer import Final, attribute
from tests.benchmarks.results import table, write_section

GAP_S = 1.2


def test_each_final_goes_to_the_recording_it_was_said_in() -> None:
    """Three recordings, the second silent, the third in two parts; nobody says when playing began."""
    began = 1_000.0
    finals = [
        Final(began + 0.4, began + 1.9, "one"),
        Final(began + 6.8, began + 8.0, "three"),
        Final(began + 9.0, began + 10.0, "four"),
    ]
    assert attribute(finals, [2.0, 2.0, 5.0], GAP_S) == [["one"], [], ["three", "four"]]


def test_nothing_heard() -> None:
    """Silence gives every recording an empty list."""
    assert attribute([], [1.0, 2.0], GAP_S) == [[], []]


lengths = st.lists(st.floats(0.4, 20), min_size=3, max_size=12)


@given(lengths, st.floats(-0.3, 0.2), st.floats(1e9, 2e9))
def test_any_schedule_is_recovered(durations: list[float], lead_s: float, began: float) -> None:
    """With speech in most of each recording, and some silence kept around it, every final finds its own."""
    finals, at = [], began
    for index, duration_s in enumerate(durations):
        finals.append(Final(at + lead_s, at + duration_s + 0.2, str(index)))
        at += duration_s + GAP_S
    assert attribute(finals, durations, GAP_S) == [[str(index)] for index in range(len(durations))]


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    """Two scripts write one file; running one again changes only its own part."""
    path = tmp_path / "RESULTS.md"
    write_section("a", "Title A", "first", path)
    write_section("b", "Title B", "other", path)
    write_section("a", "Title A", "second", path)
    text = path.read_text("utf-8")
    assert "first" not in text
    assert text.index("second") < text.index("other")
    assert text.count("<!-- a: begin -->") == 1


def test_a_damaged_section_is_not_guessed_at(tmp_path: Path) -> None:
    """A section without its end is left for a person to mend."""
    path = tmp_path / "RESULTS.md"
    path.write_text("<!-- a: begin -->\nhalf", encoding="utf-8")
    with pytest.raises(SystemExit, match="has no"):
        write_section("a", "A", "new", path)


def test_table() -> None:
    """Markdown, first column to the left, numbers to the right."""
    assert table(["set", "n"], [["x", "1"]]) == "| set | n |\n| --- | ---: |\n| x | 1 |"
