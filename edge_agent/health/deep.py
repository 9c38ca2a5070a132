"""The doctor's verdicts: facts that need a closer look in, a verdict with a remedy line out. Pure."""

from __future__ import annotations

from edge_agent.health.checks import CheckResult
from edge_agent.types import Value

_CLIPPED_DBFS = -0.2
_QUIET_DBFS = -65.0
_XRUNS_PER_HOUR = 6.0
_SKEW_S = 5.0


class Probe(Value, frozen=True, forbid_unknown_fields=False):
    """What came of loading one library in a process of its own."""

    name: str
    version: str = ""
    error: str = ""
    """Empty: it loaded and did a small piece of its work."""
    signal: int = 0
    """The signal that ended the process; 0: none did."""


class Installed(Value, frozen=True):
    """One installed distribution that owns the module `onnxruntime`."""

    name: str
    version: str


REMEDIES = {
    "ctranslate2": "reinstall it: pip install --force-reinstall ctranslate2",
    "onnxruntime": 'reinstall it: pip install --force-reinstall "onnxruntime<1.29"',
    "alsaaudio": "install the ALSA library (apt install libasound2) and pyalsaaudio",
    "av": "reinstall it: pip install --force-reinstall av",
    "soxr": "reinstall it: pip install --force-reinstall soxr",
    "tokenizers": "reinstall it: pip install --force-reinstall tokenizers",
    "libcublas": "install CUDA's cuBLAS 12 (pip install nvidia-cublas-cu12, or apt), or use a CPU profile",
}
_ILLEGAL = 4
_DEFAULT_REMEDY = "reinstall the package edge-agent"


def loading(probe: Probe) -> CheckResult:
    """Does the library load and work?"""
    name = f"library {probe.name}"
    remedy = REMEDIES.get(probe.name, _DEFAULT_REMEDY)
    if probe.signal == _ILLEGAL:
        detail = "it is built for another CPU: illegal instruction"
        return CheckResult(
            name=name,
            status="fail",
            detail=detail,
            remedy="use a machine with AVX (x86) or 64-bit ARM, or a build of the library for this CPU",
        )
    if probe.signal:
        return CheckResult(
            name=name, status="fail", detail=f"loading it crashes (signal {probe.signal})", remedy=remedy
        )
    if probe.error:
        return CheckResult(name=name, status="fail", detail=probe.error, remedy=remedy)
    return CheckResult(name=name, status="ok", detail=probe.version or "loads")


def twins(owners: tuple[Installed, ...]) -> CheckResult:
    """Exactly one distribution may own the module `onnxruntime`: with two, the last one installed wins, and
    removing either leaves an empty module."""
    name = "onnxruntime"
    if not owners:
        return CheckResult(
            name=name,
            status="fail",
            detail="no distribution of onnxruntime is installed",
            remedy='pip install "onnxruntime>=1.22,<1.29"',
        )
    told = " and ".join(f"{owner.name} {owner.version}" for owner in owners)
    if len(owners) > 1:
        return CheckResult(
            name=name,
            status="fail",
            detail=f"{told} own the same module; the last one installed wins",
            remedy=f"pip uninstall {' '.join(o.name for o in owners)}, then: "
            'pip install "onnxruntime>=1.22,<1.29"',
        )
    return CheckResult(name=name, status="ok", detail=told)


def telemetry(owners: tuple[Installed, ...], switch: str | None) -> CheckResult:
    """Does anything phone home?

    Args:
        owners: of the module onnxruntime, whose versions from 1.29 on report at import.
        switch: ORT_DISABLE_TELEMETRY as the agent's process has it.
    """
    if switch != "1":
        value = "not set" if switch is None else f'"{switch}"'
        return CheckResult(
            name="telemetry",
            status="fail",
            detail=f"ORT_DISABLE_TELEMETRY is {value}: onnxruntime may report to its makers",
            remedy="set ORT_DISABLE_TELEMETRY=1 in the agent's environment, or leave it unset",
        )
    loud = [owner for owner in owners if _version(owner.version) >= (1, 29)]
    if loud:
        return CheckResult(
            name="telemetry",
            status="warn",
            detail=f"{loud[0].name} {loud[0].version} can report to its makers; only a switch keeps it quiet",
            remedy='pip install "onnxruntime<1.29"',
        )
    return CheckResult(name="telemetry", status="ok", detail="nothing reports to anybody")


def level(peak_dbfs: float, rms_dbfs: float) -> CheckResult:
    """Is the microphone set too loud or too low?"""
    detail = f"peak {peak_dbfs:.1f} dBFS, mean {rms_dbfs:.1f} dBFS"
    if peak_dbfs > _CLIPPED_DBFS:
        return CheckResult(
            name="level",
            status="warn",
            detail=f"{detail}: it clips",
            remedy="turn the capture level down (alsamixer, F4)",
        )
    if rms_dbfs < _QUIET_DBFS:
        return CheckResult(
            name="level",
            status="warn",
            detail=f"{detail}: hardly any signal",
            remedy="turn the capture level up (alsamixer, F4), and unmute it",
        )
    return CheckResult(name="level", status="ok", detail=detail)


def capture(overruns: int, losses: int, hours: float) -> CheckResult:
    """Does sound get lost on the way in?"""
    per_hour = overruns / max(hours, 1.0)
    detail = f"{overruns} overruns and {losses} losses of the device in {hours:.1f} h"
    if per_hour > _XRUNS_PER_HOUR:
        return CheckResult(
            name="capture",
            status="warn",
            detail=detail,
            remedy="other work keeps the agent from the sound: see `top`; use a smaller profile",
        )
    if losses > 3:
        return CheckResult(
            name="capture",
            status="warn",
            detail=detail,
            remedy="the microphone comes and goes: try another port or cable, without a hub",
        )
    return CheckResult(name="capture", status="ok", detail=detail)


def latency(p95_ms: float, promised_ms: float, finals: int) -> CheckResult:
    """Are finals as fast as the profile promises?"""
    if finals < 5:
        return CheckResult(name="latency", status="ok", detail=f"{finals} finals so far, too few to judge")
    detail = f"p95 {p95_ms:.0f} ms of the {promised_ms:.0f} ms that the profile promises"
    if p95_ms > promised_ms:
        return CheckResult(
            name="latency",
            status="warn",
            detail=detail,
            remedy="see the load with `top`; choose a smaller profile: edge-agent profiles",
        )
    return CheckResult(name="latency", status="ok", detail=detail)


def clock(*, synced: bool, behind_s: float, ahead_s: float | None) -> CheckResult:
    """Can the times in transcripts be believed?

    Args:
        synced: what the kernel says.
        behind_s: seconds by which the clock is before the newest of the agent's own files; 0 when it is not.
        ahead_s: seconds by which it is ahead of a time server's; None when none was asked.
    """
    remedy = "let it be set: timedatectl set-ntp true (or install chrony); then restart the agent"
    if behind_s > _SKEW_S:
        return CheckResult(
            name="clock",
            status="fail",
            detail=f"it is {_span(behind_s)} before the installation of the agent",
            remedy=remedy,
        )
    if ahead_s is not None and abs(ahead_s) > _SKEW_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        return CheckResult(
            name="clock",
            status="fail",
            detail=f"it is {_span(abs(ahead_s))} {way} its time server",
            remedy=remedy,
        )
    if not synced:
        detail = "not synchronised; transcripts say clock_synced = false"
        return CheckResult(name="clock", status="warn", detail=detail, remedy=remedy)
    return CheckResult(name="clock", status="ok", detail="synchronised")


def heat(temperature_c: float, hot_c: float, throttled: int) -> CheckResult:
    """Does heat slow the machine down?"""
    if not temperature_c:
        return CheckResult(name="heat", status="ok", detail="no thermometer here")
    detail = f"{temperature_c:.0f} °C, throttles from {hot_c:.0f} °C"
    if temperature_c >= hot_c - 5:
        remedy = "give it air, clean its fan, keep it out of the sun"
        return CheckResult(name="heat", status="warn", detail=detail, remedy=remedy)
    if throttled:
        detail += f", throttled {throttled} times since it was switched on"
    return CheckResult(name="heat", status="ok", detail=detail)


def faults(name: str, found: tuple[str, ...], well: str, remedy: str) -> CheckResult:
    """A check that lists what is wrong: the first fault and how many more."""
    if not found:
        return CheckResult(name=name, status="ok", detail=well)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return CheckResult(name=name, status="fail", detail=f"{found[0]}{more}", remedy=remedy)


def tokenizer(found: tuple[str, ...], lost_merges: int, remedy: str) -> CheckResult:
    """Do text and tokens come back from each other, and what had to be mended for that?

    Args:
        found: texts and tokens that do not.
        lost_merges: that the published file lacks, and that loading puts back.
        remedy: for what cannot be mended.
    """
    well = "text and tokens come back from each other"
    if lost_merges:
        well += f"; its file lacks {lost_merges} of its merges, as some published ones do"
    result = faults("tokenizer", found, well, remedy)
    if found or not lost_merges:
        return result
    mended = "nothing to do: the agent puts them back each time it loads the model"
    return CheckResult(name=result.name, status="ok", detail=well, remedy=mended)


def round_trip(milliseconds: float) -> CheckResult:
    """How long does the broker take to answer?"""
    detail = f"answers in {milliseconds:.0f} ms and lets this device read its commands"
    if milliseconds > 2000:
        return CheckResult(
            name="round trip", status="warn", detail=detail, remedy="look at the network: ping the broker"
        )
    return CheckResult(name="round trip", status="ok", detail=detail)


def _version(text: str) -> tuple[int, int]:
    parts = text.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (ValueError, IndexError):
        return 0, 0


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
