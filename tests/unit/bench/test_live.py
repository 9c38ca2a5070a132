"""The replay laboratory's arithmetic, on messages with known times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from edge_agent.bench import live

START_S = 1_795_179_600.0


def message(at_s: float, kind: str, stable: str, tail: str = "", words=()) -> live._Received:
    body = {
        "id": "u",
        "kind": kind,
        "text": stable + tail,
        "stable": stable,
        "tail": tail,
        "start": datetime.fromtimestamp(START_S, tz=UTC).isoformat(),
        "duration_ms": 2000,
        "words": [{"text": text, "start_s": start, "end_s": end} for text, start, end in words],
    }
    return live._Received(at_s=START_S + at_s, body=body)


WORDS = (("turn", 0.3, 0.6), ("on", 0.6, 0.8), ("the", 0.8, 1.0), ("crane", 1.0, 1.6))


def test_figures_of_one_utterance() -> None:
    """Lag, first partial, final and changes of mind are those of the messages."""
    messages = [
        message(1.2, "partial", "turn", " of the train"),
        message(1.7, "partial", "turn on", " the crane"),
        message(2.62, "final", "turn on the crane", words=WORDS),
    ]
    figures = live._figures(messages, {"u": "turn on the crane"})
    assert figures.first_partial_ms == pytest.approx(900)
    assert figures.final_ms == pytest.approx(620)
    assert figures.stable_lags_ms == pytest.approx((600, 900, 1620, 1020))
    assert figures.word_lags_ms == pytest.approx((600, 900, 700, 100))
    assert (figures.stable_retracted, figures.tail_retracted, figures.units) == (0, 2, 4)
    assert figures.same_alone


def test_a_stable_word_that_changes_is_counted() -> None:
    """The final contradicts what was stable."""
    messages = [message(1.2, "partial", "burn on"), message(2.6, "final", "turn on the crane", words=WORDS)]
    figures = live._figures(messages, {"u": "other words"})
    assert figures.stable_retracted == 1
    assert not figures.respelled
    assert not figures.same_alone


def test_a_word_that_came_and_went_counts_from_its_last_coming() -> None:
    """Shown early, then otherwise, then as in the final."""
    messages = [
        message(0.8, "partial", "", "turn on"),
        message(1.3, "partial", "", "turn off"),
        message(1.8, "partial", "Turn", " on the"),
        message(2.6, "final", "turn on the crane", words=WORDS),
    ]
    figures = live._figures(messages, {})
    assert figures.word_lags_ms == pytest.approx((200, 1000, 800, 1000))
    assert figures.stable_retracted == 0
    assert figures.respelled


def test_the_summary_has_medians() -> None:
    """Delay is told beyond the silence window."""
    one = live._figures([message(2.65, "final", "turn on the crane", words=WORDS)], {})
    told = live.summary(
        live.LiveFigures(
            utterances=(one,),
            audio_s=4.0,
            speech_s=2.0,
            cpu_s=0.5,
            rss_mb=200.0,
            silence_ms=600,
            early_wasted=0,
            gaps=0,
        )
    )
    assert told["final_beyond_silence_p50_ms"] == 50
    assert told["first_partial_p50_ms"] is None
    assert told["cpu_s_per_speech_s"] == 0.25
