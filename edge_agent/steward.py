"""The thread that brings signed models to serve: fetch, rehearse, swap between utterances, watch, decide.

The rules are in `edge_agent.fleet`; what is dangerous happens in child processes; here the steps are made in
order, each written down before it is taken.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from edge_agent import stagehand, trial
from edge_agent.backstage import Rehearse, Stage
from edge_agent.clock import Clock
from edge_agent.config import FleetSection
from edge_agent.errors import EdgeAgentError, FleetError
from edge_agent.fleet import activation, judge
from edge_agent.fleet.activation import Activation
from edge_agent.fleet.bundle import Bundle, Expect, Target
from edge_agent.fleet.judge import Measured, Promise
from edge_agent.fleet.keep import Keep
from edge_agent.opening import Wish, open_recogniser
from edge_agent.spare import Opener, Spares
from edge_agent.trial import Course
from edge_agent.types import Value

_log = logging.getLogger(__name__)

STAGE_LIMIT_S = 6 * 3600.0
REHEARSAL_LIMIT_S = 300.0
_ASK_AGAIN_S = (20.0, 60.0, 300.0)
"""After a bundle could not be had: soon, then rarely."""
_TRY_AGAIN_S = 600.0
_NOT_BY_TRYING = frozenset({"ModelError", "DigestMismatch", "EngineLoadFailed", "BadOutput"})
"""Faults of a rehearsal that the next one would meet again."""


class Parts(trial.Parts, Protocol):
    """What it needs of the running agent."""

    def changed(self) -> None:
        """Tell `up/info` and `up/config` anew. Any thread."""
        ...


class Once(Value, frozen=True):
    """A wish of its own beside the configuration's."""

    target: Target
    decided: Callable[[str], None]


class Steward:
    """`start` and `stop` from the main thread; `want`, `heard`, `facts` from any.

    Args:
        keep: the state, as `started` left it.
        spares: serves the current model.
        parts: of the agent.
        wish: what the configuration asks for, without the fleet.
        fleet: the [fleet] table.
        seen_dir: of the signed lists.
        clock: monotonic time.
    """

    def __init__(
        self,
        keep: Keep,
        *,
        spares: Spares,
        parts: Parts,
        wish: Wish,
        fleet: FleetSection,
        seen_dir: Path,
        clock: Clock,
    ) -> None:
        self._keep, self._spares, self._parts, self._wish = keep, spares, parts, wish
        self._fleet, self._seen_dir, self._clock = fleet, seen_dir, clock
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._ended = False
        self._failures = 0
        self._once: Once | None = None
        self._on_trial = trial.Trial(spares, parts, clock, stop=self._stop, ended=lambda: self._ended)
        self.heard = self._on_trial.heard
        self._thread = threading.Thread(target=self._run, name="steward", daemon=True)

    # -- any thread ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with what is wanted, or go on with what was interrupted."""
        self._thread.start()

    def want(self, fleet: FleetSection) -> None:
        """The configuration's [fleet] table has changed."""
        with self._changed:
            if fleet != self._fleet:
                self._fleet = fleet
                self._stop.set()  # whatever is being done for the one before
                self._changed.notify_all()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End; a trial goes on after the next start."""
        with self._changed:
            self._ended = True
            self._stop.set()
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._on_trial.close()

    def install(self, target: Target, decided: Callable[[str], None], *, resumed: bool) -> str:
        """Bring a model to serve beside the configuration's wish, if that has none; see `install.Installer`.

        It is fetched once: what cannot be had now is refused, not waited for.
        """
        with self._changed:
            state, named_there = self._keep.value, self._configured
            if named_there not in (None, target):
                return f"the configuration wants {named_there}; change fleet.model and fleet.model_version"
            if resumed and target not in (state.candidate, state.current):
                return state.reason or "it was given up"
            why = activation.refusal(state, target)
            if why:
                return why
            self._once = Once(target=target, decided=decided)
            if state.candidate != target:
                self._stop.set()
                self._changed.notify_all()
        return ""

    @property
    def _configured(self) -> Target | None:
        fleet = self._fleet
        if not (fleet.model and fleet.model_version):
            return None
        return Target(name=fleet.model, version=fleet.model_version)

    @property
    def wanted(self) -> Target | None:
        """What the configuration names, else what a command asked for."""
        once = self._once
        return self._configured or (None if once is None else once.target)

    def facts(self) -> Mapping[str, object]:
        """For `up/info`."""
        return {"fleet": activation.report(self._keep.value, self.wanted)}

    # -- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._goes_on():
                once, rest_s = self._once, 0.0
                with suppress(stagehand.Stopped):
                    rest_s = self._step()
                self._settle(once)
                self._rest(rest_s)
        except Exception:  # noqa: BLE001 - the top of a thread: recognition must not end with it
            _log.exception("the steward ended; what serves goes on serving")

    def _goes_on(self) -> bool:
        with self._changed:
            if not self._ended:
                self._stop.clear()
            return not self._ended

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(self._stop.is_set, seconds)

    def _settle(self, once: Once | None) -> None:
        """Tell whoever asked by command before this step, when it is decided."""
        state = self._keep.value
        if once is None or self._ended or self.wanted == once.target == state.candidate:
            return
        if state.current == once.target:
            why = ""
        elif self.wanted == once.target:
            why = state.reason or "it was given up"
        else:
            why = f"the configuration wants {self.wanted}"
        self._once = None
        once.decided(why)

    def _step(self) -> float:
        """One step of the way; answers how long to wait for the next."""
        wanted, state = self.wanted, self._keep.value
        if wanted is None:
            self._write(activation.dropped(state))
            return _TRY_AGAIN_S
        if wanted != state.candidate:
            self._write(activation.want(state, wanted))
            if self._keep.value.candidate is None:
                self._clean_up()
                return _TRY_AGAIN_S
        try:
            return self._stage()
        except FleetError as error:
            return self._later(str(error))

    def _stage(self) -> float:
        candidate = self._keep.value.candidate
        assert candidate is not None
        job = Stage(
            target=candidate,
            root_file=self._fleet.root_file,
            mirrors=self._fleet.mirrors,
            models_dir=str(self._wish.models_dir),
            seen_dir=str(self._seen_dir),
            profile=self._wish.profile,
            language=self._wish.language,
        )
        answer = stagehand.run(job, limit_s=STAGE_LIMIT_S, stop=self._stop)
        if answer.bundle is None:
            return self._later(answer.error)
        if not self._parts.link().connected:
            # A try is not spent on an outage, which would end it whatever the model is like.
            return self._later("the broker is away; the trial waits for it", once=True)
        self._failures = 0
        return self._rehearse(candidate, answer.bundle)

    def _later(self, why: str, *, once: bool = False) -> float:
        """It cannot be had now: say why, and ask again; a command's wish ends here unless `once`."""
        wait_s = _ASK_AGAIN_S[min(self._failures, len(_ASK_AGAIN_S) - 1)]
        self._failures += 1
        _log.warning("the wanted model cannot be had", extra={"why": why})
        if self._configured is None and not once:
            self._write(activation.failed(self._keep.value, why, final=False))
        else:
            self._write(activation.delayed(self._keep.value, why))
        return wait_s

    def _rehearse(self, candidate: Target, bundle: Bundle) -> float:
        if not self._write(activation.rehearse(self._keep.value)):
            return _TRY_AGAIN_S
        if self._keep.value.phase != "rehearsing":
            return _TRY_AGAIN_S
        now, error, kind = self._measure(candidate, candidate.store_name)
        if now is None:
            return self._failed(f"in its rehearsal {error}", final=kind in _NOT_BY_TRYING)
        current = self._keep.value.current
        before, _, _ = self._measure(candidate, self._wish.model if current is None else current.store_name)
        why = judge.rehearsal(now, before, self._promise(), bundle.expect)
        _log.info("rehearsal", extra={"model": str(candidate), "why": why, "rtf": now.rtf, "mb": now.peak_mb})
        if why:
            return self._failed(why, final=True)
        return self._trial(candidate, now, bundle.expect)

    def _measure(self, candidate: Target, model: str) -> tuple[Measured | None, str, str]:
        job = Rehearse(
            models_dir=str(self._wish.models_dir),
            model=model,
            golden_of=candidate,
            profile=self._wish.profile,
            language=self._wish.language,
        )
        answer = stagehand.run(job, limit_s=REHEARSAL_LIMIT_S, stop=self._stop)
        return answer.measured, answer.error, answer.kind

    def _promise(self) -> Promise:
        profile = self._spares.recogniser.choice.profile
        return Promise(rtf_max=profile.expect.rtf_max, ram_max_mb=profile.limits.ram_max_mb)

    def _trial(self, candidate: Target, measured: Measured, expect: Expect) -> float:
        if not self._write(activation.try_out(self._keep.value)):
            return self._failed("the disk does not take its state", final=False)
        back = opener(self._wish, self._keep.value.current)
        course = Course(trial_s=self._fleet.trial_min * 60, expect=expect, promise=self._promise())
        try:
            before = self._on_trial.begin(opener(self._wish, candidate), takes_mb=measured.peak_mb)
        except EdgeAgentError as error:
            self._on_trial.back(back)
            return self._failed(f"it cannot be opened: {error.cause}", final=False)
        try:
            verdict = self._on_trial.watch(before, course)
        except stagehand.Stopped:
            if not self._ended:
                self._on_trial.back(back)  # another one is wanted
                self._write(activation.failed(self._keep.value, "another one is wanted", final=False))
            raise
        if verdict.why:
            self._on_trial.back(back)
            return self._failed(verdict.why, final=verdict.final)
        self._write(activation.passed(self._keep.value))
        _log.info("a new model serves", extra={"model": str(candidate)})
        self._on_trial.close()
        self._clean_up()
        return 0.0

    def _failed(self, why: str, *, final: bool) -> float:
        _log.warning("the new model does not serve", extra={"why": why})
        self._write(activation.failed(self._keep.value, why, final=final))
        return _TRY_AGAIN_S

    # -- what is written and what is left -----------------------------------------------------------------

    def _write(self, state: Activation) -> bool:
        told = self._keep.value
        written = self._keep.write(state)
        if self._keep.value != told:
            self._parts.changed()
        return written

    def _clean_up(self) -> None:
        state, wanted = self._keep.value, self.wanted
        if wanted is not None and activation.refusal(state, wanted):
            wanted = None  # it never comes
        clean_up(self._wish.models_dir, (state.current, state.previous, state.candidate, wanted))


def clean_up(models_dir: Path, needed: Sequence[Target | None]) -> None:
    """Remove versions and half-fetched bundles that no step needs any more."""
    names = {target.store_name for target in needed if target is not None}
    for home in models_dir.glob("*.v*"):
        if (home / "bundle").is_dir() and home.name not in names:
            shutil.rmtree(home, ignore_errors=True)
    for place in (models_dir / ".fleet").glob("*"):
        if place.name not in names:
            shutil.rmtree(place, ignore_errors=True)


def named(wish: Wish, target: Target | None) -> Wish:
    """The wish for a fleet's model; without one the configuration's own."""
    return wish if target is None else msgspec.structs.replace(wish, model=target.store_name)


def opener(wish: Wish, target: Target | None) -> Opener:
    """Opens its levels."""
    wanted = named(wish, target)
    return lambda level: open_recogniser(wanted, level)
