"""`health` and `outbox status`: the verdict first, a sign and a word for each, aligned, remedies below."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.health.checks import CheckResult
from edge_agent.outbox.rows import OutboxStats
from edge_agent.screen.glyphs import UNICODE
from edge_agent.screen.spans import Line, line, line_width, written
from edge_agent.screen.terminal import Terminal
from edge_agent.verbs import health_view, outbox_view
from edge_agent.verbs.outbox_view import Limits

WELL = CheckResult(name="broker", status="ok", detail="connected to mqtt://h")
DEGRADED = CheckResult(name="agent", status="warn", detail="the agent is not running", remedy="start it")
FAILED = CheckResult(
    name="microphone", status="fail", detail="no such device hw:9, and a long story that goes with it",
    remedy="plug it in",
)  # fmt: skip
WIDE = Terminal(is_tty=True, columns=100, movable=True)
LIMITS = Limits(quota_mb=256, keep_delivered_h=72)


def texts(lines: list[Line]) -> list[str]:
    return ["".join(span.text for span in one) for one in lines]


def stats(**given: object) -> OutboxStats:
    values: dict[str, object] = {
        "queued": 0, "delivered": 12, "set_aside": 0, "in_memory": 0, "oldest_queued_age_s": 0.0,
        "size_bytes": 64 << 20, "dropped_over_quota": 0, "last_seq": 41, "state": "durable", "fault": "",
        "corrupt_files": 0,
    }  # fmt: skip
    return OutboxStats(**{**values, **given})  # type: ignore[arg-type] - fields vary by test


def test_health_at_a_glance() -> None:
    """What failed is in the first line; details are aligned, remedies below theirs."""
    assert texts(health_view.pretty([WELL, DEGRADED, FAILED], WIDE)) == [
        "✗ failed: microphone; degraded: agent",
        "",
        "✓ well  broker      connected to mqtt://h",
        "! WARN  agent       the agent is not running",
        "                    → start it",
        "✗ FAIL  microphone  no such device hw:9, and a long story that goes with it",
        "                    → plug it in",
    ]


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([WELL], "✓ all is well (1 check)"),
        ([WELL, DEGRADED], "! degraded: agent"),
        ([FAILED], "✗ failed: microphone"),
    ],
)
def test_the_first_line_is_the_verdict(results: list[CheckResult], said: str) -> None:
    """The worst decides."""
    assert texts([health_view.verdict(results, UNICODE)]) == [said]


def test_health_in_a_pipe_stays_as_it_was() -> None:
    """Scripts read it."""
    assert health_view.plain([WELL, FAILED]) == [
        "well  broker     connected to mqtt://h",
        "FAIL  microphone no such device hw:9, and a long story that goes with it",
        "                 -> plug it in",
    ]


def test_the_locale_c_gets_ascii() -> None:
    """Also the bars and arrows."""
    terminal = Terminal(is_tty=True, columns=80, movable=True, charset="ascii")
    lines = health_view.pretty([WELL, FAILED], terminal)
    lines += outbox_view.pretty(stats(queued=3, oldest_queued_age_s=90), "/var/ö", 2, LIMITS, terminal)
    assert all(written(one, terminal).isascii() for one in lines)


@given(st.integers(10, 200), st.text(max_size=80), st.sampled_from(["utf-8", "ascii"]))
def test_no_line_is_longer_than_the_terminal(columns: int, text: str, charset: str) -> None:
    """However narrow; whatever a detail holds."""
    terminal = Terminal(is_tty=True, columns=columns, movable=False, charset=charset)
    result = CheckResult(name="broker", status="fail", detail=text, remedy=text)
    lines = health_view.pretty([result, WELL], terminal)
    lines += outbox_view.pretty(stats(queued=2, oldest_queued_age_s=9e5), text, 2, LIMITS, terminal)
    shown = [written(one, terminal).replace("\u200e", "") for one in lines]
    assert all(line_width(line(one)) < columns for one in shown)
    assert not any("\n" in text or "\x1b" in text for text in texts(lines))


def test_outbox_at_a_glance() -> None:
    """How much waits and since when, how full it is, what is kept, the gaps, the next number."""
    told = texts(outbox_view.pretty(stats(), "/var/lib/x", 3, LIMITS, WIDE))
    assert told == [
        "✓ nothing waits",
        "",
        "  waiting    0",
        "  oldest     none",
        "  size       ██████·················· 64.0 of 256 MB",
        "  delivered  12 kept for replay, for 72 h",
        "  gaps       3 among what is kept",
        "  next seq   42",
        "  file       /var/lib/x",
    ]


def test_an_old_queue_and_a_full_store_are_degraded() -> None:
    """With what to do about it."""
    old = texts(outbox_view.pretty(stats(queued=7, oldest_queued_age_s=1800), "f", 0, LIMITS, WIDE))
    assert old[0] == "! 7 waiting, the oldest for 1800 s"
    assert old[1].startswith("  → check the broker")
    assert old[4] == "  oldest     ████████████············ 30 min (bar: 1 h)"
    full = stats(queued=7, size_bytes=250 << 20)
    assert outbox_view.verdict(full, LIMITS).detail == "7 waiting, nearly full"
    assert outbox_view.verdict(full, None).status == "ok"


def test_what_was_lost_or_set_aside_is_told() -> None:
    """A row of its own, on a terminal and in a pipe."""
    lost = stats(dropped_over_quota=5, set_aside=1)
    for lines in (outbox_view.plain(lost, "f"), texts(outbox_view.pretty(lost, "f", 0, None, WIDE))):
        assert any("5 over the quota" in line for line in lines)
        assert any("1 that the broker cannot take" in line for line in lines)
