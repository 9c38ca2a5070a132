"""The fuzz run as a test: short in every run, long when asked for."""

from __future__ import annotations

import random

import pytest

from tests.fault.fuzz import hammer

TARGETS = ("commands", "config", "bridge", "topics")


@pytest.mark.parametrize("target", TARGETS)
def test_some_thousand_inputs_raise_nothing(target: str) -> None:
    """A new seed each time, printed; the script repeats it."""
    assert hammer(target, 3000, 20, random.SystemRandom().randrange(2**32)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_two_hundred_thousand_inputs_raise_nothing(target: str) -> None:
    """More: python -m tests.fault.fuzz --inputs 10000000."""
    assert hammer(target, 200_000, 250, random.SystemRandom().randrange(2**32)) == 0
