"""A bad network between agent and broker: a TCP proxy that delays, cuts, falls silent and comes back."""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Literal

State = Literal["open", "offline", "silent"]


@dataclass(frozen=True)
class Link:
    """What a link does to the bytes on the way up; those on the way down only take a moment.

    Delays are those of the whole round. A lost segment shows itself to TCP's users as a pause.
    """

    name: str
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    """Share of segments that come one more round later."""
    resets: float = 0.0
    """Share of segments at which the connection is reset."""


# Azure's connectivity tests: offline, satellite and 3G.
SATELLITE = Link("satellite", delay_s=0.6, jitter_s=0.05, loss=0.02, resets=0.02)
MOBILE = Link("3G", delay_s=0.1, jitter_s=0.01)


class Proxy:
    """Context manager; listens on `port` of an address of this machine and forwards to another of 127.0.0.1.

    `state` may be set at any time: "open"; "offline": connections are reset, new ones too; "silent":
    connections are accepted and kept, and nothing is forwarded.
    """

    def __init__(self, to_port: int, link: Link, seed: int = 0, *, host: str = "127.0.0.1") -> None:
        self.connections = self.reset_connections = 0
        self._to, self._link, self._dice = to_port, link, random.Random(seed)
        self._state: State = "open"
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0))
        self._host = host
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """For the agent."""
        return f"mqtt://{self._host}:{self.port}"

    def __enter__(self) -> Proxy:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._reset_all()
        for thread in self._threads:
            thread.join(5)

    @property
    def state(self) -> State:
        """How the link is."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        if state == "offline":
            self._reset_all()

    def _start(self, work: object, *given: object) -> None:
        thread = threading.Thread(target=work, args=given, name="proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._state == "offline":
                _reset(near)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._to), timeout=5)
            except OSError:
                _reset(near)
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._ends |= {near, far}
            for source, sink, slow in ((near, far, True), (far, near, False)):
                waiting: queue.Queue[tuple[float, bytes]] = queue.Queue()
                self._start(self._read, source, sink, waiting, slow)
                self._start(self._write, sink, waiting)

    def _read(
        self,
        source: socket.socket,
        sink: socket.socket,
        waiting: queue.Queue[tuple[float, bytes]],
        slow: bool,
    ) -> None:
        link, due = self._link, 0.0
        while True:
            try:
                data = source.recv(1460)
            except OSError:
                data = b""
            if not data:
                break
            if self._state == "silent":
                continue
            pause = 0.0
            if slow:
                if self._dice.random() < link.resets:
                    self.reset_connections += 1
                    self._reset(source, sink)
                    break
                pause = max(0.0, self._dice.gauss(link.delay_s, link.jitter_s / 2))
                pause += link.delay_s if self._dice.random() < link.loss else 0.0
            due = max(due, time.monotonic() + pause)  # bytes do not overtake each other
            waiting.put((due, data))
        waiting.put((0.0, b""))

    def _write(self, sink: socket.socket, waiting: queue.Queue[tuple[float, bytes]]) -> None:
        while True:
            due, data = waiting.get()
            if not data:
                break
            time.sleep(max(0.0, due - time.monotonic()))
            if self._state == "silent":
                continue
            try:
                sink.sendall(data)
            except OSError:
                break
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def _reset(self, *ends: socket.socket) -> None:
        with self._lock:
            self._ends -= set(ends)
        for end in ends:
            _reset(end)

    def _reset_all(self) -> None:
        with self._lock:
            ends = tuple(self._ends)
        self._reset(*ends)


def _reset(end: socket.socket) -> None:
    """Close without a word of farewell: the other side gets RST; who waits in recv() wakes up."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RD)
    end.close()
