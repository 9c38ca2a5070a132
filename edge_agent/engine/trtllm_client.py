"""The agent's side of the TensorRT-LLM worker: a child process, requests in, answers out, and its death told.

One thread reads the worker's answers and gives each to whoever waits for it; another keeps the last lines of
what the worker and its libraries print. Garbage, silence and death all end in `EngineError` for everybody who
waits; the worker is not restarted here, whoever opened the engine decides what serves next.

A worker that hangs does not read either, and a sound is larger than a pipe: writing has a time-out, too.
"""

from __future__ import annotations

import collections
import itertools
import logging
import os
import select
import signal
import subprocess
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.engine import trtllm_protocol as protocol
from edge_agent.engine.memory_care import is_out_of_memory
from edge_agent.errors import EngineError, EngineLoadFailed, OutOfMemory

log = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("trtllm_worker.py")
_HELLO_TIMEOUT_S = 180.0
"""Importing TensorRT-LLM with PyTorch from a cold disk."""
_OPEN_TIMEOUT_S = 300.0
_JOB_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 5.0
_KEPT_LINES = 20
INHERITED = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "TMPDIR")
"""The worker gets no more of the agent's environment than this: no secrets, no Python settings."""


class WorkerClient:
    """A running worker. `recognise` may be called from several threads."""

    def __init__(self, python: Path, *, hello_timeout_s: float = _HELLO_TIMEOUT_S) -> None:
        """Start it and wait for its first words.

        Raises:
            EngineLoadFailed: it cannot be started, or says nothing in time.
        """
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        """Held while a message goes out: messages do not mix."""
        self._waiting: dict[int, Future[protocol.Done]] = {}
        self._numbers = itertools.count(1)
        self._greeting: Future[protocol.Hello] = Future()
        self._opened: Future[protocol.Opened] = Future()
        self._pongs: dict[int, Future[None]] = {}
        self._gone = ""
        self._said: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        try:
            self._process = subprocess.Popen(
                [str(python), "-u", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={name: os.environ[name] for name in INHERITED if name in os.environ},
                start_new_session=True,  # MPI starts helpers; they end with it
            )
        except OSError as error:
            raise EngineLoadFailed(
                f"the TensorRT-LLM worker cannot be started: {error}", remedy="run: provisioning/trtllm.sh"
            ) from error
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._threads = [
            threading.Thread(target=self._listen, name="trtllm-reader"),
            threading.Thread(target=self._drain, name="trtllm-errors"),
        ]
        for thread in self._threads:
            thread.start()
        self.environment = self._await_hello(hello_timeout_s)

    def open(self, wish: protocol.Open, *, timeout_s: float = _OPEN_TIMEOUT_S) -> None:
        """Load a model.

        Raises:
            EngineLoadFailed: the worker cannot, or does not answer in time.
        """
        try:
            self._send(wish)
            self._opened.result(timeout_s)
        except (EngineError, TimeoutError) as error:
            cause = error.cause if isinstance(error, EngineError) else f"no answer in {timeout_s:.0f} s"
            self.close()
            raise EngineLoadFailed(
                f"TensorRT-LLM cannot load {wish.directory}: {cause}", remedy="run: edge-agent engines verify"
            ) from error

    def recognise(self, job: protocol.Job, *, timeout_s: float | None = None) -> protocol.Done:
        """Run one job, by default for at most a minute; its id is given here.

        Raises:
            OutOfMemory, EngineError: the worker failed, died, talked nonsense or was silent for too long.
        """
        number = next(self._numbers)
        future: Future[protocol.Done] = Future()
        with self._lock:
            self._waiting[number] = future
        timeout_s = _JOB_TIMEOUT_S if timeout_s is None else timeout_s
        until = time.monotonic() + timeout_s
        try:
            self._send(msgspec.structs.replace(job, id=number), timeout_s)
            return future.result(max(0.0, until - time.monotonic()))
        except TimeoutError as error:
            self._give_up(number)
            raise EngineError(
                f"the TensorRT-LLM worker did not answer in {timeout_s:.0f} s", remedy="it is started again"
            ) from error
        finally:
            with self._lock:
                self._waiting.pop(number, None)

    def ping(self, timeout_s: float) -> bool:
        """Whether the worker answers."""
        number = next(self._numbers)
        future = self._pongs[number] = Future()
        try:
            self._send(protocol.Ping(number=number), timeout_s)
            future.result(timeout_s)
        except (EngineError, TimeoutError):
            return False
        finally:
            self._pongs.pop(number, None)
        return True

    def close(self) -> None:
        """End the worker and the threads."""
        try:
            self._send(protocol.Stop())
        except (EngineError, TimeoutError):
            log.debug("the worker was gone before it was told to stop")
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.warning("the TensorRT-LLM worker does not stop and is killed")
        self._kill()
        self._process.wait(_END_TIMEOUT_S)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_END_TIMEOUT_S)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _kill(self) -> None:
        """End the worker and whatever it started; also what it left behind when it ended by itself."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _await_hello(self, timeout_s: float) -> protocol.Environment:
        try:
            return self._greeting.result(timeout_s).environment
        except (EngineError, TimeoutError) as error:
            cause = error.cause if isinstance(error, EngineError) else f"it said nothing in {timeout_s:.0f} s"
            self._kill()
            self.close()
            raise EngineLoadFailed(
                f"the TensorRT-LLM worker cannot be used: {cause}", remedy="run: provisioning/trtllm.sh"
            ) from error

    def _send(self, message: protocol.Request, timeout_s: float | None = None) -> None:
        """TimeoutError when the worker takes nothing for so long; half a message is the end of the worker."""
        if self._gone:
            raise EngineError(self._gone, remedy="it is started again")
        until = time.monotonic() + (_END_TIMEOUT_S if timeout_s is None else timeout_s)
        if not self._writing.acquire(timeout=max(0.0, until - time.monotonic())):
            raise TimeoutError
        try:
            self._write(protocol.frame(message), until)
        except TimeoutError:
            self._kill()
            raise
        except (OSError, ValueError) as error:
            raise EngineError(
                f"the TensorRT-LLM worker is gone: {error}", remedy="it is started again"
            ) from error
        finally:
            self._writing.release()

    def _write(self, data: bytes, until: float) -> None:
        """All of it, or TimeoutError at the monotonic time `until`."""
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLOUT)
        rest = memoryview(data)
        while rest:
            if not poll.poll(1e3 * max(0.0, until - time.monotonic())):
                raise TimeoutError
            with suppress(BlockingIOError):  # ready for less than a page
                rest = rest[os.write(pipe, rest) :]

    def _give_up(self, number: int) -> None:
        """A silent worker may hold the card for ever: ask it to drop the job, and see whether it is there."""
        try:
            self._send(protocol.Cancel(id=number))
        except EngineError:
            return
        except TimeoutError:
            self._kill()
            return
        if not self.ping(_END_TIMEOUT_S):
            self._kill()

    def _listen(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        cause = "the TensorRT-LLM worker ended"
        try:
            while (reply := protocol.read_reply(stdout)) is not None:
                self._take(reply)
        except (protocol.ProtocolError, OSError, ValueError) as error:
            cause = f"the TensorRT-LLM worker talks nonsense: {error}"
            self._kill()
        said = self._said[-1] if self._said else ""
        self._fail_all(self._gone or (f"{cause} ({said})" if said else cause))

    def _take(self, reply: protocol.Reply) -> None:
        match reply:
            case protocol.Hello():
                _settle(self._greeting, reply)
            case protocol.Opened():
                _settle(self._opened, reply)
            case protocol.Pong():
                pong = self._pongs.pop(reply.number, None)
                if pong is not None:
                    pong.set_result(None)
            case protocol.Failed(id=None):
                self._fail_all(f"the TensorRT-LLM worker cannot go on: {reply.cause}")
            case protocol.Done() | protocol.Failed():
                self._resolve(reply)

    def _resolve(self, reply: protocol.Done | protocol.Failed) -> None:
        with self._lock:
            future = self._waiting.pop(reply.id or 0, None)
        if future is None:
            return  # nobody waits any more
        if isinstance(reply, protocol.Done):
            future.set_result(reply)
        elif is_out_of_memory(reply.cause):
            future.set_exception(OutOfMemory(reply.cause, remedy="choose a smaller profile"))
        else:
            future.set_exception(EngineError(f"TensorRT-LLM failed: {reply.cause}", remedy="try again"))

    def _fail_all(self, cause: str) -> None:
        with self._lock:
            self._gone = cause
            waiting: list[Future[Any]] = [*self._waiting.values(), *self._pongs.values()]
            waiting += [self._greeting, self._opened]
            self._waiting.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(EngineError(cause, remedy="it is started again"))

    def _drain(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        for line in stderr:
            text = line.decode("utf-8", "replace").strip()
            if text:
                self._said.append(text[:200])


def _settle(future: Future[Any], reply: protocol.Reply) -> None:
    """Give an answer that is given once."""
    if future.done():
        raise protocol.ProtocolError(f"{type(reply).__name__} comes twice")
    future.set_result(reply)
