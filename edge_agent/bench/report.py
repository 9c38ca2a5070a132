"""Figures from measurements, as values for JSON and as rows for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median, quantiles
from typing import Any

from edge_agent.bench.measure import Pair, Side
from edge_agent.bench.score import Errors, errors, measure_of, total

SHORT_S = 4.0
"""Up to this length a clip counts as a command."""


def clip_facts(pair: Pair) -> dict[str, Any]:
    """One clip for JSON."""
    facts: dict[str, Any] = {
        "file": pair.clip.file,
        "duration_s": round(pair.clip.duration_s, 3),
        "ours": _side_facts(pair.ours),
    }
    if pair.peer is not None:
        facts["peer"] = _side_facts(pair.peer)
    return facts


def latency(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Times per clip and, with a peer, how many times less ours are."""
    facts: dict[str, Any] = {
        "clips": len(pairs),
        "audio_s": round(sum(pair.clip.duration_s for pair in pairs), 3),
        "ours": _times([pair.ours for pair in pairs]),
    }
    both = [(pair, pair.peer) for pair in pairs if pair.peer is not None]
    if both:
        facts["peer"] = _times([peer for _, peer in both])
        short = [(pair, peer) for pair, peer in both if pair.clip.duration_s <= SHORT_S]
        facts["ratio"] = _ratio(both)
        facts["ratio_up_to_4_s"] = _ratio(short) if short else None
    return facts


def throughput(audio_s: float, ours: Sequence[float], peer: Sequence[float]) -> dict[str, Any]:
    """Seconds of audio per second, from the seconds each run took."""
    facts: dict[str, Any] = {"audio_s": round(audio_s, 3), "ours": _rate(audio_s, ours)}
    if peer:
        facts["peer"] = _rate(audio_s, peer)
        facts["ratio"] = round(median(peer) / median(ours), 3)
    return facts


def accuracy(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Error rates per set and language, and over each language; only clips with a fit reference count."""
    known = [pair for pair in pairs if pair.clip.reference is not None]
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in known:
        groups.setdefault((pair.clip.set, pair.clip.language), []).append(pair)
    rows = [_rates(name, language, group) for (name, language), group in sorted(groups.items())]
    languages: dict[str, list[Pair]] = {}
    for pair in known:
        languages.setdefault(pair.clip.language, []).append(pair)
    return rows + [_rates("all", language, group) for language, group in sorted(languages.items())]


def _rates(name: str, language: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    mine = total(_errors(pair, pair.ours) for pair in pairs)
    row: dict[str, Any] = {
        "set": name,
        "language": language,
        "measure": measure_of(language),
        "clips": len(pairs),
        "units": mine.units,
        "ours_percent": round(100 * mine.rate, 2),
    }
    others = [_errors(pair, pair.peer) for pair in pairs if pair.peer is not None]
    if others:
        rate = total(others).rate
        row["peer_percent"] = round(100 * rate, 2)
        row["difference_points"] = round(100 * (mine.rate - rate), 2)
    return row


def _errors(pair: Pair, side: Side) -> Errors:
    return errors(pair.clip.reference or "", side.text, pair.clip.language)


def _side_facts(side: Side) -> dict[str, Any]:
    return {
        "text": side.text,
        "seconds": round(side.seconds, 6),
        "spread_s": round(side.spread_s, 6),
        "cpu_s": round(side.cpu_s, 6),
    }


def _times(sides: Sequence[Side]) -> dict[str, float]:
    seconds = [side.seconds for side in sides]
    return {
        "median_s": round(median(seconds), 6),
        "mean_s": round(fmean(seconds), 6),
        "p95_s": round(percentile_95(seconds), 6),
        "run_to_run": round(median(side.spread_s / max(side.seconds, 1e-9) for side in sides), 3),
        "cpu_median_s": round(median(side.cpu_s for side in sides), 6),
    }


def _ratio(both: Sequence[tuple[Pair, Side]]) -> dict[str, float]:
    """How many times more the peer takes: the median clip, its middle half, and the sums."""
    each = [peer.seconds / max(pair.ours.seconds, 1e-9) for pair, peer in both]
    quarters = quantiles(each, n=4) if len(each) > 1 else [each[0]] * 3
    return {
        "clips": len(each),
        "median": round(median(each), 3),
        "lower_quartile": round(quarters[0], 3),
        "upper_quartile": round(quarters[2], 3),
        "of_sums": round(sum(p.seconds for _, p in both) / sum(pair.ours.seconds for pair, _ in both), 3),
        "cpu_median": round(median(peer.cpu_s / max(pair.ours.cpu_s, 1e-9) for pair, peer in both), 3),
    }


def _rate(audio_s: float, seconds: Sequence[float]) -> dict[str, float]:
    return {
        "audio_s_per_s": round(audio_s / median(seconds), 3),
        "slowest": round(audio_s / max(seconds), 3),
        "fastest": round(audio_s / min(seconds), 3),
    }


def percentile_95(values: Sequence[float]) -> float:
    """Between the two nearest ranks; of one value, itself."""
    return quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]


def nearest_rank(values: Sequence[float], share: float) -> float:
    """The value below which the share lies, one of those measured."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
