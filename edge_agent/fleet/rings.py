"""A roll-out in rings: who is told when, and when to stop. Pure: views of devices in, whom to tell out.

Nothing depends on who runs it or for how long: what was told and what became of it stands on the broker,
and this state adds only the order of the devices and how well they did before."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from statistics import mean, median
from typing import Literal, TypeAlias

import msgspec

from edge_agent.fleet.bundle import Target
from edge_agent.types import Value

Outcome: TypeAlias = Literal["done", "failed", "open", "away"]


class Rules(Value, frozen=True):
    """When to go on and when to stop."""

    rings: tuple[float, ...] = (0.01, 0.1, 0.5, 1.0)
    """Shares of the fleet, growing."""
    failures: float = 0.05
    """Share of a ring's devices that may fail."""
    slower: float = 1.5
    """Of the devices that changed, the middle one's latency against its own before."""
    rejects: float = 0.1
    """Rise of the share of utterances that are rejected."""
    answers: float = 0.5
    """Share of a ring that must have answered before the next one; the others are away."""
    soak_s: float = 600.0
    """With a ring complete, how long it is watched before the next one."""
    deadline_s: float = 7200.0
    """A device that was told and has not answered by then has failed."""


class Before(Value, frozen=True):
    """How a device did when it was told."""

    told_utc_ms: int
    online: bool
    p95_ms: float = 0.0
    rejects: float = 0.0


class View(Value, frozen=True):
    """A device as the broker shows it."""

    online: bool = False
    wanted: Target | None = None
    """Of its own report."""
    state: str = ""
    reason: str = ""
    p95_ms: float = 0.0
    rejects: float = 0.0
    desired: Target | None = None
    """What stands retained for it."""


class Rollout(Value, frozen=True):
    """All that outlives a restart of the programme."""

    target: Target
    order: tuple[str, ...]
    """Device ids; those that come later are appended."""
    ring: int = 0
    phase: Literal["running", "stopped", "done"] = "running"
    reason: str = ""
    complete_utc_ms: int | None = None
    """Since when the ring is complete."""
    told: dict[str, Before] = msgspec.field(default_factory=dict)


def begin(target: Target, devices: Iterable[str]) -> Rollout:
    """A new roll-out. The order is mixed, the same for the same bundle, another for the next one."""

    def key(device: str) -> bytes:
        return hashlib.sha256(f"{target}/{device}".encode()).digest()

    return Rollout(target=target, order=tuple(sorted(set(devices), key=key)))


def members(rollout: Rollout, rules: Rules) -> tuple[str, ...]:
    """The devices of this ring and those before it."""
    return rollout.order[: math.ceil(rules.rings[rollout.ring] * len(rollout.order))]


def outcome(rollout: Rollout, device: str, view: View, now_utc_ms: int, rules: Rules) -> Outcome:
    """What became of a device that is in a ring."""
    if view.wanted == rollout.target and view.state in ("done", "failed"):
        return "done" if view.state == "done" else "failed"
    before = rollout.told.get(device)
    if before is None or (not before.online and not view.online):
        return "open" if view.online else "away"
    late = now_utc_ms - before.told_utc_ms > rules.deadline_s * 1e3
    return "failed" if late else "open"


def advance(
    rollout: Rollout, views: Mapping[str, View], now_utc_ms: int, rules: Rules
) -> tuple[Rollout, tuple[str, ...]]:
    """One look at the fleet; answers the new state and the devices to be told now."""
    if rollout.phase != "running":
        return rollout, ()
    known = set(rollout.order)
    rollout = msgspec.structs.replace(
        rollout, order=(*rollout.order, *sorted(device for device in views if device not in known))
    )
    ring = members(rollout, rules)
    found = {d: outcome(rollout, d, views.get(d, View()), now_utc_ms, rules) for d in ring}
    why = _stop(rollout, views, found, rules)
    if why:
        return msgspec.structs.replace(rollout, phase="stopped", reason=why), ()
    tell = tuple(d for d in ring if views.get(d, View()).desired != rollout.target)
    told = {d: _before(views.get(d, View()), now_utc_ms) for d in tell if d not in rollout.told}
    rollout = msgspec.structs.replace(rollout, told={**rollout.told, **told})
    if tell or "open" in found.values():
        return msgspec.structs.replace(rollout, complete_utc_ms=None), tell
    return _next(rollout, found, now_utc_ms, rules), ()


def _before(view: View, now_utc_ms: int) -> Before:
    return Before(told_utc_ms=now_utc_ms, online=view.online, p95_ms=view.p95_ms, rejects=view.rejects)


def _next(rollout: Rollout, found: Mapping[str, Outcome], now_utc_ms: int, rules: Rules) -> Rollout:
    """The ring is complete: watch it, then go on."""
    answered = sum(result in ("done", "failed") for result in found.values())
    if answered < rules.answers * len(found):
        return rollout  # most of it is away: nothing was learnt yet
    since = now_utc_ms if rollout.complete_utc_ms is None else rollout.complete_utc_ms
    if now_utc_ms - since < rules.soak_s * 1e3:
        return msgspec.structs.replace(rollout, complete_utc_ms=since)
    if rollout.ring + 1 < len(rules.rings):
        return msgspec.structs.replace(rollout, ring=rollout.ring + 1, complete_utc_ms=None)
    return msgspec.structs.replace(rollout, phase="done", complete_utc_ms=since)


def _stop(rollout: Rollout, views: Mapping[str, View], found: Mapping[str, Outcome], rules: Rules) -> str:
    """Why the roll-out must stop; empty when it may go on."""
    failed = [device for device, result in found.items() if result == "failed"]
    if failed and len(failed) > rules.failures * len(found):
        first = views.get(failed[0], View()).reason or "no answer"
        return (
            f"{len(failed)} of {len(found)} devices failed in ring {rollout.ring + 1}; {failed[0]}: {first}"
        )
    changed = [device for device, result in found.items() if result == "done" and device in rollout.told]
    pairs = [(views[device], rollout.told[device]) for device in changed]
    ratios = [now.p95_ms / before.p95_ms for now, before in pairs if now.p95_ms > 0 and before.p95_ms > 0]
    if ratios and median(ratios) > rules.slower:
        return f"the latency of {len(ratios)} changed devices rose {median(ratios):.1f} times"
    rises = [now.rejects - before.rejects for now, before in pairs]
    if rises and mean(rises) > rules.rejects:
        return f"{mean(rises):.0%} more of what is said is rejected on {len(rises)} changed devices"
    return ""


def summary(rollout: Rollout, views: Mapping[str, View], now_utc_ms: int, rules: Rules) -> dict[str, object]:
    """For people and for files."""
    ring = members(rollout, rules)
    found = {d: outcome(rollout, d, views.get(d, View()), now_utc_ms, rules) for d in ring}
    failures = {d: views.get(d, View()).reason or "no answer" for d, r in found.items() if r == "failed"}
    return {
        rollout.target.kind: rollout.target.name,
        "version": rollout.target.version,
        "phase": rollout.phase,
        "reason": rollout.reason,
        "ring": rollout.ring + 1,
        "rings": len(rules.rings),
        "devices": len(rollout.order),
        "in_ring": len(ring),
        **{word: sum(r == word for r in found.values()) for word in ("done", "failed", "open", "away")},
        "failures": failures,
    }
