"""Named checks: facts in, a verdict with a remedy line out. Pure."""

from __future__ import annotations

from typing import Literal

from edge_agent.types import Value

Status = Literal["ok", "warn", "fail"]

_MIN_FREE_BYTES = 200 << 20
_QUEUE_OLD_S = 60.0
_DEAD_SILENT_S = 30.0
_STALE_REPORT_S = 90.0


class CheckResult(Value, frozen=True):
    """One verdict."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


class AgentReport(Value, frozen=True, forbid_unknown_fields=False):
    """What a running agent writes to its runtime directory every few seconds."""

    written_utc_ms: int
    pid: int
    state: str
    reasons: tuple[str, ...] = ()
    silent_s: float | None = None
    """Seconds of exact digital silence from the microphone so far."""
    profile: str = ""
    engine: str = ""
    model: str = ""
    finals: int = 0
    gaps: int = 0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    promised_p95_ms: float = 0.0
    """What the profile promises."""
    uptime_s: float = 0.0
    peak_dbfs: float | None = None
    rms_dbfs: float | None = None
    overruns: int = 0
    losses: int = 0
    """Times the microphone went away."""
    load_step: str = "full"
    queued_s: float = 0.0


def agent(report: AgentReport | None, now_utc_ms: int) -> CheckResult:
    """Is the service running, and what does it say of itself?"""
    if report is None:
        return CheckResult(
            name="agent",
            status="warn",
            detail="the agent is not running",
            remedy="start it: systemctl start edge-agent (or: edge-agent run)",
        )
    age_s = (now_utc_ms - report.written_utc_ms) / 1000
    if age_s > _STALE_REPORT_S:
        return CheckResult(
            name="agent",
            status="fail",
            detail=f"the agent (process {report.pid}) last reported {age_s:.0f} s ago",
            remedy="it hangs or was killed: systemctl restart edge-agent",
        )
    if report.reasons:
        return CheckResult(
            name="agent",
            status="warn",
            detail=f"{report.state}: {'; '.join(report.reasons)}",
            remedy="mend what the reasons name; the agent recovers by itself",
        )
    detail = f"{report.state}, {report.finals} finals, {report.gaps} gaps, p95 {report.latency_p95_ms:.0f} ms"
    return CheckResult(name="agent", status="ok", detail=detail)


def microphone(
    error: str, remedy: str, silent_s: float | None, *, enough_s: float = _DEAD_SILENT_S
) -> CheckResult:
    """Can the microphone be opened, and does it hear anything at all?

    Args:
        error: why it cannot be opened, or does not deliver.
        remedy: for that.
        silent_s: seconds of exact digital silence up to now; None when there was sound.
        enough_s: how many of them are one too many.
    """
    if error:
        return CheckResult(name="microphone", status="fail", detail=error, remedy=remedy)
    if silent_s is not None and silent_s > enough_s:
        return CheckResult(
            name="microphone",
            status="warn",
            detail=f"open, but exactly silent for {silent_s:.1f} s",
            remedy="unmute it (alsamixer, F4) or check the cable; a live microphone always has some noise",
        )
    return CheckResult(name="microphone", status="ok", detail="open and delivering sound")


def model(name: str, error: str, remedy: str) -> CheckResult:
    """Is the model whole?"""
    if error:
        return CheckResult(name="model", status="fail", detail=error, remedy=remedy)
    return CheckResult(name="model", status="ok", detail=f"{name} is whole")


def broker(url: str, error: str, remedy: str) -> CheckResult:
    """Does the broker let us in?"""
    if error:
        return CheckResult(name="broker", status="fail", detail=error, remedy=remedy)
    return CheckResult(name="broker", status="ok", detail=f"connected to {url}")


def disk(free_bytes: int, place: str) -> CheckResult:
    """Is there room for the outbox and for a model?"""
    free_mb = free_bytes >> 20
    if free_bytes < _MIN_FREE_BYTES:
        return CheckResult(
            name="disk",
            status="warn",
            detail=f"{free_mb} MB free under {place}",
            remedy="free some space; transcripts queue here while the broker is away",
        )
    return CheckResult(name="disk", status="ok", detail=f"{free_mb} MB free under {place}")


def outbox(queued: int, oldest_s: float, store_state: str) -> CheckResult:
    """Do transcripts get out?"""
    if store_state not in {"ok", "absent"}:
        return CheckResult(
            name="outbox",
            status="fail",
            detail=f"the store is {store_state}",
            remedy="check the disk (dmesg); transcripts are kept in memory meanwhile",
        )
    if queued and oldest_s > _QUEUE_OLD_S:
        return CheckResult(
            name="outbox",
            status="warn",
            detail=f"{queued} waiting, the oldest for {oldest_s:.0f} s",
            remedy="check the broker; nothing is lost, they go out when it is back",
        )
    return CheckResult(name="outbox", status="ok", detail=f"{queued} waiting")


def exit_code(results: list[CheckResult]) -> int:
    """1 when something failed, 3 when something is degraded, 0 when all is well."""
    statuses = {result.status for result in results}
    if "fail" in statuses:
        return 1
    return 3 if "warn" in statuses else 0
