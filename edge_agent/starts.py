"""What earlier processes died of, kept in the runtime directory so that the next one can act on it.

The record lives in memory (tmpfs under systemd, kept over restarts, gone at boot). One byte of a mapped file
tells whether the engine is at work: it survives a crash of the process, which no log line does.
"""

from __future__ import annotations

import logging
import mmap
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_agent.clock import Clock
from edge_agent.files import write_atomically
from edge_agent.supervise import ENGINE_WINDOW_S, Death, StartPlan, plan_start
from edge_agent.types import Value

_log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MOST_DEATHS = 50
_SILENT = "it was killed or crashed"


class Record(Value, frozen=True, forbid_unknown_fields=False):
    """The file `starts.json`."""

    boot_id: str
    running: bool = False
    ended_badly: str = ""
    """Why the last process ended when nobody had asked for it."""
    deaths: tuple[Death, ...] = ()


class Starts:
    """Counts how processes of this boot ended.

    Args:
        directory: where the record is kept; it is made when missing.
        clock: monotonic time.
    """

    def __init__(self, directory: Path, clock: Clock, boot_id: str | None = None) -> None:
        self._path, self._flag_path, self._clock = directory / "starts.json", directory / "engine.busy", clock
        self._boot_id = _boot_id() if boot_id is None else boot_id
        self._record = Record(boot_id=self._boot_id)
        self.ended_badly = ""
        """After `begin`: why the last process of this boot ended when nobody had asked for it."""
        self._flag: mmap.mmap | None = None

    def begin(self) -> StartPlan:
        """Note this start; answers what it should do. A record that cannot be kept changes nothing."""
        now_ns = self._clock.monotonic_ns()
        record = self._read()
        deaths = tuple(d for d in record.deaths if 0 <= now_ns - d.at_ns < ENGINE_WINDOW_S * 1e9)
        self.ended_badly = record.ended_badly
        if record.running:
            self.ended_badly = cause = _SILENT + (" while it was decoding" if self._was_busy() else "")
            deaths = (*deaths, Death(at_ns=now_ns, cause=cause, in_engine=self._was_busy()))
        self._record = Record(boot_id=self._boot_id, running=True, deaths=deaths[-_MOST_DEATHS:])
        self._write()
        self._map_flag()
        plan = plan_start(self._record.deaths, now_ns)
        if plan.reason:
            _log.warning("the last start went wrong", extra={"why": plan.reason, "spare": plan.level})
        return plan

    def end(self, cause: str = "", *, in_engine: bool = False) -> None:
        """Note the end: without a cause it was asked for."""
        deaths = self._record.deaths
        if cause:
            deaths = (
                *deaths,
                Death(at_ns=self._clock.monotonic_ns(), cause=cause, in_engine=in_engine),
            )
        self._record = Record(boot_id=self._boot_id, ended_badly=cause, deaths=deaths[-_MOST_DEATHS:])
        self._write()

    def engine_busy(self, busy: bool) -> None:
        """Set the byte that outlives a crash; costs a store to memory."""
        if self._flag is not None:
            self._flag[0] = busy

    @property
    def engine_was_busy(self) -> bool:
        """The byte now."""
        return self._flag is not None and bool(self._flag[0])

    def _read(self) -> Record:
        try:
            record = msgspec.json.decode(self._path.read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            return self._record
        return record if record.boot_id == self._boot_id else self._record

    def _write(self) -> None:
        try:
            write_atomically(self._path, msgspec.json.encode(self._record), mode=0o600)
        except OSError as error:
            _log.warning("starts not recorded", extra={"path": str(self._path), "error": str(error)})

    def _was_busy(self) -> bool:
        try:
            return self._flag_path.read_bytes()[:1] == b"\1"
        except OSError:
            return False

    def _map_flag(self) -> None:
        with suppress(OSError):
            descriptor = os.open(self._flag_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, 1)
                self._flag = mmap.mmap(descriptor, 1)
                self._flag[0] = 0
            finally:
                os.close(descriptor)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
