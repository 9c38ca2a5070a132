"""A mosquitto of our own on loopback: for the demo, which has no broker, and for tests, which break it."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_agent.errors import BrokerUnreachable

_ANSWER_S = 10.0
# Mosquitto's defaults acknowledge what they later lose: state is saved every half hour, and the queue of an
# absent subscriber ends at 1000 messages. Not 0 (endless): with it, mosquitto 2.0.11 throws a client out for
# each message it denies.
_LOSSLESS = (
    "per_listener_settings false",
    "persistence true",
    "autosave_interval 1",
    "autosave_on_changes true",
    "max_queued_messages 1000000",
    "max_inflight_messages 20",
    "log_dest stderr",
)


class PrivateBroker:
    """Context manager: runs from `__enter__` to `__exit__`, on a free port of 127.0.0.1.

    Args:
        config: further lines for mosquitto.conf (password_file, acl_file, ...).
        listener: lines that belong to the listener (TLS files), placed after it.
        anonymous: whether clients need no login.
    """

    def __init__(
        self, *, config: Sequence[str] = (), listener: Sequence[str] = (), anonymous: bool = True
    ) -> None:
        self._config, self._listener, self._anonymous = tuple(config), tuple(listener), anonymous
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = Path()
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="edge-agent-broker-", dir=_fast_place()))
        atexit.register(self._end)
        try:
            for tries_left in (2, 1, 0):
                self.port = _free_port()
                try:
                    self.start()
                    break
                except BrokerUnreachable:  # another process may have taken the port in between
                    if not tries_left:
                        raise
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def start(self) -> None:
        """Start it (again) on the same port and data; returns once it answers.

        Raises:
            BrokerUnreachable: mosquitto is not installed or does not start.
        """
        program = _mosquitto()
        config = self.directory / "mosquitto.conf"
        config.write_text("\n".join(self._lines()) + "\n", encoding="utf-8")
        log = self.directory / "mosquitto.log"
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [*_with_us(), program, "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        deadline = time.monotonic() + _ANSWER_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if _answers(self.port):
                return
            time.sleep(0.02)
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        self.kill()
        raise BrokerUnreachable(
            f"mosquitto does not start: {said[-1] if said else 'it says nothing'}",
            remedy="run `mosquitto -v` to see why",
        )

    def kill(self) -> None:
        """End it without warning, as a crash would."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """End it politely: it says goodbye and saves its state."""
        self._signal(signal.SIGTERM)

    def restart(self) -> None:
        """Kill it if it runs, and start it again."""
        self.kill()
        self.start()

    def reload(self) -> None:
        """Make it read its password and ACL files again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        """What it said so far."""
        return (self.directory / "mosquitto.log").read_text(encoding="utf-8", errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=5)

    def _end(self) -> None:
        atexit.unregister(self._end)
        self.stop()
        if self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)

    def _lines(self) -> list[str]:
        lines = [*_LOSSLESS, f"persistence_location {self.directory}/"]
        if os.geteuid() == 0:
            lines.append(f"user {pwd.getpwuid(0).pw_name}")  # it would give up root and lose its directory
        lines += self._config
        lines += [f"allow_anonymous {'true' if self._anonymous else 'false'}"]
        return [*lines, f"listener {self.port} 127.0.0.1", *self._listener]


def _mosquitto() -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    found = shutil.which("mosquitto", path=path)
    if found is None:
        raise BrokerUnreachable("mosquitto is not installed", remedy="run: sudo apt-get install mosquitto")
    return found


def _with_us() -> list[str]:
    """A prefix that ends the broker when this process dies, however it dies."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "TERM", "--"] if found else []


def _fast_place() -> str | None:
    """Memory, where there is some: what it saves must outlive its own crash, not the machine's."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - mkdtemp makes it private


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
