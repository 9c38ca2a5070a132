"""The way of a model from "wanted" to "serves": what is known, and what follows. Pure.

    idle -> staging -> rehearsing -> trial -> idle, with the candidate as the current one
              |            |           |
              +------------+-----------+----> idle, with the current one as before, and a reason

One value holds all of it and is written as one file, so that a power cut finds the one before or the one
after. A start always serves `current`, which has proven itself; a candidate serves only inside a trial, in a
process that was whole when the trial began. So there is no step at which a cut leaves no working model.

Each rehearsal is a try, counted before it begins: what hangs the machine is tried three times in all.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from edge_agent.fleet.bundle import Target
from edge_agent.types import Value

MOST_TRIES = 3
"""Ever, for one bundle on one device."""
_KEPT = 512
"""Bundles whose history is remembered."""

Phase: TypeAlias = Literal["idle", "staging", "rehearsing", "trial"]


class Activation(Value, frozen=True):
    """All that outlives a restart."""

    phase: Phase = "idle"
    current: Target | None = None
    """Has proven itself; none: the profile's own model."""
    previous: Target | None = None
    """Served before `current`; taken again when that one's files are damaged."""
    candidate: Target | None = None
    """On its way; none when idle."""
    tries: dict[str, int] = msgspec.field(default_factory=dict)
    """Rehearsals begun, by bundle."""
    spent: dict[str, str] = msgspec.field(default_factory=dict)
    """Bundles that will never be tried again here, and why."""
    proven: dict[str, int] = msgspec.field(default_factory=dict)
    """The highest version of each name that passed its trial."""
    reason: str = ""
    """Why the last candidate does not serve; empty when it does."""

    def tried(self, target: Target) -> int:
        """Tries so far."""
        return self.tries.get(str(target), 0)


def refusal(state: Activation, wanted: Target) -> str:
    """Why a bundle is not even looked at; empty when it may be."""
    if wanted == state.current:
        return ""
    if str(wanted) in state.spent:
        return state.spent[str(wanted)]
    newest = state.proven.get(wanted.name, 0)
    if wanted.version < newest:
        return f"{wanted} is older than {newest}, which served here; sign it again under a new number"
    if state.tried(wanted) >= MOST_TRIES:
        return f"{wanted} was tried {MOST_TRIES} times"
    return ""


def want(state: Activation, wanted: Target) -> Activation:
    """Begin with a bundle; another one that was on its way is given up."""
    why = refusal(state, wanted)
    if wanted == state.current or why:
        return msgspec.structs.replace(state, phase="idle", candidate=None, reason=why)
    if wanted == state.candidate:
        return state
    return msgspec.structs.replace(state, phase="staging", candidate=wanted, reason="")


def dropped(state: Activation) -> Activation:
    """Nothing is wanted from afar any more: what serves goes on serving."""
    return msgspec.structs.replace(state, phase="idle", candidate=None, reason="")


def delayed(state: Activation, why: str) -> Activation:
    """It cannot be had now; it is asked for again later."""
    return msgspec.structs.replace(state, phase="staging", reason=why)


def rehearse(state: Activation) -> Activation:
    """Its files are here: count the try before it is made."""
    assert state.candidate is not None
    name, count = str(state.candidate), state.tried(state.candidate) + 1
    if count > MOST_TRIES:
        return failed(state, f"{state.candidate} was tried {MOST_TRIES} times", final=True)
    tries = dict(list({**state.tries, name: count}.items())[-_KEPT:])
    return msgspec.structs.replace(state, phase="rehearsing", tries=tries, reason="")


def try_out(state: Activation) -> Activation:
    """It did well in the rehearsal: it will serve, and be watched."""
    assert state.phase == "rehearsing"
    return msgspec.structs.replace(state, phase="trial")


def passed(state: Activation) -> Activation:
    """It did well in the trial: it is the one that serves."""
    assert state.phase == "trial"
    assert state.candidate is not None
    now = state.candidate
    proven = {**state.proven, now.name: max(now.version, state.proven.get(now.name, 0))}
    return msgspec.structs.replace(
        state, phase="idle", current=now, previous=state.current, candidate=None, proven=proven, reason=""
    )


def failed(state: Activation, why: str, *, final: bool) -> Activation:
    """It does not serve.

    Args:
        state: before.
        why: for the fleet.
        final: the same would happen again, so it is not tried again.
    """
    assert state.candidate is not None
    name, spent = str(state.candidate), state.spent
    if final or state.tried(state.candidate) >= MOST_TRIES:
        spent = dict(list({**spent, name: why}.items())[-_KEPT:])
    return msgspec.structs.replace(state, phase="idle", candidate=None, spent=spent, reason=why)


def started(state: Activation, ended_badly: str) -> Activation:
    """At the start of a process.

    Args:
        state: as the last process left it.
        ended_badly: how that process ended when nobody had asked for it; empty after an orderly end and
            after a power cut: one that the candidate caused looks the same, the count of tries bounds it.
    """
    if state.phase == "trial" and ended_badly:
        return failed(state, f"in its trial {ended_badly}", final=False)
    if state.phase in ("rehearsing", "trial"):
        return msgspec.structs.replace(state, phase="staging")
    return state


def demoted(state: Activation, why: str) -> Activation:
    """The files of the current one cannot be used: the one before it serves, or the profile's own."""
    return msgspec.structs.replace(state, current=state.previous, previous=None, reason=why)


def report(state: Activation, wanted: Target | None) -> dict[str, object]:
    """For `up/info`: what serves, what is wanted, and how far that is."""
    return {
        "wanted": _named(wanted),
        "state": _word(state, wanted),
        "current": _named(state.current),
        "candidate": _named(state.candidate),
        "tries": 0 if wanted is None else state.tried(wanted),
        "reason": state.reason,
    }


def _word(state: Activation, wanted: Target | None) -> str:
    if wanted is None:
        return "none"
    if state.candidate == wanted:
        return "waiting" if state.phase == "staging" and state.reason else state.phase
    if wanted == state.current:
        return "done"
    return "failed" if state.reason else "staging"


def _named(target: Target | None) -> dict[str, object] | None:
    return None if target is None else {target.kind: target.name, "version": target.version}
