"""Health verdicts: each fault has a remedy, and the worst one decides the exit code."""

from __future__ import annotations

import pytest

from edge_agent.health import checks
from edge_agent.health.checks import AgentReport, CheckResult

NOW = 1_795_179_600_000


def report(**given: object) -> AgentReport:
    return AgentReport(**{"written_utc_ms": NOW, "pid": 1, "state": "online", **given})


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (checks.agent(None, NOW), "warn"),
        (checks.agent(report(), NOW), "ok"),
        (checks.agent(report(written_utc_ms=NOW - 200_000), NOW), "fail"),
        (checks.agent(report(state="degraded", reasons=("microphone: gone",)), NOW), "warn"),
        (checks.microphone("", "", 0.0), "ok"),
        (checks.microphone("", "", 45.0), "warn"),
        (checks.microphone("no such device hw:9", "plug it in", None), "fail"),
        (checks.model("whisper-base", "", ""), "ok"),
        (checks.model("whisper-base", "model.bin is damaged", "pull it again"), "fail"),
        (checks.broker("mqtt://h", "", ""), "ok"),
        (checks.broker("mqtt://h", "refused", "check the password"), "fail"),
        (checks.disk(10 << 20, "/var"), "warn"),
        (checks.disk(10 << 30, "/var"), "ok"),
        (checks.outbox(0, 0.0, "ok"), "ok"),
        (checks.outbox(0, 0.0, "absent"), "ok"),
        (checks.outbox(5, 300.0, "ok"), "warn"),
        (checks.outbox(5, 300.0, "memory"), "fail"),
    ],
)
def test_a_verdict_that_is_not_ok_has_a_remedy(result: CheckResult, status: str) -> None:
    """The status fits the facts, and the reader is told what to do."""
    assert result.status == status
    assert result.detail
    assert bool(result.remedy) == (status != "ok")


def test_the_worst_verdict_decides() -> None:
    """Failed beats degraded beats well."""
    well, degraded, failed = (
        checks.disk(1 << 40, "/"),
        checks.disk(1, "/"),
        checks.broker("m", "gone", "look"),
    )
    assert checks.exit_code([well]) == 0
    assert checks.exit_code([well, degraded]) == 3
    assert checks.exit_code([degraded, failed, well]) == 1
