"""The fuzz run as a test: short in every run, long when asked for."""

from __future__ import annotations

import os
import random

import pytest

from tests.fault.fuzz import hammer

TARGETS = ("commands", "config", "bridge", "topics")
SECONDS = int(os.environ.get("EDGE_AGENT_FUZZ_S", "300"))


@pytest.mark.parametrize("target", TARGETS)
def test_some_thousand_inputs_raise_nothing(target: str) -> None:
    """A new seed each time, printed; the script repeats it."""
    assert hammer(target, 3000, 20, random.SystemRandom().randrange(2**32)) == 0


@pytest.mark.faults
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("target", TARGETS)
def test_ten_million_inputs_or_minutes_of_them_raise_nothing(target: str) -> None:
    """As python -m tests.fault.fuzz --inputs 10000000 --record; EDGE_AGENT_FUZZ_S: for how long at most."""
    chance = random.SystemRandom().randrange(2**32)
    assert hammer(target, 10_000_000, SECONDS, chance, written=True) == 0
