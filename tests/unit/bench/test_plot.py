"""The figure is valid SVG that tells what was measured, whatever was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bench.figure import Bar, Bars, Curves, Series, draw, written
from edge_agent.bench.plot import figure
from edge_agent.bench.scale import bars_scale, scale
from edge_agent.errors import UsageError
from edge_agent.verbs import bench_plot

SVG = "{http://www.w3.org/2000/svg}"
RATIO = {"clips": 2, "median": 6.5, "lower_quartile": 6.0, "upper_quartile": 7.0, "of_sums": 6.4}
FACTS = {
    "threads": 2, "runs": 3, "engine": "onnxruntime/int8", "model": "whisper-base@d01c", "profile": "cpu",
    "beam": 1,
}  # fmt: skip


def offline(what: str, *, peer: bool = True, count: int = 5, **summary: Any) -> dict[str, Any]:
    clips: list[dict[str, Any]] = [
        {"file": f"{n}.wav", "duration_s": 2.0, "ours": {"text": "a", "seconds": 0.1 + n / 100}}
        for n in range(count)
    ]
    facts: dict[str, Any] = {"what": what, **FACTS, "ours": {"audio_s_per_s": 40.0}, **summary}
    if peer:
        for clip in clips:
            clip["peer"] = {"text": "a", "seconds": 6 * clip["ours"]["seconds"]}
        facts |= {"peer_name": "faster-whisper 1.2", "ratio": RATIO, "peer": {"audio_s_per_s": 8.0}} | summary
    return {"clips": clips, "summary": facts}


def live(*, peer: bool = True) -> dict[str, Any]:
    said = [
        {"final_ms": 610.0 + n, "first_partial_ms": 500.0 if n else None, "word_lags_ms": [300.0, 320.0],
         "stable_lags_ms": [900.0]}
        for n in range(4)
    ]  # fmt: skip
    summary: dict[str, Any] = {
        "utterances": 4, "speech_s": 12.0, "silence_ms": 600.0, "cpu_s_per_speech_s": 0.27, "rss_mb": 310,
    }  # fmt: skip
    result: dict[str, Any] = {"utterances": said, "summary": summary}
    if peer:
        result["peer_utterances"] = [
            {"file": "a", "text": "b", "final_beyond_silence_ms": 700.0 + n, "first_partial_ms": None}
            for n in range(4)
        ]
        summary["peer"] = {"name": "wyoming", "cpu_s_per_speech_s": None, "rss_mb": 480}
    return result


def texts(svg: str) -> list[str]:
    """What is written in it; that it parses is part of every test."""
    return [one.text or "" for one in Xml.fromstring(svg).iter(f"{SVG}text")]


def test_latency_against_a_peer() -> None:
    """Both distributions with their percentiles, medians, and how many times as long the peer takes."""
    svg = figure(offline("latency", ratio_up_to_4_s=RATIO))
    told = texts(svg)
    assert "Latency of whisper-base@d01c" in told
    assert "edge-agent: median 120 ms, 95 % within 138 ms (5 recordings)" in told
    assert "faster-whisper 1.2: median 720 ms, 95 % within 828 ms (5 recordings)" in told
    assert told.count("6.50 (middle half 6.0 to 7.0)") == 2
    assert {"p50", "p95", "ms", "50 %"} <= set(told)
    classes = [one.get("class") for one in Xml.fromstring(svg).iter(f"{SVG}polyline")]
    assert classes.count("line ours") == classes.count("line peer") == 2  # the curve and its key
    assert "prefers-color-scheme: dark" in svg


def test_throughput() -> None:
    """Seconds of audio per second."""
    told = texts(figure(offline("throughput", ratio=5.0)))
    assert "40 s/s" in told
    assert "8 s/s" in told
    assert "5.00" in told


def test_accuracy() -> None:
    """Error rates of each language over all its sets."""
    row = {"language": "en", "measure": "WER", "clips": 5, "units": 1201, "ours_percent": 5.47}
    rows = [{"set": "one", **row, "ours_percent": 99.0}, {"set": "all", **row, "peer_percent": 5.96}]
    told = texts(figure(offline("accuracy", sets=rows)))
    assert "WER, en: 1,201 units of 5 recordings" in told
    assert {"5.47 %", "5.96 %"} <= set(told)
    assert "99.00 %" not in told


@pytest.mark.parametrize("peer", [False, True])
def test_live(peer: bool) -> None:
    """Finals beyond the silence, first words, word lags, costs; a peer has what it has."""
    told = texts(figure(live(peer=peer)))
    assert "edge-agent: median 12 ms, 95 % within 13 ms (4 utterances)" in told
    assert "Words stable, after they were spoken" in told
    assert "310 MB" in told
    assert ("wyoming: median 702 ms, 95 % within 703 ms (4 utterances)" in told) is peer
    assert ("480 MB" in told) is peer


def test_one_recording_alone_is_a_figure() -> None:
    """Without a peer there is nothing to compare, and no ratio."""
    told = texts(figure(offline("latency", peer=False, count=1)))
    assert "edge-agent: median 100 ms, 95 % within 100 ms (1 recording)" in told
    assert not any("ours is 1" in line for line in told)


@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_names_are_text_and_never_markup(name: str) -> None:
    """A model's directory or a peer's address may hold anything."""
    result = offline("latency", model=name, peer_name=name)
    root = Xml.fromstring(figure(result))
    assert {one.tag for one in root.iter()} <= {
        SVG + tag for tag in ("svg", "title", "desc", "style", "rect", "text", "line", "polyline", "circle")
    }


def test_markup_in_a_name_is_shown() -> None:
    """As it is written."""
    svg = figure(offline("latency", peer_name='<script>alert("&")</script>'))
    assert "<script" not in svg
    assert any('<script>alert("&")</script>: median' in line for line in texts(svg))


NUMBERS = st.lists(st.floats(-1e9, 1e9) | st.floats(1e-6, 1e6), min_size=1, max_size=30)


@given(NUMBERS)
def test_everything_is_inside_the_picture(values: list[float]) -> None:
    """Curves and bars, of any values."""
    ordered = sorted(values)
    series = Series(
        name="x", side="ours", values=tuple(values), median=ordered[len(ordered) // 2], p95=ordered[-1]
    )
    bars = tuple(Bar(label="y" * 90, side="peer", value=abs(value), text="z") for value in values)
    root = Xml.fromstring(
        draw(
            "t",
            "f",
            [Curves(heading="c", unit="ms", of="things", series=(series,)), Bars(heading="b", bars=bars)],
        )
    )
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for line in root.iter(f"{SVG}polyline"):
        for point in (line.get("points") or "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    for one in root.iter(f"{SVG}rect"):
        assert float(one.get("x", 0)) + float(one.get("width", 0)) <= width
        assert float(one.get("y", 0)) + float(one.get("height", 0)) <= height


@given(NUMBERS)
def test_a_scale_holds_its_values_and_few_ticks(values: list[float]) -> None:
    """In their order, from end to end."""
    axis = scale(values, 700)
    slack = 1e-6 * max(map(abs, values))
    assert axis.low <= min(values) + slack
    assert axis.high >= max(values) - slack
    places = [axis.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 700
    assert 1 <= len(axis.ticks()) <= 18
    assert bars_scale([abs(value) for value in values], 100).at(0) == 0


def test_scales() -> None:
    """From zero, or logarithmic where values differ many times."""
    assert scale([97, 630], 100).ticks() == [0, 100, 200, 300, 400, 500, 600, 700]
    wide = scale([10, 900], 100)
    assert wide.logarithmic
    assert wide.ticks() == [10, 20, 50, 100, 200, 500, 1000]
    assert scale([0.0], 100).high == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (11.04, "11"), (0.2734, "0.273"), (1234.5, "1,234"), (99.96, "100"), (-3.2, "-3.2")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    """Three digits that count."""
    assert written(value) == text


@pytest.mark.parametrize(
    ("name", "why"),
    [("a.png", "only SVG"), ("missing/a.svg", "no directory"), ("folder.svg", "is a directory")],
)
def test_a_file_that_cannot_be_written_is_refused_first(tmp_path: Path, name: str, why: str) -> None:
    """Before minutes are spent on measuring."""
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(UsageError, match=why):
        bench_plot.check(tmp_path / name)


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """An older file stays when there is nothing to draw."""
    path = tmp_path / "a.svg"
    bench_plot.write(path, offline("latency"), quiet=True)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="nothing was measured"):
        bench_plot.write(path, {"clips": [], "summary": {"what": "latency", **FACTS}}, quiet=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
