"""Whether a profile fits a machine, in sentences for a person. No I/O here."""

from __future__ import annotations

from edge_agent.profile.graphics import graphics, occupied, software
from edge_agent.profile.schema import Match, Profile
from edge_agent.types import Device, Value

MB = 1 << 20

FLAG_MEANING = {
    "avx512_vnni": "int8 dot products on 512-bit registers",
    "avx2": "integer arithmetic on 256-bit registers",
    "asimddp": "int8 dot products",
    "avx": "256-bit registers",
    "asimd": "128-bit registers",
    "i8mm": "int8 matrix products",
    "amx_int8": "int8 matrix tiles",
    "avx_vnni": "int8 dot products on 256-bit registers",
}
"""What the flags that decide a profile give to recognition."""


class Verdict(Value, frozen=True):
    """One profile judged against one machine."""

    profile: Profile
    reasons: tuple[str, ...] = ()
    """What speaks for it."""
    impossible: tuple[str, ...] = ()
    """Why it cannot run here at all."""
    lacking: tuple[str, ...] = ()
    """Software that the machine, which would do, lacks for it; also among `impossible`."""
    unfit: tuple[str, ...] = ()
    """Why it would run badly here, or is meant for something else."""

    @property
    def fits(self) -> bool:
        """Nothing speaks against it."""
        return not self.impossible and not self.unfit


def judge(profile: Profile, device: Device, engines: frozenset[str]) -> Verdict:
    """Compare what `profile.match` and its engine need with what `device` has.

    Args:
        engines: kinds of engine that this installation has.
    """
    match = profile.match
    reasons, impossible = _processor(match, device)
    gpu_reasons, gpu_missing = graphics(match.gpu, device)
    lacking = [] if impossible or gpu_missing else software(profile, device)
    if profile.engine.kind not in engines:
        gpu_missing.append(f'its engine "{profile.engine.kind}" is not part of this installation')
    amount_reasons, unfit = _amounts(match, device)
    return Verdict(
        profile=profile,
        reasons=(*reasons, *gpu_reasons, *amount_reasons),
        impossible=(*impossible, *gpu_missing, *lacking),
        lacking=tuple(lacking),
        unfit=(*unfit, *occupied(profile, device)),
    )


def _processor(match: Match, device: Device) -> tuple[list[str], list[str]]:
    if match.arch and device.arch not in match.arch:
        return [], [f"it is for {' and '.join(match.arch)}, and this machine is {device.arch}"]
    if not device.cpu_flags and (match.cpu_flags_all or match.cpu_flags_any):
        return [], ["it needs to know the CPU's features, and they cannot be read"]
    reasons, impossible = [], []
    missing = [flag for flag in match.cpu_flags_all if flag not in device.cpu_flags]
    if missing:
        impossible.append(f"the CPU lacks {', '.join(map(describe_flag, missing))}")
    elif match.cpu_flags_all:
        reasons.append(f"the CPU has {', '.join(map(describe_flag, match.cpu_flags_all))}")
    any_of = [flag for flag in match.cpu_flags_any if flag in device.cpu_flags]
    if any_of:
        reasons.append(f"the CPU has {', '.join(map(describe_flag, any_of))}")
    elif match.cpu_flags_any:
        impossible.append(f"the CPU has none of {', '.join(match.cpu_flags_any)}")
    return reasons, impossible


def _amounts(match: Match, device: Device) -> tuple[list[str], list[str]]:
    reasons, unfit = [], []
    ram_mb = device.usable_ram_bytes // MB
    cpus = device.usable_cpus
    if cpus < match.min_usable_cpus:
        unfit.append(f"it needs {match.min_usable_cpus:g} CPUs, {cpus:g} may be used here")
    if match.max_usable_cpus and cpus > match.max_usable_cpus:
        unfit.append(f"it is for machines of at most {match.max_usable_cpus:g} CPUs, here are {cpus:g}")
    if not ram_mb:
        reasons.append("how much memory there is cannot be told, so that was not judged")
    elif ram_mb < match.min_usable_ram_mb:
        unfit.append(f"it needs {match.min_usable_ram_mb} MB of memory, {ram_mb} MB may be used here")
    elif match.min_usable_ram_mb:
        reasons.append(f"{ram_mb} MB of memory may be used and it needs {match.min_usable_ram_mb}")
    if match.max_usable_ram_mb and ram_mb > match.max_usable_ram_mb:
        unfit.append(f"it is for machines of at most {match.max_usable_ram_mb} MB, here are {ram_mb} MB")
    names = (device.board, *device.board_compatible)
    wanted = [part for part in match.board_any if any(part.lower() in name.lower() for name in names)]
    if wanted:
        reasons.append(f"the board is {device.board or wanted[0]}")
    elif match.board_any:
        unfit.append(f"it is for the boards {', '.join(match.board_any)}")
    return reasons, unfit


def describe_flag(flag: str) -> str:
    """For example "avx512_vnni (int8 dot products on 512-bit registers)"."""
    return f"{flag} ({FLAG_MEANING[flag]})" if flag in FLAG_MEANING else flag
