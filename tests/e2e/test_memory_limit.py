"""A control group that leaves the service hardly any memory: it does less and says why, and is not killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.mqtt.private_broker import PrivateBroker
from tests.broker import Subscriber, wait_until
from tests.e2e.agent_process import AgentProcess
from tests.e2e.test_overload import SAMPLES

ROOT = Path("/sys/fs/cgroup")
LEFT_BYTES = 48 << 20


class Group:
    """A control group of our own, of whichever version the kernel has here."""

    def __init__(self) -> None:
        self._first = (ROOT / "memory/memory.limit_in_bytes").exists()
        parent = ROOT / "memory" if self._first else ROOT
        if os.geteuid() != 0 or not (self._first or (ROOT / "cgroup.subtree_control").exists()):
            pytest.skip("a control group with a memory limit needs root")
        self.place = parent / f"edge-agent-test-{os.getpid()}"
        try:
            if not self._first:
                (parent / "cgroup.subtree_control").write_text("+memory")
            self.place.mkdir()
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error.strerror}")

    def add(self, pid: int) -> None:
        (self.place / "cgroup.procs").write_text(str(pid))

    def limit(self, size: int | None) -> None:
        if self._first:
            (self.place / "memory.limit_in_bytes").write_text(str(-1 if size is None else size))
        else:
            (self.place / "memory.max").write_text("max" if size is None else str(size))


@pytest.fixture
def group() -> Iterator[Group]:
    made = Group()
    yield made
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            made.place.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_tight_limit_is_told_and_lived_with(
    tmp_path: Path, broker: PrivateBroker, subscriber: Subscriber, group: Group
) -> None:
    """48 MB left of a real limit: degraded with the reason; more room: online. It hears all the while."""
    source = f"file:{SAMPLES / 'find_a_way_out.flac'}?loop=1"
    settings = (f'mqtt.url="{broker.url}"', 'device.id="box"', f'audio.source="{source}"')
    box = AgentProcess(tmp_path / "state", *settings)
    with box:
        group.add(box.process.pid)
        wait_until(lambda: len(subscriber.on("/transcript/final")) > 3, 60, "finals")
        resident = int(Path(f"/proc/{box.process.pid}/statm").read_text().split()[1]) * 4096
        # What was loaded before it joined is not charged to the group, so the charge is read, not the size.
        charged = int(
            (group.place / "memory.usage_in_bytes").read_text()
            if (group.place / "memory.usage_in_bytes").exists()
            else (group.place / "memory.current").read_text()
        )
        assert charged <= resident * 2
        group.limit(charged + LEFT_BYTES)
        wait_until(lambda: "memory is short" in _reasons(subscriber), 60, "the reason on the broker")
        told = time.monotonic()
        wait_until(
            lambda: any(m.at > told for m in subscriber.on("/transcript/final")), 60, "words meanwhile"
        )
        group.limit(None)
        wait_until(lambda: subscriber.on("/status")[-1].body["state"] == "online", 250, "online again")
        assert box.terminate() == 0


def _reasons(subscriber: Subscriber) -> str:
    return "; ".join(subscriber.on("/status")[-1].body["reasons"])
