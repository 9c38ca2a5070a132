"""What `bench` measured, as a figure. Pure: the result that --json prints in, SVG out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from edge_agent.bench.figure import Bar, Bars, Curves, Panel, Series, Side, draw, written
from edge_agent.bench.report import nearest_rank, percentile_95

_OURS = "edge-agent"


def figure(result: Mapping[str, Any]) -> str:
    """The SVG of one measurement.

    Args:
        result: as `bench --json` prints it: of latency, throughput or accuracy, or of --live.

    Raises:
        ValueError: nothing was measured.
    """
    panels = _live(result) if "utterances" in result else _offline(result)
    if not panels:
        raise ValueError("nothing was measured, so there is nothing to draw")
    summary = result["summary"]
    if "utterances" in result:
        title = "Latency, live: what a subscriber sees"
        facts = (
            f"{summary['utterances']} utterances, {summary['speech_s']:.0f} s of speech, "
            f"endpoint after {summary['silence_ms']:.0f} ms of silence"
        )
    else:
        title = f"{str(summary['what']).capitalize()} of {summary['model']}"
        cpus = "CPU" if summary["threads"] == 1 else "CPUs"
        runs = "run" if summary["runs"] == 1 else "runs"
        facts = (
            f"{summary['engine']}, {summary['profile']}, beam {summary['beam']}, "
            f"{summary['threads']} {cpus}, {len(result['clips'])} recordings, {summary['runs']} {runs}"
        )
    return draw(title, facts, panels)


def _offline(result: Mapping[str, Any]) -> list[Panel]:
    clips, summary = result["clips"], result["summary"]
    names: dict[Side, str] = {"ours": _OURS, "peer": str(summary.get("peer_name", "peer"))}
    times: dict[Side, list[float]] = {
        side: [1e3 * clip[side]["seconds"] for clip in clips if side in clip] for side in names
    }
    series = [_series(names[side], side, times[side]) for side in names if times[side]]
    panels: list[Panel] = []
    if summary["what"] == "throughput":
        panels.append(_rates(summary, names))
    if series:
        panels.append(_curves("Time of one recording", "ms", "recordings", series))
        panels.append(_medians("Median time of one recording", series, "ms"))
    panels += _ratios(summary, names["peer"])
    panels += _errors(summary, names)
    return panels


def _rates(summary: Mapping[str, Any], names: Mapping[Side, str]) -> Bars:
    bars = [
        Bar(label=names[side], side=side, value=rate, text=f"{written(rate)} s/s")
        for side in names
        if side in summary
        for rate in [summary[side]["audio_s_per_s"]]
    ]
    return Bars(heading="Seconds of audio per second, all workers busy", bars=tuple(bars))


def _ratios(summary: Mapping[str, Any], peer: str) -> list[Panel]:
    """How many times as long, or as much, the peer takes; ours is one."""
    rows: list[tuple[str, float, str]] = []
    for key, what in (("ratio", "all recordings"), ("ratio_up_to_4_s", "up to 4 s long")):
        ratio = summary.get(key)
        if isinstance(ratio, Mapping):
            middle = f"{ratio['lower_quartile']:.1f} to {ratio['upper_quartile']:.1f}"
            rows.append((what, ratio["median"], f"{ratio['median']:.2f} (middle half {middle})"))
        elif isinstance(ratio, (int, float)):
            rows.append((what, float(ratio), f"{ratio:.2f}"))
    if not rows:
        return []
    bars = [Bar(label=_OURS, side="ours", value=1.0, text="1")]
    bars += [Bar(label=what, side="peer", value=value, text=text) for what, value, text in rows]
    return [Bars(heading=f"Time that {peer} takes, ours is 1", bars=tuple(bars))]


def _errors(summary: Mapping[str, Any], names: Mapping[Side, str]) -> list[Panel]:
    """Error rates of each language, where references are known."""
    panels: list[Panel] = []
    keys: tuple[tuple[Side, str], ...] = (("ours", "ours_percent"), ("peer", "peer_percent"))
    for row in summary.get("sets", ()):
        if row["set"] != "all":
            continue
        bars = [
            Bar(label=names[side], side=side, value=row[key], text=f"{row[key]:.2f} %")
            for side, key in keys
            if key in row
        ]
        heading = f"{row['measure']}, {row['language']}: {row['units']:,} units of {row['clips']} recordings"
        panels.append(Bars(heading=heading, bars=tuple(bars)))
    return panels


def _live(result: Mapping[str, Any]) -> list[Panel]:
    summary, said = result["summary"], result["utterances"]
    other = summary.get("peer") or {}
    peer_name = str(other.get("name", "peer"))
    beyond: dict[str, list[float]] = {
        "ours": [one["final_ms"] - summary["silence_ms"] for one in said],
        "peer": [one["final_beyond_silence_ms"] for one in result.get("peer_utterances", ())],
    }
    first: dict[str, list[float]] = {
        "ours": _known(one["first_partial_ms"] for one in said),
        "peer": _known(one["first_partial_ms"] for one in result.get("peer_utterances", ())),
    }
    panels: list[Panel] = []
    sides: tuple[tuple[Side, str], ...] = (("ours", _OURS), ("peer", peer_name))
    for heading, values in (
        ("Final after the silence that ends an utterance", beyond),
        ("First words after speech begins", first),
    ):
        series = [_series(name, side, values[side], live=True) for side, name in sides if values[side]]
        if series:
            panels.append(_curves(heading, "ms", "utterances", series))
            if len(series) > 1:
                panels.append(_medians(f"{heading}, median", series, "ms"))
    lags = [lag for one in said for lag in one["word_lags_ms"]]
    settled = [lag for one in said for lag in one["stable_lags_ms"]]
    for heading, values_ in (("Words shown for good", lags), ("Words stable", settled)):
        if values_:
            lag = _series(_OURS, "ours", values_, live=True)
            panels.append(_curves(f"{heading}, after they were spoken", "ms", "words", [lag]))
    return panels + _costs(summary, other, peer_name)


def _costs(summary: Mapping[str, Any], other: Mapping[str, Any], peer: str) -> list[Panel]:
    panels: list[Panel] = []
    sides: tuple[tuple[Side, str, Mapping[str, Any]], ...] = (("ours", _OURS, summary), ("peer", peer, other))
    for key, heading, unit in (
        ("cpu_s_per_speech_s", "CPU time per second of speech", "s"),
        ("rss_mb", "Memory", "MB"),
    ):
        bars = [
            Bar(label=name, side=side, value=float(facts[key]), text=f"{written(facts[key])} {unit}")
            for side, name, facts in sides
            if facts.get(key) is not None
        ]
        if bars:
            panels.append(Bars(heading=heading, bars=tuple(bars)))
    return panels


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _series(name: str, side: Side, values: Sequence[float], *, live: bool = False) -> Series:
    """With the percentiles that the summary has: nearest ranks live, between them otherwise."""
    finite = tuple(value for value in values if math.isfinite(value))
    middle = nearest_rank(finite, 0.5) if live else median(finite)
    p95 = nearest_rank(finite, 0.95) if live else percentile_95(finite)
    return Series(name=name, side=side, values=finite, median=middle, p95=p95)


def _curves(heading: str, unit: str, of: str, series: Sequence[Series]) -> Curves:
    return Curves(heading=heading, unit=unit, of=of, series=tuple(series))


def _medians(heading: str, series: Sequence[Series], unit: str) -> Bars:
    bars = [
        Bar(label=one.name, side=one.side, value=max(0.0, one.median), text=f"{written(one.median)} {unit}")
        for one in series
    ]
    return Bars(heading=heading, bars=tuple(bars))
