"""A known recording through the real engine while nobody speaks, so that deafness is noticed in time.

A box in a quiet room decodes nothing for hours; an engine that answers nonsense would be found by the next
customer. When the words of the recording do not come out twice in a row, the engine is replaced like one that
failed.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from edge_agent.selftest import examine
from edge_agent.spare import Spares
from edge_agent.types import PcmFloat
from edge_agent.work import Work

_log = logging.getLogger(__name__)

_IDLE_S = 900.0
_AGAIN_S = 30.0
"""After words that did not come out: soon, to tell a hiccup from a fault."""
_READ_TIMEOUT_S = 20.0
_READ = "import sys; from edge_agent.selftest import clip; sys.stdout.buffer.write(clip().tobytes())"


class Canary:
    """Called once a second by the main thread; decodes on the scribe's.

    Args:
        work: where errands for idle times go.
        spares: the engine.
        sound: reads the recording, float32[samples] at 16 kHz; None: not yet, ask again; empty: it cannot be.
        idle_s: seconds without any decode after which it sings.
    """

    def __init__(
        self,
        work: Work,
        spares: Spares,
        *,
        sound: Callable[[], PcmFloat | None] | None = None,
        idle_s: float = _IDLE_S,
    ) -> None:
        self._work, self._spares, self._read, self._idle_s = work, spares, sound or Recording(), idle_s
        self._sound: PcmFloat | None = None
        self._spent_s = -1.0
        self._quiet_ns = 0
        self._wrong = 0
        self._sings = False
        self.passed = 0
        """Times the words came out."""

    def tick(self, now_ns: int) -> None:
        """Sing when nothing was decoded for long enough."""
        if self._sings:
            return
        if self._spares.spent_s != self._spent_s:
            self._spent_s, self._quiet_ns = self._spares.spent_s, now_ns
        elif now_ns - self._quiet_ns >= (_AGAIN_S if self._wrong else self._idle_s) * 1e9:
            if self._sound is None:
                self._sound = self._read()
            if self._sound is None:
                return
            self._quiet_ns = now_ns
            if len(self._sound):
                self._sings = True
                self._work.errand(self._sing)

    def _sing(self) -> None:
        assert self._sound is not None
        try:
            wrong, _ = examine(self._spares, self._spares.recogniser.options, self._sound)
        finally:
            self._sings = False
        if not wrong:
            self._wrong = 0
            self.passed += 1
            return
        self._wrong += 1
        _log.error("canary", extra={"why": wrong, "in_a_row": self._wrong})
        if self._wrong > 1 and self._spares.distrust(wrong):
            self._wrong = 0


class Recording:
    """Read once, by a process of its own: the library that reads recordings takes 18 MB, and would stay.

    Called again until it is there, because the main thread must not wait for it.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._output = -1
        self._until_s = 0.0

    def __call__(self) -> PcmFloat | None:
        """float32[samples] at 16 kHz; None while it is being read, empty when it cannot be."""
        try:
            if self._process is None:
                self._begin()
                return None
            if self._process.poll() is None:
                if time.monotonic() < self._until_s:
                    return None
                self._process.kill()
                self._process.wait(1.0)
            return self._end()
        except (OSError, subprocess.TimeoutExpired) as error:
            _log.warning("no canary", extra={"why": str(error)})
            return np.zeros(0, np.float32)

    def _begin(self) -> None:
        self._output = os.memfd_create("recording", os.MFD_CLOEXEC)  # a pipe would have to be read meanwhile
        self._until_s = time.monotonic() + _READ_TIMEOUT_S
        self._process = subprocess.Popen(
            [sys.executable, "-c", _READ],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.DEVNULL,
        )

    def _end(self) -> PcmFloat:
        with os.fdopen(self._output, "rb") as file:
            file.seek(0)
            content = file.read()
        return np.frombuffer(content[: len(content) // 4 * 4], np.float32)
