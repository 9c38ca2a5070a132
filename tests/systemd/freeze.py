"""Stops one thread of another process until that process ends, as a hang in a driver would: ptrace(2).

SIGSTOP would stop them all. Usage: freeze.py TID. Prints "frozen" when it is.
"""

from __future__ import annotations

import ctypes
import os
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000

if __name__ == "__main__":
    thread = int(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if libc.ptrace(request, thread, None, None) < 0:
            sys.exit(os.strerror(ctypes.get_errno()))
    os.waitpid(thread, WALL)
    print("frozen", flush=True)
    while True:  # it never goes on; its end is to be reaped by us, or its process would stay for ever
        _, status = os.waitpid(thread, WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            sys.exit(0)
