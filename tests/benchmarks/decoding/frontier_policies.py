"""The policies whose cost in words and in time is measured: view x guard x beam. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from edge_agent.decoding import context
from edge_agent.decoding.context import Rule, Table, View

LANGUAGES = ("en", "de", "es", "fr", "zh")
_NEVER = -99.0
_CHAINS: dict[View, tuple[View, ...]] = {
    "short": ("long", "padded"),
    "padded": ("long", "full"),
    "long": ("padded", "full"),
    "full": (),
}
Guard: TypeAlias = Literal["none", "broken", "log-prob", "+ least word", "+ coverage", "+ both"]
GUARDS: tuple[Guard, ...] = ("none", "broken", "log-prob", "+ least word", "+ coverage", "+ both")
_BY_WORDS = ("+ coverage", "+ both")
LEAST_WORD = 0.1
UNHEARD_S = 0.6
USUAL_LOGPROB: dict[View, float] = {"short": -0.4, "padded": -0.5, "long": -0.4, "full": -0.5}


class Policy(msgspec.Struct, frozen=True):
    """One way to decode every language."""

    name: str
    table: Table
    beam: int = 1
    view: str = ""
    guard: str = ""
    words: bool = False
    """With word times, as the live path wants them; coverage is judged from them."""


def rule(view: View, guard: Guard, logprob: float | None = None) -> Rule:
    """The rule that looks at a sound in one view first and asks the given guards."""
    if guard == "none":
        return Rule(context=view, retries=(), min_logprob=_NEVER)
    threshold = USUAL_LOGPROB[view] if logprob is None else logprob
    return Rule(
        context=view,
        retries=_CHAINS[view],
        min_logprob=_NEVER if guard == "broken" else threshold,
        min_token=LEAST_WORD if guard in ("+ least word", "+ both") else 0.0,
        max_unheard_s=UNHEARD_S if guard in ("+ coverage", "+ both") else 0.0,
    )


def shipped(beam: int = 1) -> Policy:
    """What the product does."""
    return Policy(name=f"shipped, beam {beam}", table=context.shipped_table(), beam=beam, view="as shipped")


def live() -> Policy:
    """What the product does where somebody wants word times: a scoring pass more, and coverage judged."""
    return Policy(name="shipped, live", table=context.shipped_table(), view="as shipped, words", words=True)


def grid() -> list[Policy]:
    """Every view with every guard, greedy and at beam 5."""
    made = [shipped(1), live(), shipped(5)]
    for beam in (1, 5):
        for view in _CHAINS:
            for guard in GUARDS if view != "full" else ("none",):
                made.append(
                    Policy(
                        name=f"{view}, {guard}, beam {beam}",
                        table=Table(default=rule(view, guard)),
                        beam=beam,
                        view=view,
                        guard=guard,
                        words=guard in _BY_WORDS,
                    )
                )
    return made


def candidates() -> list[Policy]:
    """What a language's rule is chosen from: greedy, every view with its threshold and its guards."""
    made = [
        Policy(
            name=f"{view} {logprob:+.1f} {guard}",
            table=Table(default=rule(view, guard, logprob)),
            view=view,
            guard=guard,
            words=guard in _BY_WORDS,
        )
        for view in ("short", "padded", "long")
        for logprob in (-0.3, -0.4, -0.5, -0.7)
        for guard in ("log-prob", "+ least word", "+ coverage")
    ]
    for logprob in (-0.3, -0.35, -0.4, -0.5):
        again = Rule(context="short", retries=("padded",), padded_s=15.0, min_logprob=logprob)
        made.append(Policy(name=f"short, 15 s {logprob:+.2f}", table=Table(default=again), view="short"))
    return [*made, Policy(name="full", table=Table(default=rule("full", "none")), view="full")]
