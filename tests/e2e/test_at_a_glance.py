"""`health` and `outbox status` on a real terminal: readable there, plain in a pipe, JSON as ever."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.outbox.store import Outbox
from tests.e2e.agent_process import edge_agent
from tests.terminal import OnTerminal

COMMAND = [sys.executable, "-m", "edge_agent"]


@pytest.fixture
def state() -> Path:
    """A state directory with two transcripts and a gap, one of them waiting."""
    place = Path(os.environ["EDGE_AGENT_STATE"])
    outbox = Outbox(place / "outbox.sqlite3", clock=SystemClock())
    for name, kind in (("a", "final"), ("b", "gap"), ("c", "final")):
        outbox.append(id=name, kind=kind, make_payload=lambda _: b"{}")  # type: ignore[arg-type] - kind
    outbox.mark_many([(1, 0), (2, 0)])
    outbox.close()
    return place


def test_outbox_status_on_a_terminal(state: Path) -> None:
    """Bars, figures and colours; the quota is that of the configuration."""
    command = [*COMMAND, "outbox", "status", "--set", "outbox.quota_mb=1"]
    with OnTerminal(command, columns=80) as shown:
        shown.wait_for(str(state)[:40])
        assert shown.lines[0] == "✓ 1 waiting"
        assert "of 1 MB" in shown.line("  size ")
        assert shown.line("  gaps ") == "  gaps       1 among what is kept"
        assert shown.line("  next seq ") == "  next seq   4"
        assert b"\x1b[32m" in shown.seen


def test_outbox_status_in_a_pipe(state: Path) -> None:
    """The four lines that scripts know, and not one escape sequence."""
    done = edge_agent("outbox", "status")
    assert "\x1b" not in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["waiting", "delivered", "last"]
    assert json.loads(edge_agent("outbox", "status", "--json").stdout)["last_seq"] == 3


def test_a_broken_configuration_does_not_hide_the_outbox(state: Path, tmp_path: Path) -> None:
    """Only the quota is unknown then."""
    config = tmp_path / "agent.toml"
    config.write_text("[outbox]\nno_such_key = 1\n")
    with OnTerminal([*COMMAND, "outbox", "status", "--config", str(config)]) as shown:
        shown.wait_for("the quota is unknown")
        assert shown.line("  next seq ") == "  next seq   4"


@pytest.mark.parametrize("no_colour", [False, True])
def test_health_on_a_terminal(broker: PrivateBroker, no_colour: bool) -> None:
    """The verdict first; without colour the signs and words say the same."""
    settings = ["--set", f"mqtt.url={broker.url}", "--set", "audio.source=file:/dev/null"]
    environment = {"NO_COLOR": "1"} if no_colour else {}
    with OnTerminal([*COMMAND, "health", *settings], **environment) as shown:
        shown.wait_for(" heat ", 60)
        assert shown.lines[0].startswith("! degraded: agent")
        assert "! WARN  agent" in shown.text
        assert "→ start it: systemctl start edge-agent" in shown.text
        assert "✓ well  broker" in shown.text
        assert (b"\x1b[33m" in shown.seen) is not no_colour
