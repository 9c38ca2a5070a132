"""What the fleet's bundles mean to the opening of a recogniser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from edge_agent.config import FleetSection
from edge_agent.errors import EngineLoadFailed
from edge_agent.fleet.bundle import Kind, Target
from edge_agent.fleet.places import home, profile_file
from edge_agent.opening import Recogniser, Wish
from edge_agent.supervise import Level


def served(wish: Wish, targets: Iterable[Target], fleet_dir: Path) -> Wish:
    """The wish for these bundles, at most one of a kind; for what is not among them, the wish's own."""
    for target in targets:
        name = target.store_name
        if target.kind == "model":
            wish = msgspec.structs.replace(wish, model=name)
        elif target.kind == "profile":
            file = (name, str(profile_file(target, fleet_dir)))
            wish = msgspec.structs.replace(wish, profile=name, more_profiles=(file,), profiles=())
        else:
            place = home(target, models_dir=wish.models_dir, fleet_dir=fleet_dir)
            wish = msgspec.structs.replace(wish, engine_dir=str(place))
    return wish


def refuse_another(recogniser: Recogniser, candidate: Target) -> None:
    """What was opened must be what is to be tried, not what stands in for it.

    Raises:
        EngineLoadFailed: something else was opened; says why.
    """
    profile, why = recogniser.choice.profile, "; ".join(why for _, why in recogniser.choice.rejected[:1])
    if candidate.kind == "profile" and profile.name != candidate.store_name:
        raise EngineLoadFailed(
            f"{candidate} cannot serve here: {why}", remedy="sign one that is for this machine"
        )
    if candidate.kind == "engine" and profile.engine.kind != "tensorrt-llm":
        tried = any(reason.startswith("warning") for reason in recogniser.choice.reasons)
        raise EngineLoadFailed(
            f"{candidate} cannot serve here: " + (why if tried else f"{profile.name} runs no TensorRT-LLM"),
            remedy="roll it out to machines that it was built for",
        )


def strictly(opens: Callable[[Level], Recogniser], profile: str) -> Callable[[Level], Recogniser]:
    """The same, but what is opened first must be of this profile and not of one that stands in for it."""

    def opened(level: Level) -> Recogniser:
        found = opens(level)
        if level or found.choice.profile.name == profile:
            return found
        found.engine.close()
        why = "; ".join(why for _, why in found.choice.rejected[:1])
        raise EngineLoadFailed(f"{profile} cannot serve: {why}", remedy="see: edge-agent doctor")

    return opened


def named(fleet: FleetSection, kind: Kind) -> Target | None:
    """The wish of a [fleet] table."""
    name: str = getattr(fleet, kind)
    version: int = getattr(fleet, f"{kind}_version")
    return Target(name=name, version=version, kind=kind) if name and version else None
