"""What the kernel knows of this process's threads: who worked, who waited for a CPU, who for the disk.

From /proc/self/task: `schedstat` (nanoseconds on a CPU, nanoseconds waited for one) and the state in `stat`
(proc(5); sched-stats in the kernel's documentation). Only I/O here; a look takes about 20 µs a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

TASKS = Path("/proc/self/task")


class Thread:
    """Sums of one thread so far."""

    __slots__ = ("state", "waited_ns", "worked_ns")

    def __init__(self, worked_ns: int, waited_ns: int, state: str) -> None:
        self.worked_ns, self.waited_ns, self.state = worked_ns, waited_ns, state


def read(tasks: Path = TASKS) -> dict[int, Thread]:
    """All threads by number; empty where the kernel keeps no such account."""
    found: dict[int, Thread] = {}
    try:
        names = [entry.name for entry in tasks.iterdir()]
    except OSError:
        return found
    for name in names:
        try:
            worked, waited, *_ = (tasks / name / "schedstat").read_text(encoding="ascii").split()
            # The name in parentheses may hold anything, so the state is what follows the last of them.
            state = (tasks / name / "stat").read_bytes().rpartition(b")")[2].split()[0]
            found[int(name)] = Thread(int(worked), int(waited), state.decode("ascii"))
        except (OSError, ValueError, IndexError):
            continue  # it ended meanwhile
    return found


def owners(threads: Iterable[threading.Thread]) -> dict[int, str]:
    """Native number -> name of each Python thread that runs; all others are the libraries'."""
    return {thread.native_id: thread.name for thread in threads if thread.native_id is not None}
