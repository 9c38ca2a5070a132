"""Stops one thread of another process until that process ends, as a hang in a driver would: ptrace(2).

SIGSTOP would stop them all. Usage: freeze.py TID [BUSY_FILE]. Prints "frozen" and how many seconds ago. With
a file (one byte, 1 while the engine works), the thread is stopped again and again until the work it was
stopped in does not end: an idle helper of the engine, or one not waited for, holds up nobody.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

PTRACE_CONT, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 7, 0x4206, 0x4207, 0x40000000
HUNG_S = 2.0
"""Work that has not ended after so long hangs: a decode of the test's sentence takes a tenth of it."""

libc = ctypes.CDLL(None, use_errno=True)


def ask(request: int, thread: int) -> None:
    """One request of ptrace.

    Raises:
        SystemExit: it is refused, or the thread has ended.
    """
    if libc.ptrace(request, thread, None, None) < 0:
        sys.exit(os.strerror(ctypes.get_errno()))


def running(thread: int) -> bool:
    return Path(f"/proc/{thread}/stat").read_text().rpartition(")")[2].split()[0] == "R"


def holds_up(busy: Path) -> bool:
    """Whether the work under way does not end."""
    until = time.monotonic() + HUNG_S
    while time.monotonic() < until:
        if busy.read_bytes() != b"\1":
            return False
        time.sleep(0.01)
    return True


def stop_in_its_work(thread: int, busy: Path) -> float:
    """Stop it where others wait for it; answers when that was."""
    while True:
        if busy.read_bytes() == b"\1" and running(thread):
            ask(PTRACE_INTERRUPT, thread)
            at = time.monotonic()
            os.waitpid(thread, WALL)
            if holds_up(busy):
                return at
            ask(PTRACE_CONT, thread)
        time.sleep(0.001)


if __name__ == "__main__":
    thread = int(sys.argv[1])
    ask(PTRACE_SEIZE, thread)
    if len(sys.argv) > 2:
        at = stop_in_its_work(thread, Path(sys.argv[2]))
    else:
        ask(PTRACE_INTERRUPT, thread)
        at = time.monotonic()
        os.waitpid(thread, WALL)
    print(f"frozen {time.monotonic() - at:.3f}", flush=True)
    while True:  # it never goes on; its end is to be reaped by us, or its process would stay for ever
        _, status = os.waitpid(thread, WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            sys.exit(0)
