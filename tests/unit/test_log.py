"""Log lines: one per event, structured, without secrets."""

from __future__ import annotations

import json
import logging

from edge_agent import log


def record(**extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "edge_agent.x", "levelno": 20, "levelname": "INFO", "msg": "opened"}
    )
    vars(made).update(extra)
    return made


def test_a_json_line_carries_the_fields() -> None:
    """The journal gets one object a line with the extra fields."""
    line = json.loads(log.JsonLines().format(record(device="hw:1", frames=3)))
    assert line["message"] == "opened"
    assert line["device"] == "hw:1"
    assert line["frames"] == 3
    assert line["level"] == "info"


def test_secrets_never_reach_a_line() -> None:
    """A password passed as a field is redacted in both forms."""
    for formatter in (log.JsonLines(), log.PlainLines()):
        line = formatter.format(record(password="hunter2"))
        assert "hunter2" not in line
        assert "[redacted]" in line
