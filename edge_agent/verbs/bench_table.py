"""The figures of `edge-agent bench` for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LEAST_WIDTH = 110
_MOST_ROWS = 30
"""More clips than this are summed up, not listed."""


def print_tables(result: Mapping[str, Any]) -> None:
    """Tables on stdout."""
    from rich.console import Console

    summary = result["summary"]
    console = Console(highlight=False)
    console.width = max(console.width, _LEAST_WIDTH)
    console.print(_headline(summary))
    if summary["what"] == "accuracy":
        console.print(_accuracy(summary["sets"]))
    elif summary["what"] == "throughput":
        console.print(_throughput(summary))
    elif len(result["clips"]) <= _MOST_ROWS:
        console.print(_clips(result["clips"]))
    if "mean_s" in summary["ours"]:
        console.print(_times(summary))
        for line in _ratios(summary):
            console.print(line)


def _headline(summary: Mapping[str, Any]) -> str:
    peer = f", against {summary['peer_name']}" if "peer_name" in summary else ""
    return (
        f"{summary['what']}: {summary['model']} on {summary['engine']}, beam {summary['beam']}, "
        f"{summary['threads']} CPUs, {summary['runs']} runs{peer}"
    )


def _table(title: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def _clips(clips: list[Mapping[str, Any]]) -> Any:
    table = _table("", "recording", "s", "ours ms", "peer ms", "ratio", "text")
    for clip in clips:
        peer = clip.get("peer")
        table.add_row(
            Path(clip["file"]).name,
            f"{clip['duration_s']:.1f}",
            f"{1e3 * clip['ours']['seconds']:.0f}",
            f"{1e3 * peer['seconds']:.0f}" if peer else "",
            f"{peer['seconds'] / clip['ours']['seconds']:.2f}" if peer else "",
            clip["ours"]["text"][:60],
        )
    table.columns[-1].justify = "left"
    for column in (table.columns[0], table.columns[-1]):
        column.no_wrap = True
    return table


def _times(summary: Mapping[str, Any]) -> Any:
    table = _table("", "ms per recording", "median", "mean", "95 %", "CPU median", "run to run")
    for name in ("ours", "peer"):
        if name not in summary:
            continue
        times = summary[name]
        table.add_row(
            name,
            *(f"{1e3 * times[key]:.0f}" for key in ("median_s", "mean_s", "p95_s", "cpu_median_s")),
            f"±{50 * times['run_to_run']:.0f} %",
        )
    return table


def _ratios(summary: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, what in (("ratio", "all recordings"), ("ratio_up_to_4_s", "up to 4 s")):
        ratio = summary.get(key)
        if ratio:
            lines.append(
                f"{what} ({ratio['clips']}): peer / ours {ratio['median']:.2f} "
                f"(middle half {ratio['lower_quartile']:.2f} to {ratio['upper_quartile']:.2f}), "
                f"of the sums {ratio['of_sums']:.2f}, in CPU time {ratio['cpu_median']:.2f}"
            )
    return lines


def _throughput(summary: Mapping[str, Any]) -> Any:
    table = _table("", "seconds of audio per second", "median", "slowest", "fastest")
    for name in ("ours", "peer"):
        if name in summary:
            rate = summary[name]
            table.add_row(name, *(f"{rate[key]:.1f}" for key in ("audio_s_per_s", "slowest", "fastest")))
    return table


def _accuracy(sets: list[Mapping[str, Any]]) -> Any:
    table = _table("", "set", "language", "clips", "units", "rate", "ours %", "peer %", "difference")
    for row in sets:
        peer = "peer_percent" in row
        table.add_row(
            row["set"],
            row["language"],
            str(row["clips"]),
            str(row["units"]),
            row["measure"],
            f"{row['ours_percent']:.2f}",
            f"{row['peer_percent']:.2f}" if peer else "",
            f"{row['difference_points']:+.2f}" if peer else "",
        )
    return table
