"""Run inside the sandbox: tries what the agent never needs, prints what was denied as one JSON line."""

from __future__ import annotations

import ctypes
import json
import os
import socket
from pathlib import Path


def attempt(work: object) -> str:
    """ "allowed", or why not."""
    try:
        work()
    except (OSError, PermissionError) as error:
        return type(error).__name__ if error.errno is None else os.strerror(error.errno)
    return "allowed"


def libc_call(name: str, *arguments: object) -> None:
    """A call of the C library that raises on failure."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def write(path: str) -> None:
    Path(path).write_text("x")


ATTEMPTS = {
    "write /etc": lambda: write("/etc/edge-agent/probe"),
    "write /usr": lambda: write("/usr/bin/probe"),
    "write /opt": lambda: write("/opt/probe"),
    "write /var/lib": lambda: write("/var/lib/probe"),
    "read /root": lambda: list(Path("/root").iterdir()),
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "bluetooth socket": lambda: socket.socket(31, socket.SOCK_RAW),
    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "new namespace": lambda: libc_call("unshare", 0x10000000),
    "mount": lambda: libc_call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "set the clock": lambda: libc_call("settimeofday", ctypes.byref((ctypes.c_long * 2)(0, 0)), None),
    "real-time scheduling": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "become root": lambda: os.setuid(0),
    "kernel log": lambda: Path("/dev/kmsg").read_bytes(),
    "other processes": lambda: Path("/proc/1/exe").readlink(),
    "write state": lambda: write(f"{os.environ['STATE_DIRECTORY']}/probe"),
    "write runtime": lambda: write(f"{os.environ['RUNTIME_DIRECTORY']}/probe"),
    "write /tmp": lambda: write("/tmp/probe"),
    "internet socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
}

if __name__ == "__main__":
    print("PROBE " + json.dumps({name: attempt(work) for name, work in ATTEMPTS.items()}), flush=True)
