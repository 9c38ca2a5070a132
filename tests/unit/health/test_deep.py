"""The doctor's verdicts: each fault is told with what to do about it."""

from __future__ import annotations

import pytest

from edge_agent.health import deep
from edge_agent.health.checks import AgentReport, CheckResult
from edge_agent.health.deep import Installed, Probe
from edge_agent.health.load import Machine
from edge_agent.health.metrics import text

CPU, GPU = (
    Installed(name="onnxruntime", version="1.28.0"),
    Installed(name="onnxruntime-gpu", version="1.31.1"),
)


@pytest.mark.parametrize(
    ("result", "status", "said"),
    [
        (deep.loading(Probe(name="av", version="18.1")), "ok", "18.1"),
        (deep.loading(Probe(name="ctranslate2", signal=4)), "fail", "another CPU"),
        (deep.loading(Probe(name="ctranslate2", signal=11)), "fail", "signal 11"),
        (deep.loading(Probe(name="libcublas", error="libcublas.so.12: cannot open")), "fail", "cublas"),
        (deep.twins((CPU,)), "ok", "onnxruntime 1.28.0"),
        (deep.twins(()), "fail", "no distribution"),
        (deep.twins((CPU, GPU)), "fail", "last one installed wins"),
        (deep.telemetry((CPU,), "1"), "ok", "nothing reports"),
        (deep.telemetry((CPU,), "0"), "fail", 'is "0"'),
        (deep.telemetry((CPU,), None), "fail", "not set"),
        (deep.telemetry((GPU,), "1"), "warn", "1.31.1"),
        (deep.level(-3.0, -30.0), "ok", "-30"),
        (deep.level(0.0, -10.0), "warn", "clips"),
        (deep.level(-70.0, -80.0), "warn", "hardly any signal"),
        (deep.capture(2, 0, 1.0), "ok", "2 overruns"),
        (deep.capture(30, 0, 2.0), "warn", "30 overruns"),
        (deep.capture(0, 9, 2.0), "warn", "9 losses"),
        (deep.latency(900, 1500, 40), "ok", "900 ms"),
        (deep.latency(1900, 1500, 40), "warn", "1900 ms of the 1500 ms"),
        (deep.latency(1900, 1500, 2), "ok", "too few"),
        (deep.clock(synced=True, behind_s=0, ahead_s=0.2), "ok", "synchronised"),
        (deep.clock(synced=False, behind_s=0, ahead_s=None), "warn", "not synchronised"),
        (deep.clock(synced=True, behind_s=86_400 * 400, ahead_s=None), "fail", "400 days before"),
        (deep.clock(synced=True, behind_s=0, ahead_s=-7200.0), "fail", "2 hours behind"),
        (deep.heat(0, 90, 0), "ok", "no thermometer"),
        (deep.heat(60, 95, 3), "ok", "throttled 3 times"),
        (deep.heat(93, 95, 0), "warn", "93 °C"),
        (deep.faults("digests", (), "whole", "pull"), "ok", "whole"),
        (deep.faults("digests", ("a", "b", "c"), "whole", "pull"), "fail", "a (and 2 more)"),
        (deep.round_trip(3.0), "ok", "3 ms"),
        (deep.round_trip(4000.0), "warn", "4000 ms"),
    ],
)
def test_the_verdict_fits_and_what_is_wrong_has_a_remedy(result: CheckResult, status: str, said: str) -> None:
    """Status, words, and a remedy exactly where one is needed."""
    assert result.status == status
    assert said in result.detail
    assert bool(result.remedy) == (status != "ok")


def test_the_metrics_file_has_one_line_per_fact_and_survives_odd_names() -> None:
    """Prometheus' text format: HELP and TYPE before each family, quotes escaped, a newline at the end."""
    report = AgentReport(
        written_utc_ms=1, pid=1, state="online", profile='a"b\\c', finals=7, latency_p95_ms=1500.0
    )
    made = text(report, [deep.level(0.0, -10.0)], Machine(temperature_c=61.5, available_mb=100))
    assert 'edge_agent_check{check="level"} 1\n' in made
    assert 'profile="a\\"b\\\\c"' in made
    assert "edge_agent_finals_total 7\n" in made
    assert 'edge_agent_latency_seconds{quantile="0.95"} 1.5\n' in made
    assert "edge_agent_temperature_celsius 61.5\n" in made
    families = [line.split()[2] for line in made.splitlines() if line.startswith("# TYPE")]
    samples = [line for line in made.splitlines() if not line.startswith("#")]
    assert all(any(line.startswith(family) for family in families) for line in samples)
    assert made.endswith("\n")


def test_without_an_agent_the_file_says_so() -> None:
    """Only what the machine itself tells is left."""
    made = text(None, [], Machine())
    assert "edge_agent_up 0\n" in made
    assert "finals" not in made
