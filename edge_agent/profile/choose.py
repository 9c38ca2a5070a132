"""Chooses the profile for a machine and says why. No I/O here."""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.errors import NoProfileFits
from edge_agent.profile import sizing
from edge_agent.profile.graphics import describe_gpu, occupied
from edge_agent.profile.judge import Verdict, describe_flag, judge
from edge_agent.profile.names import nearest
from edge_agent.profile.schema import Profile
from edge_agent.types import Device, Value

AUTO = "auto"
UNCLAIMED_FLAGS = {"amx_int8": "", "avx_vnni": "avx512_vnni", "i8mm": ""}
"""Flags worth a word when no profile asks for them, each with the flag beside which it adds nothing."""
ARCHITECTURES_64 = frozenset({"x86_64", "aarch64"})


class Choice(Value, frozen=True):
    """The profile that serves, and why."""

    profile: Profile
    workers: int
    """Workers to open the engine with, sized for this machine."""
    reasons: tuple[str, ...]
    """Sentences for a person; those that begin with "warning:" tell of a misfit that was overruled."""
    rejected: tuple[tuple[str, str], ...]
    """(name, why) of every other profile."""


def choose(
    device: Device, profiles: Iterable[Profile], *, override: str = AUTO, engines: frozenset[str]
) -> Choice:
    """Take the fitting profile of the highest priority, or the one the user names.

    Args:
        device: the machine.
        profiles: all there are; abstract ones are passed over.
        override: "auto" or "", or the name of a profile. A named profile is refused where it cannot run
            (architecture, instruction set, GPU, engine); any other misfit becomes a warning.
        engines: kinds of engine that this installation has.

    Raises:
        NoProfileFits: none fits, or the named one does not exist or cannot run here.
    """
    known = tuple(profiles)
    verdicts = rank(device, known, engines)
    named = override not in {"", AUTO}
    if not named:
        best = next((verdict for verdict in verdicts if verdict.fits), None)
        if best is None:
            raise _no_fit(device, verdicts)
        extra: tuple[str, ...] = ()
    else:
        best = _named(override, known, verdicts)
        extra = ("it was named by the user", *(f"warning: {misfit}" for misfit in best.unfit))
    workers = sizing.workers(best.profile, device)
    reasons = (
        *extra,
        *best.reasons,
        *_unclaimed(device, verdicts),
        *_graphics(device, best, verdicts),
        _sized(best.profile, device, workers),
    )
    return Choice(
        profile=best.profile,
        workers=workers,
        reasons=reasons,
        rejected=rejections(verdicts, best, named=named),
    )


def rank(device: Device, profiles: Iterable[Profile], engines: frozenset[str]) -> tuple[Verdict, ...]:
    """Verdicts on all profiles that may be chosen, in the order in which they would be."""
    candidates = (profile for profile in profiles if not profile.abstract)
    verdicts = [judge(profile, device, engines) for profile in candidates]
    return tuple(sorted(verdicts, key=lambda v: (not v.fits, -v.profile.match.priority, v.profile.name)))


def rejections(
    verdicts: Iterable[Verdict], best: Verdict | None = None, *, named: bool = False
) -> tuple[tuple[str, str], ...]:
    """(name, why) of every profile but the chosen one; `named`: the user chose it, not the ranking."""
    return tuple(
        (verdict.profile.name, _why_not(verdict, best, named=named))
        for verdict in verdicts
        if verdict is not best
    )


def _why_not(verdict: Verdict, best: Verdict | None, *, named: bool) -> str:
    against = verdict.impossible or verdict.unfit
    if against:
        return "; ".join(against)
    if best is None:
        return "it would run here"
    if named:
        return f"it would run here too, but {best.profile.name} was named"
    return f"it would run here too, but {best.profile.name} makes more of this machine"


def _named(name: str, known: Iterable[Profile], verdicts: tuple[Verdict, ...]) -> Verdict:
    by_name = {verdict.profile.name: verdict for verdict in verdicts}
    if any(profile.name == name and profile.abstract for profile in known):
        raise NoProfileFits(
            f"profile {name} is only there to be extended", remedy=f"use one of {', '.join(sorted(by_name))}"
        )
    if name not in by_name:
        raise NoProfileFits(f'there is no profile "{name}"', remedy=nearest(name, by_name))
    verdict = by_name[name]
    if verdict.impossible:
        fitting = [other.profile.name for other in verdicts if other.fits]
        raise NoProfileFits(
            f"profile {name} cannot run here: {'; '.join(verdict.impossible)}",
            remedy=f'use "auto" or {" or ".join(fitting)}' if fitting else "run `edge-agent detect`",
        )
    return verdict


def _no_fit(device: Device, verdicts: tuple[Verdict, ...]) -> NoProfileFits:
    machine = f"no profile fits this machine ({device.cpu_model}, {device.arch})"
    if device.arch not in ARCHITECTURES_64:
        return NoProfileFits(
            f"{machine}: the speech libraries exist for 64-bit x86 and ARM only",
            remedy="install a 64-bit operating system, or use a 64-bit machine",
        )
    if not device.cpu_flags:
        return NoProfileFits(
            f"{machine}: /proc/cpuinfo does not tell its instruction sets, and a wrong guess is fatal",
            remedy="let the agent read /proc/cpuinfo (systemd: no ProcSubset=pid)",
        )
    if device.arch == "x86_64" and "avx" not in device.cpu_flags:
        return NoProfileFits(
            f"{machine}: its CPU has no AVX, and the speech libraries would stop with an illegal instruction",
            remedy="use a CPU with AVX (Intel from 2011, AMD from 2011; some Celeron and Atom lack it)",
        )
    nearest_misses = [verdict for verdict in verdicts if not verdict.impossible]
    if nearest_misses:
        last = nearest_misses[-1]
        return NoProfileFits(
            f"{machine}: even {last.profile.name} does not, {'; '.join(last.unfit)}",
            remedy=f"give the agent more, or name a profile to try it: --profile {last.profile.name}",
        )
    return NoProfileFits(machine, remedy="run `edge-agent detect` to see why each was rejected")


def _graphics(device: Device, best: Verdict, verdicts: tuple[Verdict, ...]) -> tuple[str, ...]:
    """What becomes of the machine's GPUs when a CPU profile serves."""
    if best.profile.match.gpu.vendor:
        return ()
    if not device.gpus:
        return tuple(note for note in device.notes if "NVIDIA" in note)
    board = f" on {device.board}" if device.gpus[0].integrated and device.board else ""
    found = " and ".join(map(describe_gpu, device.gpus)) + board
    for_gpus = [verdict for verdict in verdicts if verdict.profile.match.gpu.vendor]
    if not for_gpus:
        return (f"{found} found; no GPU profile is installed yet, so the best CPU profile serves",)
    near = next((v for v in for_gpus if _meant_for(v, device)), None)
    if near is None:
        return (f"{found} found; no GPU profile can use it (see the rejected ones), so a CPU profile serves",)
    why = "; ".join(near.lacking or near.unfit)
    return (f"{found} found, and {near.profile.name} is for it, but {why}; so a CPU profile serves",)


def _meant_for(verdict: Verdict, device: Device) -> bool:
    """The hardware would do; only software or free memory is missing."""
    only_software = verdict.impossible == verdict.lacking
    return only_software and verdict.unfit == tuple(occupied(verdict.profile, device)) and not verdict.fits


def _unclaimed(device: Device, verdicts: tuple[Verdict, ...]) -> tuple[str, ...]:
    """What the CPU has beyond what any profile asks for."""
    asked = {
        flag
        for verdict in verdicts
        for flag in (*verdict.profile.match.cpu_flags_all, *verdict.profile.match.cpu_flags_any)
    }
    return tuple(
        f"the CPU also has {describe_flag(flag)}; no profile asks for it, "
        "the arithmetic library decides by itself whether to use it"
        for flag, better in UNCLAIMED_FLAGS.items()
        if flag in device.cpu_flags and flag not in asked and better not in device.cpu_flags
    )


def _sized(profile: Profile, device: Device, workers: int) -> str:
    width = f"{workers} decode{'s' if workers > 1 else ''} at once"
    if profile.engine.workers != "auto":
        return f"{width}, as the profile says"
    cores = sizing.fast_cores(device)
    kind = "fast cores" if any(not kind.fast for kind in device.core_kinds) else "cores"
    return f"{width}: {device.usable_cpus:g} of {device.cores} CPUs may be used, on {cores} {kind}"
