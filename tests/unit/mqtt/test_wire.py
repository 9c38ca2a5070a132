"""Topics and payloads, held against the published schemas."""

from __future__ import annotations

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ConfigError
from edge_agent.mqtt import wire
from edge_agent.mqtt.contract import problems, validate
from edge_agent.types import Hypothesis, Latency, Utterance, Word

ORIGIN = wire.Origin(
    device_id="kiosk-0042",
    site="taipei-101",
    profile="cpu-avx512-vnni",
    engine="ctranslate2/int8",
    model="whisper-base@d01c3014881c",
)
LATENCY = Latency(endpoint=400.2, queue=2.6, decode=90.4, total=493.3)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
unit = st.floats(0, 1)
when = st.integers(0, 4_102_444_800_000)


def utterance(**changes: object) -> Utterance:
    """The utterance of the contract's example."""
    facts = {
        "id": "01980000-0000-7000-8000-000000000000",
        "channel": 0,
        "start_ns": 5_000_000_000,
        "speech_end_ns": 7_310_000_000,
        "start_utc_ms": 1_795_179_600_120,
        "clock_synced": True,
        "pcm": np.zeros(1, np.float32),
        "cut": "silence",
    }
    return Utterance(**{**facts, **changes})


HEARD = Hypothesis(
    text="turn on the crane",
    words=(Word(text="turn", start_s=0.1234, end_s=0.312, confidence=0.968),),
    language="en",
    language_probability=0.9812,
    avg_logprob=math.log(0.91),
)


def test_a_final_is_the_contracts_example_field_by_field() -> None:
    """Names, order, rounding and types exactly as published."""
    payload = wire.encode_transcript(
        seq=8812, rev=4, utterance=utterance(), hypothesis=HEARD, origin=ORIGIN, latency=LATENCY
    )
    expected = {
        "schema": "transcript/1",
        "id": "01980000-0000-7000-8000-000000000000",
        "seq": 8812,
        "rev": 4,
        "kind": "final",
        "text": "turn on the crane",
        "stable": "turn on the crane",
        "tail": "",
        "language": "en",
        "language_probability": 0.98,
        "confidence": 0.91,
        "words": [{"text": "turn", "start_s": 0.12, "end_s": 0.31, "confidence": 0.97}],
        "start": "2026-11-20T13:00:00.120Z",
        "duration_ms": 2310,
        "clock_synced": True,
        "latency_ms": {"endpoint": 400, "queue": 3, "decode": 90, "total": 493},
        "channel": 0,
        "device_id": "kiosk-0042",
        "site": "taipei-101",
        "profile": "cpu-avx512-vnni",
        "engine": "ctranslate2/int8",
        "model": "whisper-base@d01c3014881c",
        "flags": [],
    }
    assert list(json.loads(payload).items()) == list(expected.items())
    assert payload == json.dumps(expected, separators=(",", ":")).encode()
    validate("transcript", payload)


def test_a_partial_has_no_number_and_says_what_is_stable() -> None:
    """Only the outbox numbers; a consumer that checks for holes must not see partials."""
    payload = wire.encode_transcript(
        seq=None,
        kind="partial",
        stable="turn on",
        tail=" the crane",
        utterance=utterance(),
        hypothesis=HEARD,
        origin=ORIGIN,
    )
    body = json.loads(payload)
    assert "seq" not in body
    assert "latency_ms" not in body
    assert (body["stable"], body["tail"], body["kind"]) == ("turn on", " the crane", "partial")
    validate("transcript", payload)


@given(
    said=text,
    language=st.sampled_from(["en", "zh", "zh-Hant"]),
    probability=unit,
    logprob=st.floats(-20, 1),
    words=st.lists(
        st.builds(Word, text=text, start_s=st.floats(0, 30), end_s=st.floats(0, 30), confidence=unit)
    ),
    start=when,
    seq=st.integers(1, 2**53),
    flags=st.lists(st.sampled_from(["truncated", "cut"])),
)
def test_every_final_is_valid_and_survives_the_round_trip(
    said: str,
    language: str,
    probability: float,
    logprob: float,
    words: list[Word],
    start: int,
    seq: int,
    flags: list[str],
) -> None:
    """Whatever was heard: valid against the strict schema, decodes to what was said, encodes to the same."""
    heard = Hypothesis(
        text=said,
        language=language,
        language_probability=probability,
        avg_logprob=logprob,
        words=tuple(words),
        flags=tuple(flags),
    )
    payload = wire.encode_transcript(
        seq=seq,
        utterance=utterance(start_utc_ms=start),
        hypothesis=heard,
        origin=ORIGIN,
        latency=LATENCY,
    )
    validate("transcript", payload)
    body = msgspec.json.decode(payload, type=wire.TranscriptBody)
    assert (body.text, body.seq, len(body.words)) == (said, seq, len(words))
    assert msgspec.json.encode(body) == payload


@given(
    seq=st.integers(1, 2**53),
    start=when,
    duration=st.floats(0, 1e9),
    cause=st.sampled_from(["xrun", "unplug", "overload", "restart", "muted", "quota"]),
)
def test_every_gap_is_valid(seq: int, start: int, duration: float, cause: str) -> None:
    """Whole milliseconds, a cause of the closed set, and no other field."""
    payload = wire.encode_gap(seq=seq, id="0198", start_utc_ms=start, duration_ms=duration, cause=cause)
    validate("gap", payload)
    assert list(json.loads(payload)) == ["schema", "id", "seq", "start", "duration_ms", "cause"]


def test_a_quota_gap_says_which_numbers_will_never_come() -> None:
    """First, last and how many."""
    payload = wire.encode_gap(
        seq=9, id="0198", start_utc_ms=0, duration_ms=5, cause="quota", dropped=(3, 7, 4)
    )
    validate("gap", payload)
    body = json.loads(payload)
    assert (body["from_seq"], body["to_seq"], body["dropped"]) == (3, 7, 4)


def test_the_other_bodies_are_valid() -> None:
    """One of each kind."""
    bodies = {
        "status": wire.encode_status(state="degraded", since_utc_ms=0, reasons=["hot"], boot_id="b"),
        "info": wire.encode_info({"profile": "p", "versions": {"agent": "0.1"}}),
        "health": wire.encode_health({"rss_bytes": 1, "outbox": {"queued": 0}}),
        "event": wire.encode_event(type="speech_start", at_utc_ms=0, fields={"channel": 0}),
        "config": wire.encode_config(version=3, reported={"a": 1}, pending=["b"], rejected=[("c", "no")]),
        "answer": wire.encode_answer(command_id="1", state="refused", reason="stale"),
    }
    for kind, payload in bodies.items():
        validate(kind, payload)
        assert json.loads(payload)["schema"] == f"{kind}/1"


def test_the_schemas_reject_what_is_wrong_and_tolerate_what_is_new() -> None:
    """Unknown fields pass for consumers, not for our own payloads; wrong types never pass."""
    good = json.loads(wire.encode_status(state="online", since_utc_ms=0, reasons=[], boot_id="b"))
    assert problems("status", {**good, "new": 1}) == []
    assert problems("status", {**good, "new": 1}, strict=True)
    assert problems("status", {**good, "state": "asleep"})
    assert problems("status", {**good, "since": "yesterday"})
    for field in good:
        assert problems("status", {k: v for k, v in good.items() if k != field})
    with pytest.raises(ValueError, match="not JSON"):
        validate("status", b"{")


class TestTopics:
    """Names under <prefix>/<device>/up."""

    def test_names_are_the_contracts(self) -> None:
        """All nine of them."""
        topics = wire.Topics("edge", "dev")
        names = {
            "status": "edge/dev/up/status",
            "info": "edge/dev/up/info",
            "health": "edge/dev/up/health",
            "final": "edge/dev/up/transcript/final",
            "partial": "edge/dev/up/transcript/partial",
            "gap": "edge/dev/up/gap",
            "event": "edge/dev/up/event",
            "config": "edge/dev/up/config",
            "answer": "edge/dev/up/answer",
        }
        assert {name: getattr(topics, name) for name in names} == names
        for value in names.values():
            assert wire.parse_topic("edge", value)[0] == "dev"

    @pytest.mark.parametrize("device_id", ["", "a/b", "a+", "#", "$x", "a\n", "x" * 65])
    def test_a_device_id_cannot_escape_its_topic(self, device_id: str) -> None:
        """Separators, wildcards and control characters are configuration errors."""
        with pytest.raises(ConfigError, match=r"device\.id"):
            wire.Topics("edge", device_id)

    @pytest.mark.parametrize("prefix", ["", "/edge", "edge/", "a//b", "$SYS", "a+", "#"])
    def test_a_prefix_is_checked_too(self, prefix: str) -> None:
        """Likewise."""
        with pytest.raises(ConfigError, match=r"mqtt\.prefix"):
            wire.Topics(prefix, "dev")

    @given(st.text(max_size=60))
    def test_any_topic_can_be_parsed(self, topic: str) -> None:
        """Never an error; None for what is not ours."""
        found = wire.parse_topic("edge", topic)
        assert found is None or topic == f"edge/{found[0]}/up/{found[2]}"


class TestShrinking:
    """A transcript that the broker finds too large."""

    def test_words_go_and_the_flag_says_so(self) -> None:
        """Everything else stays."""
        heard = msgspec.structs.replace(HEARD, words=HEARD.words * 100)
        payload = wire.encode_transcript(
            seq=1, utterance=utterance(), hypothesis=heard, origin=ORIGIN, latency=LATENCY
        )
        shrunk = wire.shrink_transcript(payload, 1000)
        body = json.loads(shrunk)
        validate("transcript", shrunk)
        assert (body["words"], body["flags"]) == ([], ["truncated"])
        assert {**body, "words": 0, "flags": 0} == {**json.loads(payload), "words": 0, "flags": 0}

    @given(st.binary(max_size=200), st.integers(0, 300))
    def test_what_cannot_be_shrunk_is_none(self, payload: bytes, room: int) -> None:
        """Any bytes, never an error."""
        assert wire.shrink_transcript(payload, room) is None
