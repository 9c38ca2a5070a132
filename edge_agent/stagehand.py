"""Runs one job of `backstage` in a child process, and ends it when told to or when it takes too long."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO

import msgspec

from edge_agent.backstage import Answer, Rehearse, Stage
from edge_agent.errors import FleetError

_LOOK_S = 0.2
_COMMAND = (sys.executable, "-m", "edge_agent.backstage")


class Stopped(Exception):
    """The job was ended because nobody wants it any more."""


def run(job: Stage | Rehearse, *, limit_s: float, stop: threading.Event) -> Answer:
    """The child's answer; a child that dies or hangs is an answer too.

    Raises:
        Stopped: `stop` was set meanwhile.
        FleetError: no process can be started.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as complaints:
        try:
            child = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=out, stderr=complaints)
        except OSError as error:
            raise FleetError(
                f"no process can be started ({error.strerror})", remedy="see the machine's limits"
            ) from error
        try:
            assert child.stdin is not None
            with child.stdin as pipe:
                pipe.write(msgspec.json.encode(job))
            deadline = time.monotonic() + limit_s
            while child.poll() is None:
                if stop.wait(_LOOK_S):
                    raise Stopped
                if time.monotonic() > deadline:
                    return Answer(error=f"it took longer than {limit_s:.0f} s", kind="Timeout")
        except BrokenPipeError:
            child.wait()
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
        return _answer(child.returncode, out, complaints)


def _answer(code: int, out: IO[bytes], complaints: IO[bytes]) -> Answer:
    if code < 0:
        return Answer(error=f"it died of {signal.Signals(-code).name}", kind="Died")
    out.seek(0)
    lines = out.read().splitlines()
    try:
        return msgspec.json.decode(lines[-1], type=Answer)
    except (IndexError, msgspec.DecodeError):
        complaints.seek(0)
        said = complaints.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
        return Answer(error=f"it failed: {said[-1] if said else f'exit code {code}'}", kind="Died")
