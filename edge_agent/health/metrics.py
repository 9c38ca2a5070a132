"""The facts in Prometheus' text format, for node_exporter's textfile collector. Pure; no words, no names."""

from __future__ import annotations

from edge_agent.health.checks import AgentReport, CheckResult
from edge_agent.health.load import Machine

_VALUES = {"ok": 0, "warn": 1, "fail": 2}


def text(report: AgentReport | None, results: list[CheckResult], machine: Machine) -> str:
    """The whole file.

    Args:
        report: of the running agent; None when none runs.
        results: of the checks.
        machine: how it is doing.
    """
    lines: list[str] = []

    def add(name: str, kind: str, about: str, samples: list[tuple[str, float]]) -> None:
        full = f"edge_agent_{name}"
        lines.extend((f"# HELP {full} {about}", f"# TYPE {full} {kind}"))
        lines.extend(f"{full}{labels} {value:g}" for labels, value in samples)

    add("up", "gauge", "1 while an agent runs and reports", [("", float(report is not None))])
    verdicts = [(f'{{check="{_label(r.name)}"}}', float(_VALUES[r.status])) for r in results]
    add("check", "gauge", "0 well, 1 degraded, 2 failed", verdicts)
    if report is not None:
        add("finals_total", "counter", "finals committed since the start", [("", report.finals)])
        add("gaps_total", "counter", "gaps told since the start", [("", report.gaps)])
        add("overruns_total", "counter", "capture overruns since the start", [("", report.overruns)])
        add("uptime_seconds", "gauge", "since the start of the agent", [("", report.uptime_s)])
        add("queued_seconds", "gauge", "speech that waits for recognition", [("", report.queued_s)])
        quantiles = [
            ('{quantile="0.5"}', report.latency_p50_ms / 1e3),
            ('{quantile="0.95"}', report.latency_p95_ms / 1e3),
        ]
        add("latency_seconds", "gauge", "end of speech to committed final", quantiles)
        info = ",".join(
            f'{key}="{_label(value)}"'
            for key, value in (
                ("profile", report.profile),
                ("engine", report.engine),
                ("model", report.model),
            )
        )
        add("info", "gauge", "what serves", [(f"{{{info}}}", 1)])
        steps = [(f'{{step="{_label(report.load_step)}"}}', 1.0)]
        add("load_step", "gauge", "where the degrade ladder stands", steps)
    if machine.temperature_c:
        add("temperature_celsius", "gauge", "of the hottest zone", [("", machine.temperature_c)])
    add("available_memory_bytes", "gauge", "that can still be had", [("", machine.available_mb * (1 << 20))])
    return "\n".join(lines) + "\n"


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
