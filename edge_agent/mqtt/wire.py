"""MQTT topics and payloads as the outside world knows them. Pure: facts in, bytes out.

Bodies are JSON in UTF-8; the first field `schema` is `name/major`, the others keep the order written here.
Within a major, fields are only ever added, so consumers must ignore fields they do not know. The JSON
Schemas in `schemas/` describe the same bodies (`mqtt.contract` reads them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from edge_agent.clock import utc_text
from edge_agent.errors import ConfigError
from edge_agent.types import GapCause, Hypothesis, Latency, State, Utterance, Value, Word

TopicKind: TypeAlias = Literal[
    "status", "info", "health", "transcript", "gap", "event", "config", "answer", "command", "desired", "text"
]
AnswerState: TypeAlias = Literal["accepted", "running", "done", "refused", "expired"]

CONTENT_TYPE = "application/json"
PARTIAL_EXPIRY_S = 5
"""A partial older than this is worth nothing: the broker drops it."""
HEALTH_EXPIRY_S = 180
"""Three intervals: retained gauges of a device that fell silent vanish instead of lying."""

_KIND_OF_SUFFIX: dict[str, TopicKind] = {
    "status": "status",
    "info": "info",
    "health": "health",
    "transcript/final": "transcript",
    "transcript/partial": "transcript",
    "gap": "gap",
    "event": "event",
    "config": "config",
    "answer": "answer",
    "text": "text",
}


class Topics:
    """The topic names of one device: `<prefix>/<device id>/up/...`."""

    def __init__(self, prefix: str, device_id: str) -> None:
        """Check both parts.

        Raises:
            ConfigError: empty, or a character that means something else in a topic.
        """
        check_prefix(prefix)
        if not device_id or len(device_id) > 64 or any(c in "/+#$" or not c.isprintable() for c in device_id):
            raise ConfigError(
                f'device.id "{device_id}" cannot be part of a topic',
                remedy="use 1 to 64 printable characters without / + # $",
            )
        self.prefix, self.device_id = prefix, device_id
        up = f"{prefix}/{device_id}/up"
        self.status, self.info, self.health = f"{up}/status", f"{up}/info", f"{up}/health"
        self.final, self.partial = f"{up}/transcript/final", f"{up}/transcript/partial"
        self.gap, self.event = f"{up}/gap", f"{up}/event"
        self.config, self.answer = f"{up}/config", f"{up}/answer"
        self.text = f"{up}/text"
        self.down = f"{prefix}/{device_id}/down"
        self.command, self.desired = f"{self.down}/command", f"{self.down}/config"


def check_prefix(prefix: str) -> None:
    """Refuse a topic prefix that holds wildcards or empty levels, or is reserved to brokers.

    Raises:
        ConfigError: naming the prefix.
    """
    levels = prefix.split("/")
    if not all(levels) or prefix.startswith("$") or any(c in "+#" or not c.isprintable() for c in prefix):
        raise ConfigError(
            f'mqtt.prefix "{prefix}" cannot begin a topic',
            remedy="use names without + or #, joined by single slashes",
        )


def parse_topic(prefix: str, topic: str) -> tuple[str, TopicKind, str] | None:
    """(device id, kind, name below `up/`) of a topic under `prefix`; None when it is not one of ours."""
    if not topic.startswith(prefix + "/"):
        return None
    device_id, _, below = topic[len(prefix) + 1 :].partition("/")
    suffix = below.removeprefix("up/")
    if suffix == below or suffix not in _KIND_OF_SUFFIX or not device_id:
        return None
    return device_id, _KIND_OF_SUFFIX[suffix], suffix


class Origin(Value, frozen=True):
    """Who heard it and with what; constant until the profile changes."""

    device_id: str
    site: str
    profile: str
    engine: str
    """As in EngineInfo.kind: "ctranslate2/int8"."""
    model: str
    """As in EngineInfo.model: "whisper-base@d01c3014881c"."""


class WordBody(Value, frozen=True, kw_only=True):
    """A word; times are seconds from the transcript's `start`."""

    text: str
    start_s: float
    end_s: float
    confidence: float


class LatencyBody(Value, frozen=True, kw_only=True):
    """Milliseconds; `total` runs from the last speech sample to the outbox."""

    endpoint: int
    queue: int
    decode: int
    total: int


class WakeBody(Value, frozen=True, kw_only=True):
    """The wake word that a transcript follows."""

    word: str
    score: float
    """0..1"""


class TranscriptBody(Value, frozen=True, kw_only=True):
    """transcript/1. Partials have no `seq` (the outbox never saw them) and need no `latency_ms`."""

    schema: str = "transcript/1"
    id: str
    seq: int | UnsetType = UNSET
    rev: int
    kind: Literal["final", "partial"]
    text: str
    stable: str
    tail: str
    language: str
    language_probability: float
    confidence: float
    words: tuple[WordBody, ...]
    start: str
    duration_ms: int
    clock_synced: bool
    latency_ms: LatencyBody | UnsetType = UNSET
    channel: int
    device_id: str
    site: str
    profile: str
    engine: str
    model: str
    flags: tuple[str, ...]
    wake: WakeBody | UnsetType = UNSET


class GapBody(Value, frozen=True, kw_only=True):
    """gap/1. The last three fields are there only when queued rows were given up (cause "quota")."""

    schema: str = "gap/1"
    id: str
    seq: int
    start: str
    duration_ms: int
    cause: GapCause
    from_seq: int | UnsetType = UNSET
    to_seq: int | UnsetType = UNSET
    dropped: int | UnsetType = UNSET


class StatusBody(Value, frozen=True, kw_only=True):
    """status/1. In the will (`offline`), `since` is when the lost connection was made."""

    schema: str = "status/1"
    state: State
    since: str
    reasons: tuple[str, ...]
    boot_id: str


class ConfigBody(Value, frozen=True, kw_only=True):
    """config/1: what the device made of the desired configuration."""

    schema: str = "config/1"
    version: int
    reported: dict[str, object]
    pending: tuple[str, ...]
    rejected: tuple[dict[str, str], ...]


class AnswerBody(Value, frozen=True, kw_only=True):
    """answer/1: what became of a command."""

    schema: str = "answer/1"
    command_id: str
    state: AnswerState
    reason: str
    result: dict[str, object] | None


def encode_transcript(
    *,
    seq: int | None,
    utterance: Utterance,
    hypothesis: Hypothesis,
    origin: Origin,
    kind: Literal["final", "partial"] = "final",
    rev: int = 1,
    stable: str | None = None,
    tail: str = "",
    confidence: float | None = None,
    latency: Latency | None = None,
    flags: Sequence[str] = (),
) -> bytes:
    """A transcript body.

    Args:
        seq: number given by the outbox; None in partials.
        utterance: gives id, channel and times; `duration_ms` runs from its start to its last speech sample.
        hypothesis: gives text, words, language and flags.
        origin: device, profile, engine, model.
        kind: "final" or "partial".
        rev: counts the bodies of one utterance, from 1.
        stable: the part that will not change; default: all of the text in finals, nothing in partials.
        tail: the part of a partial that may still change.
        confidence: 0..1; default: exp of the mean log-probability per token.
        latency: of finals, milliseconds.
        flags: added to the hypothesis' own.
    """
    final = kind == "final"
    sure = math.exp(min(0.0, hypothesis.avg_logprob)) if confidence is None else confidence
    wake = utterance.wake
    body = TranscriptBody(
        id=utterance.id,
        seq=UNSET if seq is None else seq,
        rev=rev,
        kind=kind,
        text=hypothesis.text,
        stable=(hypothesis.text if final else "") if stable is None else stable,
        tail=tail,
        language=hypothesis.language,
        language_probability=_unit(hypothesis.language_probability),
        confidence=_unit(sure),
        words=tuple(_word(word) for word in hypothesis.words),
        start=utc_text(utterance.start_utc_ms),
        duration_ms=max(0, round((utterance.speech_end_ns - utterance.start_ns) / 1e6)),
        clock_synced=utterance.clock_synced,
        latency_ms=UNSET if latency is None else _latency(latency),
        channel=utterance.channel,
        device_id=origin.device_id,
        site=origin.site,
        profile=origin.profile,
        engine=origin.engine,
        model=origin.model,
        flags=tuple(dict.fromkeys((*hypothesis.flags, *flags))),
        wake=UNSET if wake is None else WakeBody(word=wake.word, score=_unit(wake.score)),
    )
    return msgspec.json.encode(body)


def encode_gap(
    *,
    seq: int,
    id: str,  # noqa: A002 - the field's name in the contract
    start_utc_ms: int,
    duration_ms: float,
    cause: GapCause,
    dropped: tuple[int, int, int] | None = None,
) -> bytes:
    """A gap body; `dropped` = (first seq, last seq, count) of queued rows that were given up."""
    first, last, count = dropped or (UNSET, UNSET, UNSET)
    return msgspec.json.encode(
        GapBody(
            id=id,
            seq=seq,
            start=utc_text(start_utc_ms),
            duration_ms=round(max(0.0, duration_ms)),
            cause=cause,
            from_seq=first,
            to_seq=last,
            dropped=count,
        )
    )


def encode_status(*, state: State, since_utc_ms: int, reasons: Sequence[str], boot_id: str) -> bytes:
    """A status body."""
    return msgspec.json.encode(
        StatusBody(state=state, since=utc_text(since_utc_ms), reasons=tuple(reasons), boot_id=boot_id)
    )


def encode_info(facts: Mapping[str, object]) -> bytes:
    """An info body: hardware, profile and reasons, engine, model digest, versions, capabilities."""
    return msgspec.json.encode({"schema": "info/1", **facts})


def encode_health(gauges: Mapping[str, object]) -> bytes:
    """A health body: gauges by name."""
    return msgspec.json.encode({"schema": "health/1", **gauges})


def encode_event(*, type: str, at_utc_ms: int, fields: Mapping[str, object] | None = None) -> bytes:  # noqa: A002 - the field's name in the contract
    """An event body: speech_start, speech_end, profile_changed and the like."""
    return msgspec.json.encode(
        {"schema": "event/1", "type": type, "at": utc_text(at_utc_ms), **(fields or {})}
    )


def encode_config(
    *,
    version: int,
    reported: Mapping[str, object],
    pending: Sequence[str] = (),
    rejected: Sequence[tuple[str, str]] = (),
) -> bytes:
    """A config body; `rejected` = (key, why) pairs."""
    refusals = tuple({"key": key, "why": why} for key, why in rejected)
    return msgspec.json.encode(
        ConfigBody(version=version, reported=dict(reported), pending=tuple(pending), rejected=refusals)
    )


def encode_answer(
    *, command_id: str, state: AnswerState, reason: str = "", result: Mapping[str, object] | None = None
) -> bytes:
    """An answer body."""
    kept = None if result is None else dict(result)
    return msgspec.json.encode(AnswerBody(command_id=command_id, state=state, reason=reason, result=kept))


def shrink_transcript(payload: bytes, max_bytes: int) -> bytes | None:
    """The transcript without its words, flagged "truncated"; None when that does not fit either."""
    try:
        body = msgspec.json.decode(payload, type=TranscriptBody)
    except msgspec.DecodeError:
        return None
    flags = tuple(dict.fromkeys((*body.flags, "truncated")))
    smaller = msgspec.json.encode(msgspec.structs.replace(body, words=(), flags=flags))
    return smaller if len(smaller) <= max_bytes else None


def _word(word: Word) -> WordBody:
    return WordBody(
        text=word.text,
        start_s=round(word.start_s, 2),
        end_s=round(word.end_s, 2),
        confidence=_unit(word.confidence),
    )


def _latency(latency: Latency) -> LatencyBody:
    return LatencyBody(
        endpoint=round(latency.endpoint),
        queue=round(latency.queue),
        decode=round(latency.decode),
        total=round(latency.total),
    )


def _unit(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 2)
