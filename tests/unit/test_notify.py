"""The service manager's socket, spoken to for real."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from edge_agent.notify import notify, patience


def test_fields_arrive_as_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY and STATUS reach a manager that listens on a path."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert notify(READY="1", STATUS="listening")
        assert manager.recv(4096) == b"READY=1\nSTATUS=listening"


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by hand there is no socket, and that is no error."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY="1")


def test_a_dead_manager_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket nobody reads is answered with False."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify(WATCHDOG="1")


def test_long_work_feeds_the_watchdog_only_for_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pings come from a thread of their own while the work lasts, and end after the longest time allowed."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        with patience(0.06, every_s=0.02):
            assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            time.sleep(0.1)
            manager.setblocking(False)
            with pytest.raises(BlockingIOError):
                manager.recv(4096)
