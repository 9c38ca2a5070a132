"""The figures of the context frontier as Markdown, and the choice on one half of the clips. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from tests import corpus
from tests.benchmarks.decoding.frontier_policies import LANGUAGES, Policy, candidates, grid, shipped
from tests.benchmarks.results import table
from tests.benchmarks.score import Errors, errors, total

_BRIEF_S, _LONG_S = 4.0, 15.0
_FEWEST_SPEAKERS = 4
_DERIVED = {"en_noisy": "kathleen", "en_farfield": "kathleen"}
"""Sets made of one reader's sentences."""
_ALLOWED = 0.002
"""A rule may lose two words of a thousand against the peer and still be chosen."""


class Decoded(msgspec.Struct, frozen=True):
    """One clip by one policy."""

    text: str
    """What is published."""
    cpu_ms: float
    retried: bool


Found = dict[str, dict[str, Decoded]]
"""By clip, then by policy."""


def body(clips: Sequence[corpus.Clip], found: Found) -> str:
    """The whole section."""
    parts = [_INTRODUCTION]
    for language in LANGUAGES:
        group = [clip for clip in clips if clip.language == language and clip.duration_s <= _LONG_S]
        if group:
            parts.append(
                f"### {language}, {len(group)} clips up to {_LONG_S:.0f} s\n\n{frontier(group, found)}"
            )
    long = [clip for clip in clips if clip.duration_s > _LONG_S]
    if long:
        parts.append(f"### {len(long)} clips above {_LONG_S:.0f} s, all languages\n\n{frontier(long, found)}")
    held = held_out(clips, found)
    if held:
        parts.append(_HELD_OUT + table(HELD_HEAD, held))
    return "\n\n".join(parts)


_INTRODUCTION = (
    "Word errors (Chinese: characters) and CPU ms at one thread: features, encoder and decoder, retries and "
    "scoring passes included. Views are those of edge_agent/decoding/context.py; guards add up: broken texts "
    "(no end, loops, compression), a low mean log-probability, a word below 0.1, 0.6 s of speech without a "
    'word. "peer" is faster-whisper, greedy, as its documentation shows it. Differences of a few errors are '
    "chance: int8 rounding alone moves that many."
)
_HELD_OUT = (
    "### Chosen on one half, scored on the other\n\n"
    "Halves are by speaker where a language has several, else by clip. On one half the fastest of "
    f"{len(candidates())} rules is chosen that loses at most 0.2 points against the peer there; the other "
    "half has no say in it. What is shipped stands beside it.\n\n"
)
HEAD = ["view, guard", "beam", "errors", "units", "rate %", "mean ms", "median", "<= 4 s", "p95", "retried %"]
HELD_HEAD = [
    "language",
    "chosen on",
    "rule",
    "errors there, peer",
    "scored on",
    "errors, peer",
    "points",
    "ms, peer",
    "shipped: points",
    "ms",
]


def frontier(group: Sequence[corpus.Clip], found: Found) -> str:
    """One row for the peer and one for each policy."""
    rows = [["peer", "1", *_figures(group, found, "peer")]]
    for policy in grid():
        label = f"{policy.view}, {policy.guard}" if policy.guard else f"**{policy.view}**"
        rows.append([label, str(policy.beam), *_figures(group, found, policy.name)])
    return table(HEAD, rows)


def _figures(group: Sequence[corpus.Clip], found: Found, name: str) -> list[str]:
    wrong = score(group, found, name)
    ms = sorted(found[clip.id][name].cpu_ms for clip in group)
    brief = [found[clip.id][name].cpu_ms for clip in group if clip.duration_s <= _BRIEF_S]
    retried = sum(found[clip.id][name].retried for clip in group)
    return [
        str(wrong.edits),
        str(wrong.units),
        f"{100 * wrong.rate:.2f}",
        f"{statistics.mean(ms):.0f}",
        f"{statistics.median(ms):.0f}",
        f"{statistics.median(brief):.0f}" if brief else "-",
        f"{ms[int(0.95 * len(ms))]:.0f}",
        f"{100 * retried / len(group):.0f}",
    ]


def held_out(clips: Sequence[corpus.Clip], found: Found) -> list[list[str]]:
    """Two rows for each language: chosen on one half, scored on the other, and the other way round."""
    rows = []
    for language in LANGUAGES:
        group = [
            clip
            for clip in clips
            if clip.language == language and clip.duration_s <= _LONG_S and clip.set != "formats"
        ]
        halves = split(group)
        if all(halves):
            rows += [_chosen(language, *pair, found) for pair in ((0, 1, *halves), (1, 0, *halves))]
    return rows


def _chosen(
    language: str, on: int, other: int, one: Sequence[corpus.Clip], two: Sequence[corpus.Clip], found: Found
) -> list[str]:
    halves = (one, two)
    rule = choose(halves[on], found)
    there, peer_there = (score(halves[on], found, name) for name in (rule.name, "peer"))
    here, peer_here, ours = (
        score(halves[other], found, name) for name in (rule.name, "peer", shipped().name)
    )
    return [
        language,
        f"half {on + 1}, {len(halves[on])} clips",
        rule.name,
        f"{there.edits}, {peer_there.edits}",
        f"half {other + 1}, {len(halves[other])} clips",
        f"{here.edits}, {peer_here.edits} of {here.units}",
        f"{100 * (here.rate - peer_here.rate):+.2f}",
        f"{mean_ms(halves[other], found, rule.name):.0f}, {mean_ms(halves[other], found, 'peer'):.0f}",
        f"{100 * (ours.rate - peer_here.rate):+.2f}",
        f"{mean_ms(halves[other], found, shipped().name):.0f}",
    ]


def choose(group: Sequence[corpus.Clip], found: Found) -> Policy:
    """The fastest rule that loses no words against the peer; where all do, the one that loses fewest."""
    peer = score(group, found, "peer").rate
    rates = {policy.name: score(group, found, policy.name).rate for policy in candidates()}
    good = [policy for policy in candidates() if rates[policy.name] <= peer + _ALLOWED]
    if good:
        return min(good, key=lambda policy: mean_ms(group, found, policy.name))
    return min(candidates(), key=lambda policy: rates[policy.name])


def split(group: Sequence[corpus.Clip]) -> tuple[list[corpus.Clip], list[corpus.Clip]]:
    """Two halves of about equal length that share no speaker, or, of one or two speakers, no clip."""
    by_speaker: dict[str, list[corpus.Clip]] = {}
    for clip in group:
        by_speaker.setdefault(speaker(clip), []).append(clip)
    named = {name for name in by_speaker if not name.startswith("clip ")}
    if len(named) < _FEWEST_SPEAKERS:
        by_speaker = {clip.id: [clip] for clip in group}
    halves: tuple[list[corpus.Clip], list[corpus.Clip]] = ([], [])
    for _, clips in sorted(by_speaker.items(), key=lambda pair: (-_seconds(pair[1]), pair[0])):
        min(halves, key=_seconds).extend(clips)
    return halves


def speaker(clip: corpus.Clip) -> str:
    """Who speaks, as far as it is known; else the clip stands for itself."""
    named = clip.fields.get("speaker") or _DERIVED.get(clip.set)
    return str(named) if named else f"clip {clip.id}"


def _seconds(clips: Sequence[corpus.Clip]) -> float:
    return sum(clip.duration_s for clip in clips)


def score(group: Sequence[corpus.Clip], found: Found, name: str) -> Errors:
    """All errors of a policy, or of the peer."""
    return total(errors(clip.text, found[clip.id][name].text, clip.language) for clip in group)


def mean_ms(group: Sequence[corpus.Clip], found: Found, name: str) -> float:
    """CPU milliseconds for one clip."""
    return statistics.mean(found[clip.id][name].cpu_ms for clip in group)
