"""The service manager's notification socket, without a library: see sd_notify(3)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def notify(**fields: str) -> bool:
    """Send fields such as READY="1" or STATUS="listening"; False when no service manager listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(f"{key}={value}" for key, value in fields.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(1)
            channel.sendto(message.encode(), address)
    except OSError:
        return False
    return True


@contextmanager
def patience(longest_s: float, every_s: float = 1.0) -> Iterator[None]:
    """Feed the watchdog during work that may take long, but no longer than `longest_s`."""
    over = threading.Event()

    def ping() -> None:
        for _ in range(round(longest_s / every_s)):
            notify(WATCHDOG="1")
            if over.wait(every_s):
                return

    thread = threading.Thread(target=ping, name="patience", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(every_s)
