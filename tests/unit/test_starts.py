"""What a process died of is known to the next one, whatever became of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edge_agent.clock import SystemClock
from edge_agent.starts import Starts


def started(place: Path, boot_id: str = "boot") -> Starts:
    return Starts(place, SystemClock(), boot_id=boot_id)


def test_a_start_after_a_clean_end_is_ordinary(tmp_path: Path) -> None:
    """An end that was asked for is no death."""
    first = started(tmp_path)
    assert first.begin().reason == ""
    first.end()
    assert started(tmp_path).begin().reason == ""


def test_a_crash_inside_the_engine_is_blamed_on_it(tmp_path: Path) -> None:
    """The byte in the mapped file outlives a process that ends without a word (here by SIGSEGV)."""
    code = (
        "import os, sys; from pathlib import Path; from edge_agent.clock import SystemClock;"
        "from edge_agent.starts import Starts; s = Starts(Path(sys.argv[1]), SystemClock(), boot_id='boot');"
        "s.begin(); s.engine_busy(True); os.kill(os.getpid(), 11)"
    )
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert died.returncode == -11
    plan = started(tmp_path).begin()
    assert plan.level == 1
    assert "while it was decoding" in plan.reason


def test_a_kill_outside_the_engine_changes_nothing_until_it_happens_often(tmp_path: Path) -> None:
    """Five silent ends within a minute hold the sixth start."""
    plans = [started(tmp_path).begin() for _ in range(6)]
    assert [plan.hold_s > 0 for plan in plans] == [False] * 5 + [True]
    assert all(plan.level == 0 for plan in plans)


def test_an_end_with_a_cause_is_told_by_the_next_start(tmp_path: Path) -> None:
    """A hung decode is blamed on the engine by those who saw it."""
    first = started(tmp_path)
    first.begin()
    first.end("the scribe hangs", in_engine=True)
    assert "the scribe hangs" in started(tmp_path).begin().reason


def test_another_boot_and_a_damaged_record_start_afresh(tmp_path: Path) -> None:
    """Old causes are not carried over a reboot, and no file can keep the agent from starting."""
    for _ in range(7):
        started(tmp_path).begin()
    assert started(tmp_path, boot_id="next").begin().hold_s == 0
    (tmp_path / "starts.json").write_bytes(b'{"deaths": [17')
    assert started(tmp_path).begin().hold_s == 0


def test_a_place_that_cannot_be_written_is_no_reason_not_to_start(tmp_path: Path) -> None:
    """The record is a help, not a need."""
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    record = started(blocked)
    assert record.begin().reason == ""
    record.engine_busy(True)
    record.end("anything")
