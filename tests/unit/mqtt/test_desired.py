"""The desired configuration: versions, what may be set, and values judged by the configuration's own code."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import Config, with_values
from edge_agent.mqtt import desired
from edge_agent.mqtt.contract import problems
from edge_agent.mqtt.desired import Desired, Unreadable


def merge(config: Config, values: dict) -> Config:
    return with_values(config, values, "test")


def document(tables: dict, version: int = 1) -> Desired:
    body = {"version": version, "desired": tables}
    found = desired.read(json.dumps(body).encode())
    assert isinstance(found, Desired), found
    return found


def judged(tables: dict) -> desired.Judged:
    return desired.judge(Config(), document(tables), merge)


def test_good_values_hold() -> None:
    """Every key that may be set, at once."""
    tables = {
        "device": {"site": "roof"},
        "endpoint": {"silence_ms": 700, "probe_ms": 150, "max_utterance_s": 20, "mode": "auto"},
        "recognition": {
            "language": ["en", "de"],
            "prompt": "cranes",
            "terms": ["jib"],
            "partials": False,
            "partial_interval_ms": 300,
        },
        "fleet": {
            "model": "whisper-base",
            "model_version": 3,
            "profile": "kiosk",
            "profile_version": 2,
            "engine": "breeze-h100",
            "engine_version": 1,
            "trial_min": 5,
        },
    }
    assert problems("desired", {"version": 1, "desired": tables}) == []
    enrolled = merge(Config(), {"fleet.root_file": "/etc/edge-agent/root.json"})
    found = desired.judge(enrolled, document(tables), merge)
    assert found.rejected == ()
    assert set(found.accepted) == set(desired.ALLOWED)
    assert found.config.endpoint.silence_ms == 700
    assert found.config.recognition.language == ("en", "de")


def test_a_device_of_no_fleet_takes_no_model_from_afar() -> None:
    """Without a root document nothing can be verified, so nothing is even tried."""
    found = judged({"fleet": {"model": "whisper-base", "model_version": 3}, "device": {"site": "roof"}})
    assert found.config.device.site == "roof"
    assert found.config.fleet.model == ""
    assert all("fleet" in key for key, _ in found.rejected)


def test_the_bad_is_named_and_the_good_holds() -> None:
    """One wrong value does not cost the others."""
    found = judged({"endpoint": {"silence_ms": 99, "max_utterance_s": 20}, "recognition": {"language": "?"}})
    assert set(found.accepted) == {"endpoint.max_utterance_s"}
    assert [key for key, _ in found.rejected] == ["endpoint.silence_ms", "recognition.language"]
    assert found.config.endpoint.max_utterance_s == 20


def test_values_that_need_each_other_are_found() -> None:
    """A long probe needs a long silence, in whatever order they come and beside a bad value."""
    tables = {"endpoint": {"probe_ms": 900, "silence_ms": 1000}, "recognition": {"language": "?"}}
    base = merge(Config(), {"endpoint.silence_ms": 600, "endpoint.probe_ms": 200})
    found = desired.judge(base, document(tables), merge)
    assert set(found.accepted) == {"endpoint.probe_ms", "endpoint.silence_ms"}
    assert [key for key, _ in found.rejected] == ["recognition.language"]


@pytest.mark.parametrize(
    "key",
    [
        "mqtt.url",
        "mqtt.password_file",
        "audio.source",
        "recognition.profile",
        "recognition.model",
        "device.id",
        "outbox.quota_mb",
        "bridges.hermes",
        "nonsense",
        "a.b.c",
    ],
)
def test_the_rest_cannot_be_set_from_afar(key: str) -> None:
    """No broker, no file, no microphone, no bridge."""
    table, _, name = key.partition(".")
    found = judged({table: {name: "x"} if name else "x"})
    assert found.accepted == {}
    assert found.rejected == ((key, "cannot be set from afar"),)


def test_what_is_left_out_goes_back_to_the_file() -> None:
    """The document is whole."""
    base = merge(Config(), {"device.site": "cellar"})
    assert desired.judge(base, document({}), merge).config.device.site == "cellar"


def test_versions_only_rise() -> None:
    """Older is refused, the same again is nothing new, the same with other content is refused."""
    five = document({"device": {"site": "a"}}, 5)
    assert desired.versioned(five, 4, {}) == ""
    assert desired.versioned(five, 5, {"device.site": "a"}) == ""
    assert "other content" in desired.versioned(five, 5, {"device.site": "b"})
    assert "older than 6" in desired.versioned(five, 6, {})


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version":0,"desired":{}}',
        b'{"version":1}',
        b'{"version":"1","desired":{}}',
        b"[" * 65_000,
        b'{"version":1,"desired":{"a":' + b'{"a":' * 9000,
        b"x" * 70_000,
    ],
)
def test_junk_is_unreadable(payload: bytes) -> None:
    """And raises nothing."""
    assert isinstance(desired.read(payload), Unreadable)


@given(
    st.dictionaries(
        st.sampled_from(["device", "endpoint", "recognition", "mqtt", "x.y"]),
        st.dictionaries(
            st.sampled_from(["site", "silence_ms", "probe_ms", "language", "terms", "partials", "url"]),
            st.none()
            | st.integers()
            | st.floats()
            | st.text(max_size=9)
            | st.lists(st.text(max_size=3), max_size=3),
        ),
    )
)
def test_no_values_make_the_judgement_fall_over(tables: dict) -> None:
    """Every key ends accepted or rejected, and what is accepted makes a configuration."""
    payload = json.dumps({"version": 1, "desired": tables}).encode()
    found = desired.read(payload)
    if isinstance(found, Unreadable):
        return  # NaN is no JSON
    result = desired.judge(Config(), found, merge)
    assert {*result.accepted, *(key for key, _ in result.rejected)} == set(desired.flat(tables))
    assert merge(Config(), result.accepted) == result.config
