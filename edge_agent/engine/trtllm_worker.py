"""The process that holds TensorRT-LLM, run by path with the Python of its own environment.

Requests come on standard input; replies go to what was standard output, which is taken away from everybody
else first: TensorRT-LLM and MPI print there.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING or __package__:
    from edge_agent.engine import trtllm_drivers as drivers
    from edge_agent.engine import trtllm_protocol as protocol
else:
    import trtllm_drivers as drivers
    import trtllm_protocol as protocol


class Worker:
    """Reads requests until told to stop; replies may come from several threads."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self._requests, self._replies = requests, replies
        self._lock = threading.Lock()
        self._driver: drivers.Driver | None = None

    def run(self) -> int:
        """0 after a stop or the end of the requests, 1 when it cannot go on."""
        try:
            environment = drivers.environment()
            self.say(protocol.Hello(environment=environment))
            while (request := protocol.read_request(self._requests)) is not None:
                if isinstance(request, protocol.Stop):
                    break
                self._serve(request, environment)
        except (*drivers.FAULTS, MemoryError, protocol.ProtocolError) as error:
            self.say(protocol.Failed(cause=_line(error)))
            return 1
        finally:
            if self._driver is not None:
                self._driver.close()
        return 0

    def say(self, reply: protocol.Reply) -> None:
        """Send a reply; any thread."""
        with self._lock:
            self._replies.write(protocol.frame(reply))
            self._replies.flush()

    def _serve(self, request: protocol.Request, environment: protocol.Environment) -> None:
        match request:
            case protocol.Ping():
                self.say(protocol.Pong(number=request.number))
            case protocol.Open():
                self._driver = drivers.open_driver(environment.driver, request, self.say)
                self.say(protocol.Opened())
            case protocol.Job():
                self._submit(request)
            case protocol.Cancel() if self._driver is not None:
                self._driver.cancel(request.id)

    def _submit(self, job: protocol.Job) -> None:
        if self._driver is None:
            self.say(protocol.Failed(id=job.id, cause="no model is open"))
            return
        try:
            self._driver.submit(job)
        except (*drivers.FAULTS, MemoryError) as error:
            self.say(protocol.Failed(id=job.id, cause=_line(error)))


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def main() -> int:
    """Take standard output for the replies and give everybody else standard error."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return Worker(sys.stdin.buffer, replies).run()


if __name__ == "__main__":
    sys.exit(main())
