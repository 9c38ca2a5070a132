"""A wall clock that jumps: durations stay right, the order is that of `seq`."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.types import FRAME_SAMPLES
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess
from tests.e2e.test_run import looped, settings
from tests.fault.results import record

LIBRARY = next(
    iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), Path("/libfaketimeMT.so.1")
)

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(
        not LIBRARY.is_file(), reason="libfaketime is not installed (apt-get install faketime)"
    ),
]


def test_the_wall_clock_jumps_by_four_hundred_days(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber
) -> None:
    """Forward, and back to before the start; the same recording is told to be equally long every time."""
    offset = tmp_path / "offset"
    offset.write_text("+0d\n")
    box = AgentProcess(
        tmp_path / "state",
        *settings(broker, looped()),
        LD_PRELOAD=str(LIBRARY),
        FAKETIME_TIMESTAMP_FILE=str(offset),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    places = []
    with box:
        for days in (0, 400, -400):
            replacement = tmp_path / "next"
            replacement.write_text(f"{days:+}d\n")
            replacement.replace(offset)
            # One may be in the middle: it has its start from before the jump.
            places.append(len(subscriber.on("/transcript/final")) + bool(places))
            wanted = places[-1] + (2 if days else 4)
            wait_until(
                lambda wanted=wanted: len(subscriber.on("/transcript/final")) >= wanted, 90, "two finals"
            )
        assert box.terminate() == 0, box.log
    bodies = [message.body for message in subscriber.on("/transcript/final")]
    now = datetime.now(UTC)
    for place, days in zip(places, (0, 400, -400), strict=True):
        start = datetime.fromisoformat(bodies[place + 1]["start"])
        assert abs(start - now - timedelta(days=days)) < timedelta(minutes=5)
    # The first rounds of a recording begin in silence, not in its own end; the last is cut by the stop.
    lengths = [body["duration_ms"] for body in bodies[2:] if "cut:stop" not in body["flags"]]
    spread_ms = max(abs(length - statistics.median(lengths)) for length in lengths)
    record(
        "clock",
        "Wall clock: +400 days, then -400 days",
        {
            "finals": len(bodies),
            "durations ms": ", ".join(map(str, lengths)),
            "largest difference ms": spread_ms,
            "order by seq": [body["seq"] for body in bodies] == sorted(body["seq"] for body in bodies),
        },
    )
    assert spread_ms <= FRAME_SAMPLES / 16, "more than the frame that speech is measured in"
    assert [body["seq"] for body in bodies] == list(range(bodies[0]["seq"], bodies[0]["seq"] + len(bodies)))
    assert subscriber.on("/gap") == []
    assert {body["clock_synced"] for body in bodies} == {SystemClock().synced()}
