"""What the configuration and the profile mean to the parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent import config
from edge_agent.audio.segment import EndpointConfig
from edge_agent.meaning import endpoint_config, gate_config, partial_config, wake_model
from edge_agent.profile.load import load_all

PROFILE = load_all()["cpu-avx2"].profile


def endpoint(*settings: str) -> EndpointConfig:
    return endpoint_config(config.load(None, [f"endpoint.{setting}" for setting in settings]), PROFILE)


@pytest.mark.parametrize(
    ("mode", "silence_ms", "adaptive"),
    [
        ("", 600, False),
        ("fixed", 600, False),
        ("command", 400, False),
        ("dictation", 1000, False),
        ("auto", 600, True),
    ],
)
def test_each_mode_has_its_silence(mode: str, silence_ms: int, adaptive: bool) -> None:
    """Commands are short and thought of before; who dictates thinks; auto begins with the profile's."""
    found = endpoint(f'mode="{mode}"')
    assert (found.silence_ms, found.adaptive) == (silence_ms, adaptive)
    assert found.bounds_ms == (350, 1500)


@pytest.mark.parametrize("mode", ["fixed", "command", "dictation", "auto"])
def test_a_silence_that_is_set_goes_before_the_mode(mode: str) -> None:
    """Whoever names a number means it; the probe keeps within it."""
    found = endpoint(f'mode="{mode}"', "silence_ms=300")
    assert found.silence_ms == 300
    assert found.probe_ms < found.silence_ms
    assert found.tail_ms <= found.probe_ms


def test_partials_follow_the_profile() -> None:
    """How soon, by which rule; and nothing is stable that a cut may yet take away."""
    found = partial_config(config.load(None, ["recognition.partial_interval_ms=700"]), PROFILE)
    assert (found.enabled, found.interval_ms, found.first_ms) == (True, 700, PROFILE.partials.first_ms)
    assert found.stabiliser.sure == PROFILE.partials.sure
    assert found.stabiliser.rule == "alignment"
    assert 21.9 < found.stabiliser.open_after_s < 22


def test_the_gate_is_off_unless_asked_for() -> None:
    """Always listening, no wake word."""
    loaded = config.load(None, [])
    assert gate_config(loaded).mode == "always"
    assert wake_model(loaded) is None
    wanted = config.load(None, ['gate.mode="wake"', 'gate.model="~/computer.onnx"', "gate.listen_s=5"])
    assert (gate_config(wanted).mode, gate_config(wanted).listen_s) == ("wake", 5)
    assert wake_model(wanted) == Path.home() / "computer.onnx"
