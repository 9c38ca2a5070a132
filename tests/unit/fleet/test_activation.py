"""A candidate's way, with a power cut or a crash between any two steps: a working model serves, always."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.fleet import activation
from edge_agent.fleet.activation import MOST_TRIES, Activation
from edge_agent.fleet.bundle import Target

TARGETS = [Target(name=name, version=version) for name in ("a", "b") for version in (1, 2, 3)]


def begun(target: Target = TARGETS[1]) -> Activation:
    return activation.try_out(activation.rehearse(activation.want(Activation(), target)))


def test_the_straight_way() -> None:
    """Wanted, rehearsed, tried, serves; the one before is remembered."""
    state = activation.passed(begun(TARGETS[0]))
    assert (state.phase, state.current, state.previous) == ("idle", TARGETS[0], None)
    state = activation.want(state, TARGETS[1])
    assert activation.report(state, TARGETS[1])["state"] == "staging"
    state = activation.passed(activation.try_out(activation.rehearse(state)))
    assert (state.current, state.previous) == (TARGETS[1], TARGETS[0])
    assert activation.report(state, TARGETS[1])["state"] == "done"


def test_a_version_never_falls() -> None:
    """What is older than a version that served is refused with the remedy."""
    state = activation.passed(begun(TARGETS[1]))
    assert "older than 2" in activation.want(state, TARGETS[0]).reason
    assert activation.want(state, TARGETS[0]).current == TARGETS[1]


def test_a_crash_in_the_trial_ends_it() -> None:
    """The next process serves what served before and says why."""
    state = activation.started(begun(), "the process was killed")
    assert (state.phase, state.candidate) == ("idle", None)
    assert activation.report(state, TARGETS[1])["state"] == "failed"
    assert "killed" in state.reason


def test_what_is_final_is_not_tried_again() -> None:
    """A regression stays a regression: the same bundle is refused from then on."""
    state = activation.failed(begun(), "too slow", final=True)
    assert activation.want(state, TARGETS[1]).reason == "too slow"
    assert activation.want(state, TARGETS[2]).phase == "staging"


def test_three_tries_ever() -> None:
    """Whatever ends the tries, there is no fourth one."""
    state = Activation()
    for _ in range(MOST_TRIES):
        state = activation.started(activation.try_out(_rehearsed(state)), "it crashed")
    refused = activation.want(state, TARGETS[1])
    assert refused.phase == "idle"
    assert "crashed" in refused.reason


def _rehearsed(state: Activation) -> Activation:
    return activation.rehearse(activation.want(state, TARGETS[1]))


class Device(RuleBasedStateMachine):
    """A device that is asked for anything, at whose plug somebody pulls."""

    @initialize()
    def fresh(self) -> None:
        self.disk = Activation()
        self.rehearsals: dict[str, int] = {}
        self.passed_once: set[Target | None] = {None}
        self.newest: dict[str, int] = {}

    def write(self, state: Activation) -> None:
        self.disk = msgspec.json.decode(msgspec.json.encode(state), type=Activation)

    @rule(wanted=st.sampled_from(TARGETS))
    def want(self, wanted: Target) -> None:
        self.write(activation.want(self.disk, wanted))

    @precondition(lambda self: self.disk.phase == "staging")
    @rule()
    def cannot_be_had(self) -> None:
        self.write(activation.delayed(self.disk, "no mirror"))

    @precondition(lambda self: self.disk.phase == "staging")
    @rule()
    def rehearse(self) -> None:
        state = activation.rehearse(self.disk)
        if state.phase == "rehearsing":
            name = str(state.candidate)
            self.rehearsals[name] = self.rehearsals.get(name, 0) + 1
        self.write(state)

    @precondition(lambda self: self.disk.phase == "rehearsing")
    @rule()
    def try_out(self) -> None:
        self.write(activation.try_out(self.disk))

    @precondition(lambda self: self.disk.phase == "trial")
    @rule()
    def passes(self) -> None:
        candidate = self.disk.candidate
        assert candidate is not None
        self.passed_once.add(candidate)
        assert candidate.version >= self.newest.get(candidate.name, 0)
        self.newest[candidate.name] = candidate.version
        self.write(activation.passed(self.disk))

    @precondition(lambda self: self.disk.candidate is not None and self.disk.phase != "staging")
    @rule(final=st.booleans())
    def fails(self, final: bool) -> None:
        self.write(activation.failed(self.disk, "bad", final=final))

    @rule(cause=st.sampled_from(["", "it crashed"]))
    def cut(self, cause: str) -> None:
        serving_then = self.disk.current
        self.write(activation.started(self.disk, cause))
        assert self.disk.phase in ("idle", "staging")
        assert self.disk.current == serving_then

    @rule()
    def damaged(self) -> None:
        self.write(activation.demoted(self.disk, "damaged"))

    @invariant()
    def what_a_start_serves_has_passed_its_trial(self) -> None:
        assert self.disk.current in self.passed_once
        assert self.disk.previous in self.passed_once

    @invariant()
    def nobody_gets_a_fourth_try(self) -> None:
        assert all(count <= MOST_TRIES for count in self.rehearsals.values())

    @invariant()
    def a_candidate_is_there_exactly_when_it_is_on_its_way(self) -> None:
        assert (self.disk.candidate is None) == (self.disk.phase == "idle")


TestDevice = Device.TestCase


@given(st.sampled_from(TARGETS), st.sampled_from(TARGETS))
def test_the_report_always_has_a_word(first: Target, second: Target) -> None:
    """Whatever is wanted, the fleet reads one of the known words."""
    state = activation.want(activation.passed(begun(first)), second)
    known = {"none", "waiting", "staging", "rehearsing", "trial", "done", "failed"}
    assert activation.report(state, second)["state"] in known
    assert activation.report(state, None)["state"] == "none"
