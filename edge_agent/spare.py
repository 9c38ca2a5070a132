"""An engine with spares behind it: one retry smaller, then the fallback profile, each step told.

It is an Engine itself, so the scribe does not know. A decode that fails once is the scribe's to repeat; when
the repetition fails too, the engine is closed and the next level is opened and asked the same. After a time
without trouble the configured one is tried again, ever more rarely when that keeps failing. The degrade
ladder asks for the fallback too, when a smaller model is to catch up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import msgspec

from edge_agent.clock import Clock
from edge_agent.errors import BadOutput, ConfigError, EdgeAgentError, EngineError
from edge_agent.opening import Recogniser
from edge_agent.supervise import Budget, Level
from edge_agent.types import DecodeOptions, EngineInfo, Hypothesis, PcmFloat

_log = logging.getLogger(__name__)

_ORDER: dict[Level, tuple[Level, ...]] = {0: (0, 1, 2), 1: (1, 2, 0), 2: (2, 1, 0)}
"""What is tried when a level is wanted: a recogniser that can be opened beats the one that was wanted."""
_FAILURES = 2
"""Failed decodes in a row after which the engine is replaced."""
_TRY_AGAIN_S = (600.0, 1200.0, 3600.0, 21600.0)

_LONGEST_UTTERANCE_S = 30.0

Opener = Callable[[Level], Recogniser]
Answer = TypeVar("Answer")


class Spares:
    """Opens levels and keeps the current one. `transcribe` is called from one thread.

    Args:
        opener: opens a level, not yet warm; raises EdgeAgentError.
        clock: for the budget and for trying again.
        level: to begin with.
        reason: why not 0.
        busy: told before and after each call into the engine.
        smaller: the fallback has another, smaller model than the configured profile.
        first: the recogniser of `level`, when it is open already.

    Raises:
        EdgeAgentError: no level can be opened; the error is the first level's.
    """

    def __init__(
        self,
        opener: Opener,
        *,
        clock: Clock,
        level: Level = 0,
        reason: str = "",
        busy: Callable[[bool], None] = lambda _busy: None,
        smaller: bool = False,
        first: Recogniser | None = None,
    ) -> None:
        self._opener, self._clock, self._busy = opener, clock, busy
        self.smaller = smaller
        self._budget = Budget()
        self._failures = self._returns = 0
        self.spent_s = 0.0
        """Seconds the engine has worked so far."""
        self.opening = False
        """A recogniser is being opened, which takes as long as the disk takes."""
        self._fault, self._fault_reason = level, reason
        self._asked: Level = 0
        self._opened: Level = level
        self._foreign_until_ns = 0
        """Until then a draft may hold the tokens of the model before."""
        self.on_change: Callable[[Recogniser], None] = lambda _recogniser: None
        """Told after another recogniser was opened, on the thread that calls `transcribe`."""
        self.recogniser = first or self._open(level)
        self._since_ns = clock.monotonic_ns()

    @property
    def info(self) -> EngineInfo:
        """Of the current engine."""
        return self.recogniser.engine.info

    @property
    def level(self) -> Level:
        """The level that is wanted now."""
        return max(self._fault, self._asked)

    @property
    def reason(self) -> str:
        """Why recognition is not as configured, apart from what the load asked for; empty when it is."""
        return self._fault_reason

    def warm_up(self) -> None:
        """Warm the current engine; one that cannot is replaced.

        Raises:
            EngineError: none can.
        """
        while True:
            try:
                self._call(self.recogniser.engine.warm_up)
            except EngineError as error:
                if not self._replace(error):
                    raise
            else:
                return

    def ask(self, level: Level) -> None:
        """The load wants this level from the next decode on; 0 gives it back. Any thread."""
        self._asked = level

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        """Recognise with the current engine; with the next one when this one keeps failing."""
        if self._fault and self._time_to_return():
            self._returns += 1
            self._fault, self._fault_reason = 0, ""
        if self.level != self._opened:
            self._switch()
            draft = None  # its tokens may belong to another model
        if draft is not None and self._clock.monotonic_ns() < self._foreign_until_ns:
            draft = None
        while True:
            try:
                hypothesis = self._once(pcm, options, draft)
            except EngineError as error:
                self._failures += 1
                if self._failures < _FAILURES or not self._replace(error):
                    raise
                draft = None
            else:
                self._failures = 0
                return hypothesis

    def distrust(self, why: str) -> bool:
        """Replace an engine that answers, but wrongly; False when there is no other. On the same thread."""
        return self._replace(BadOutput(why, remedy="fetch the model again: edge-agent models pull --force"))

    def swap(self, opener: Opener, ready: Recogniser | None) -> Recogniser | None:
        """Serve with another recogniser from the next decode on. On the thread that calls `transcribe`.

        Args:
            opener: opens its levels from now on.
            ready: it, open and warm; the one before is answered, still open. None: the one before is closed
                first, for two in memory would be too many, and nothing is answered.

        Raises:
            EdgeAgentError: with `ready` None, when no level of it can be opened; the one before is closed.
        """
        before, self._opener = self.recogniser, opener
        self._fault, self._fault_reason, self._failures, self._returns = 0, "", 0, 0
        if ready is None:
            before.engine.close()
            self.recogniser = self._open(self.level)
        else:
            self.recogniser, self._opened = ready, 0
        self._since_ns = self._clock.monotonic_ns()
        self._foreign_until_ns = self._since_ns + int(_LONGEST_UTTERANCE_S * 1e9)
        self.on_change(self.recogniser)
        return None if ready is None else before

    def close(self) -> None:
        """Free the current engine."""
        self.recogniser.engine.close()

    def _once(self, pcm: PcmFloat, options: DecodeOptions, draft: Hypothesis | None) -> Hypothesis:
        if self._opened:
            options = msgspec.structs.replace(options, beam=self.recogniser.options.beam)
        engine = self.recogniser.engine
        return self._call(lambda: engine.transcribe(pcm, options=options, draft=draft))

    def _call(self, work: Callable[[], Answer]) -> Answer:
        began_ns = self._clock.monotonic_ns()
        self._busy(True)
        try:
            return work()
        finally:
            self._busy(False)
            self.spent_s += (self._clock.monotonic_ns() - began_ns) / 1e9

    def _time_to_return(self) -> bool:
        wait_s = _TRY_AGAIN_S[min(self._returns, len(_TRY_AGAIN_S) - 1)]
        return self._clock.monotonic_ns() - self._since_ns > wait_s * 1e9

    def _replace(self, error: EngineError) -> bool:
        """Open the next level because of an error; False when there is none, or the budget is spent."""
        if self._fault == 2 or not self._budget.spend(self._clock.monotonic_ns()):
            return False
        self._fault = 1 if self._fault == 0 else 2
        self._fault_reason = f"recognition failed: {error.cause}"
        try:
            self._switch()
        except EdgeAgentError as failed:
            _log.error("no other recogniser can be opened", extra={"cause": failed.cause})
            return False
        self._failures = _FAILURES - 1  # a fresh engine that fails at once needs no second chance
        return True

    def _switch(self) -> None:
        """Close the current engine first: two in memory at once may be what broke the first."""
        self.recogniser.engine.close()
        self.recogniser = self._open(self.level)
        self._failures = 0
        self._since_ns = self._clock.monotonic_ns()
        profile = self.recogniser.choice.profile.name
        _log.warning(
            "recogniser opened", extra={"spare": self._opened, "profile": profile, "why": self.reason}
        )
        self.on_change(self.recogniser)

    def _open(self, wanted: Level) -> Recogniser:
        first: EdgeAgentError | None = None
        for level in _ORDER[wanted]:
            try:
                self._busy(True)
                self.opening = True
                opened = self._opener(level)
            except ConfigError:
                raise  # no other level would make the configuration right
            except EdgeAgentError as error:
                first = first or error
                _log.error("a recogniser cannot be opened", extra={"spare": level, "cause": error.cause})
                continue
            finally:
                self._busy(False)
                self.opening = False
            if first is not None and level > self._fault:
                self._fault = level
                self._fault_reason = f"recognition as configured cannot be opened: {first.cause}"
            self._opened = self.level
            return opened
        assert first is not None
        raise first
