"""The thread that brings signed bundles to serve: fetch, rehearse, swap between utterances, watch, decide.

The rules are in `edge_agent.fleet`; what is dangerous happens in child processes; here the steps are made in
order, each written down before it is taken.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from edge_agent import stagehand, trial
from edge_agent.backstage import Answer, Rehearse, Stage
from edge_agent.clock import Clock
from edge_agent.config import FleetSection
from edge_agent.errors import EdgeAgentError, FleetError
from edge_agent.fleet import activation, judge
from edge_agent.fleet.activation import Activation
from edge_agent.fleet.bundle import Bundle, Expect, Kind, Target
from edge_agent.fleet.judge import Measured, Promise
from edge_agent.fleet.keep import Keep
from edge_agent.fleet.places import KINDS
from edge_agent.fleet.turns import Turns
from edge_agent.opening import Wish, open_recogniser
from edge_agent.served import named, served, strictly
from edge_agent.shelf import Shelf
from edge_agent.spare import Opener, Spares
from edge_agent.trial import Course
from edge_agent.types import Value

_log = logging.getLogger(__name__)

STAGE_LIMIT_S = 6 * 3600.0
REHEARSAL_LIMIT_S = 300.0
_ASK_AGAIN_S = (20.0, 60.0, 300.0)
"""After a bundle could not be had: soon, then rarely."""
_TRY_AGAIN_S = 600.0
_CONNECT_LOOKS = 10
_NOT_BY_TRYING = frozenset(
    {"ModelError", "DigestMismatch", "EngineLoadFailed", "BadOutput", "ConfigError", "NoProfileFits"}
)
"""Faults of a rehearsal that the next one would meet again."""


class Parts(trial.Parts, Protocol):
    """What it needs of the running agent."""

    def changed(self) -> None:
        """Tell `up/info` and `up/config` anew. Any thread."""
        ...

    def refit(self) -> None:
        """The profile may be another one: set endpoints and partials by it. Any thread."""
        ...


class Once(Value, frozen=True):
    """A wish of its own beside the configuration's."""

    target: Target
    decided: Callable[[str], None]


class Steward:
    """`start` and `stop` from the main thread; `want`, `heard`, `facts` from any.

    Args:
        keeps: the state of each kind of bundle, as `started` left it.
        spares: serves the current ones.
        parts: of the agent.
        wish: what the configuration asks for, without the fleet.
        fleet: the [fleet] table.
        fleet_dir: where the fleet's own files are.
        clock: monotonic time.
    """

    def __init__(
        self,
        keeps: Mapping[Kind, Keep],
        *,
        spares: Spares,
        parts: Parts,
        wish: Wish,
        fleet: FleetSection,
        fleet_dir: Path,
        clock: Clock,
    ) -> None:
        self._keeps, self._spares, self._parts, self._wish = dict(keeps), spares, parts, wish
        self._fleet, self._fleet_dir, self._clock = fleet, fleet_dir, clock
        self._shelf = Shelf(wish.models_dir, fleet_dir)
        self._kind: Kind = "model"
        """Of what is being worked on."""
        self._changed = threading.Condition()
        self._stop = threading.Event()
        """What is being done is not wanted any more."""
        self._ended = self._woken = False
        self._turns = Turns(KINDS)
        self._failures: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._once: Once | None = None
        self._on_trial = trial.Trial(spares, parts, clock, stop=self._stop, ended=lambda: self._ended)
        self.heard = self._on_trial.heard
        self._thread = threading.Thread(target=self._run, name="steward", daemon=True)

    # -- any thread ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with what is wanted, or go on with what was interrupted."""
        self._thread.start()

    def want(self, fleet: FleetSection) -> None:
        """The configuration's [fleet] table may have changed; what is under way ends if its own wish did."""
        with self._changed:
            before, self._fleet = self._fleet, fleet
            for kind in KINDS:
                if named(before, kind) != named(fleet, kind) or before.mirrors != fleet.mirrors:
                    self._turns.at_once(kind)
            if named(before, self._kind) != named(fleet, self._kind):
                self._stop.set()
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        self._changed.notify_all()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End; a trial goes on after the next start."""
        with self._changed:
            self._ended = True
            self._stop.set()
            self._wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._on_trial.close()

    def install(self, target: Target, decided: Callable[[str], None], *, resumed: bool) -> str:
        """Bring a model to serve beside the configuration's wish, if that has none; see `install.Installer`.

        It is fetched once: what cannot be had now is refused, not waited for.
        """
        with self._changed:
            state, named_there = self._keeps["model"].value, self._configured("model")
            if named_there not in (None, target):
                return f"the configuration wants {named_there}; change fleet.model and fleet.model_version"
            if resumed and target not in (state.candidate, state.current):
                return state.reason or "it was given up"
            why = activation.refusal(state, target)
            if why:
                return why
            self._once = Once(target=target, decided=decided)
            self._turns.at_once("model")
            self._wake()
        return ""

    def _configured(self, kind: Kind) -> Target | None:
        return named(self._fleet, kind)

    def wanted(self, kind: Kind) -> Target | None:
        """What the configuration names, else what a command asked for."""
        once = self._once if kind == "model" else None
        return self._configured(kind) or (None if once is None else once.target)

    def facts(self) -> Mapping[str, object]:
        """For `up/info`: the model's way, and that of the other kinds below their names."""
        told = {kind: activation.report(keep.value, self.wanted(kind)) for kind, keep in self._keeps.items()}
        model: dict[str, object] = dict(told["model"])
        for kind in KINDS[1:]:
            if told[kind]["state"] != "none" or told[kind]["current"]:
                model[kind] = told[kind]
        return {"fleet": model}

    def currents(self, candidate: Target | None = None) -> tuple[Target, ...]:
        """What serves, with a candidate in the place of its kind."""
        found = {kind: keep.value.current for kind, keep in self._keeps.items()}
        if candidate is not None:
            found[candidate.kind] = candidate
        return tuple(target for target in found.values() if target is not None)

    @property
    def _keep(self) -> Keep:
        return self._keeps[self._kind]

    # -- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._goes_on():
                once = self._once
                with suppress(stagehand.Stopped):
                    self._round()
                self._settle(once)
                self._rest()
        except Exception:  # noqa: BLE001 - the top of a thread: recognition must not end with it
            _log.exception("the steward ended; what serves goes on serving")

    def _goes_on(self) -> bool:
        with self._changed:
            if not self._ended:
                self._stop.clear()
            return not self._ended

    def _rest(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._woken, self._turns.rest_s(self._now_s()))
            self._woken = False

    def _now_s(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    def _settle(self, once: Once | None) -> None:
        """Tell whoever asked by command before this step, when it is decided."""
        state, wanted = self._keeps["model"].value, self.wanted("model")
        if once is None or self._ended or wanted == once.target == state.candidate:
            return
        if state.current == once.target:
            why = ""
        elif wanted == once.target:
            why = state.reason or "it was given up"
        else:
            why = f"the configuration wants {wanted}"
        self._once = None
        once.decided(why)

    def _round(self) -> None:
        """One step of each kind whose turn it is."""
        for kind in self._turns.due(self._now_s()):
            self._kind, wanted = kind, self.wanted(kind)
            rest_s = self._step()
            with self._changed:
                if self.wanted(kind) == wanted:
                    self._turns.had(kind, self._now_s(), rest_s)

    def _step(self) -> float:
        """One step of the way; answers how long to wait for the next."""
        wanted, state = self.wanted(self._kind), self._keep.value
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
            fleet_dir=str(self._fleet_dir),
            serving=self.currents(candidate),
            model=self._wish.model,
            profile=self._wish.profile,
            language=self._wish.language,
        )
        answer = stagehand.run(job, limit_s=STAGE_LIMIT_S, stop=self._stop)
        if answer.bundle is None:
            return self._later(answer.error)
        unready = self._unready()
        if unready:
            # A try is not spent on what would end it whatever the bundle is like.
            return self._later(f"{unready}; the trial waits", once=True)
        self._failures[self._kind] = 0
        return self._rehearse(candidate, answer.bundle)

    def _unready(self) -> str:
        """Why no trial can begin now; the broker may take seconds to come, as it does after a start."""
        if self._spares.level:
            return "recognition is not as it should be"
        for _ in range(_CONNECT_LOOKS):
            if self._parts.link().connected:
                return ""
            if self._stop.wait(1.0):
                raise stagehand.Stopped
        return "the broker is away"

    def _later(self, why: str, *, once: bool = False) -> float:
        """It cannot be had now: say why, and ask again; a command's wish ends here unless `once`."""
        wait_s = _ASK_AGAIN_S[min(self._failures[self._kind], len(_ASK_AGAIN_S) - 1)]
        self._failures[self._kind] += 1
        _log.warning("what is wanted cannot be had", extra={"kind": self._kind, "why": why})
        if self._configured(self._kind) is None and not once:
            self._write(activation.failed(self._keep.value, why, final=False))
        else:
            self._write(activation.delayed(self._keep.value, why))
        return wait_s

    def _rehearse(self, candidate: Target, bundle: Bundle) -> float:
        if not self._write(activation.rehearse(self._keep.value)):
            return _TRY_AGAIN_S
        if self._keep.value.phase != "rehearsing":
            return _TRY_AGAIN_S
        answer = self._measure(candidate, self.currents(candidate), proves=True)
        now = answer.measured
        if now is None or answer.promise is None:
            return self._failed(f"in its rehearsal {answer.error}", final=answer.kind in _NOT_BY_TRYING)
        before = self._measure(candidate, self.currents()).measured
        why = judge.rehearsal(now, before, answer.promise, bundle.expect)
        _log.info(
            "rehearsal", extra={"bundle": str(candidate), "why": why, "rtf": now.rtf, "mb": now.peak_mb}
        )
        if why:
            return self._failed(why, final=True)
        return self._trial(candidate, now, bundle.expect, answer.promise)

    def _measure(self, candidate: Target, serving: tuple[Target, ...], *, proves: bool = False) -> Answer:
        job = Rehearse(
            models_dir=str(self._wish.models_dir),
            fleet_dir=str(self._fleet_dir),
            serving=serving,
            golden_of=candidate,
            proves=proves,
            model=self._wish.model,
            profile=self._wish.profile,
            language=self._wish.language,
        )
        return stagehand.run(job, limit_s=REHEARSAL_LIMIT_S, stop=self._stop)

    def _trial(self, candidate: Target, measured: Measured, expect: Expect, promise: Promise) -> float:
        if not self._write(activation.try_out(self._keep.value)):
            return self._failed("the disk does not take its state", final=False)
        course = Course(trial_s=self._fleet.trial_min * 60, expect=expect, promise=promise)
        ours = (
            candidate.store_name
            if candidate.kind == "profile"
            else self._spares.recogniser.choice.profile.name
        )
        new = strictly(self._opener(self.currents(candidate)), ours)
        try:
            before = self._on_trial.begin(new, takes_mb=measured.peak_mb)
            self._refit()
        except EdgeAgentError as error:
            self._back()
            return self._failed(f"it cannot be opened: {error.cause}", final=False)
        try:
            verdict = self._on_trial.watch(before, course)
        except stagehand.Stopped:
            if not self._ended:
                self._back()  # another one is wanted
                self._write(activation.failed(self._keep.value, "another one is wanted", final=False))
            raise
        if verdict.why:
            self._back()
            return self._failed(verdict.why, final=verdict.final)
        self._write(activation.passed(self._keep.value))
        _log.info("a new %s serves", candidate.kind, extra={"bundle": str(candidate)})
        self._on_trial.close()
        self._clean_up()
        return 0.0

    def _back(self) -> None:
        self._on_trial.back(self._opener(self.currents()))
        self._refit()

    def _refit(self) -> None:
        if self._kind == "profile":
            self._parts.refit()

    def _opener(self, targets: tuple[Target, ...]) -> Opener:
        wanted = served(self._wish, targets, self._fleet_dir)
        return lambda level: open_recogniser(wanted, level)

    def _failed(self, why: str, *, final: bool) -> float:
        _log.warning("the new %s does not serve", self._kind, extra={"why": why})
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
        needed: list[Target | None] = []
        for kind, keep in self._keeps.items():
            state, wanted = keep.value, self.wanted(kind)
            if wanted is not None and activation.refusal(state, wanted):
                wanted = None  # it never comes
            needed += [state.current, state.previous, state.candidate, wanted]
        self._shelf.clean_up(needed)
