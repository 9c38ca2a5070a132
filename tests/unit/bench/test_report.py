"""What the figures mean."""

from collections.abc import Callable

import numpy as np
import pytest

from edge_agent.bench import measure, report
from edge_agent.bench.clips import Clip
from edge_agent.bench.measure import Pair, Side


def clip(seconds: float, reference: str | None = "turn left and stop", language: str = "en") -> Clip:
    """A silent recording with a reference."""
    pcm = np.zeros(int(16_000 * seconds), np.float32)
    return Clip(file="a.wav", pcm=pcm, language=language, set="s", reference=reference)


def side(seconds: float, text: str = "turn left and stop") -> Side:
    """A decode that took so long each time."""
    return Side(text=text, seconds=seconds, spread_s=0.0, cpu_s=seconds)


def test_ratio_is_of_each_clip_and_of_the_sums() -> None:
    """The median clip counts all clips alike, the sums count long clips more; short clips are told apart."""
    pairs = [
        Pair(clip=clip(2), ours=side(0.1), peer=side(0.5)),
        Pair(clip=clip(3), ours=side(0.1), peer=side(0.4)),
        Pair(clip=clip(10), ours=side(1.0), peer=side(2.0)),
    ]
    summary = report.latency(pairs)
    assert summary["ratio"]["median"] == pytest.approx(4.0)
    assert summary["ratio"]["of_sums"] == pytest.approx(2.9 / 1.2, abs=0.001)
    assert summary["ratio_up_to_4_s"]["clips"] == 2
    assert summary["audio_s"] == 15


def test_without_a_peer_there_is_no_ratio() -> None:
    """One side alone is measured, not compared."""
    pair = Pair(clip=clip(2), ours=side(0.1))
    assert set(report.latency([pair])) == {"clips", "audio_s", "ours"}
    assert "peer" not in report.clip_facts(pair)


def test_clip_facts_have_the_agreed_fields() -> None:
    """Programs find file, duration, and text and seconds of both sides."""
    facts = report.clip_facts(Pair(clip=clip(2), ours=side(0.1), peer=side(0.5)))
    assert (facts["file"], facts["duration_s"]) == ("a.wav", 2.0)
    for name, seconds in (("ours", 0.1), ("peer", 0.5)):
        assert (facts[name]["text"], facts[name]["seconds"]) == ("turn left and stop", seconds)


def test_error_rates_by_set_and_language() -> None:
    """Clips without a fit reference do not count; languages are not mixed."""
    pairs = [
        Pair(clip=clip(1), ours=side(1, "turn left and"), peer=side(1)),
        Pair(clip=clip(1), ours=side(1), peer=side(1)),
        Pair(clip=clip(1, None), ours=side(1, "anything"), peer=side(1)),
        Pair(clip=clip(1, "今天很好", "zh"), ours=side(1, "今天很好"), peer=side(1, "今天")),
    ]
    rows = {(row["set"], row["language"]): row for row in report.accuracy(pairs)}
    assert set(rows) == {("s", "en"), ("s", "zh"), ("all", "en"), ("all", "zh")}
    assert rows["all", "en"]["clips"] == 2
    assert (rows["all", "en"]["ours_percent"], rows["all", "en"]["difference_points"]) == (12.5, 12.5)
    assert (rows["all", "zh"]["measure"], rows["all", "zh"]["peer_percent"]) == ("CER", 50.0)


def test_throughput_is_audio_over_the_median_run() -> None:
    """60 s of audio in 2 s are 30 s per second."""
    facts = report.throughput(60, [1.0, 2.0, 3.0], [6.0, 6.0, 6.0])
    assert (facts["ours"]["audio_s_per_s"], facts["ratio"]) == (30.0, 3.0)


def test_both_sides_take_turns() -> None:
    """Who goes first changes from run to run and from clip to clip, after one untimed decode each."""
    calls: list[str] = []

    def named(name: str) -> Callable[[object, str], str]:
        return lambda pcm, language: calls.append(name) or name

    pairs = measure.compare([clip(1), clip(1)], named("ours"), named("peer"), runs=2)
    assert calls == ["ours", "peer", "ours", "peer", "peer", "ours", "peer", "ours", "ours", "peer"]
    assert [pair.ours.text for pair in pairs] == ["ours", "ours"]
    assert all(pair.peer is not None and pair.peer.text == "peer" for pair in pairs)
