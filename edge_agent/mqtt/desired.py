"""The desired configuration: one retained document with a version, judged key by key. Pure.

The document is whole: a key that is no longer in it goes back to the configuration file's value. Which values
are good is decided by the configuration's own code, passed in as `merge`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from edge_agent.errors import ConfigError
from edge_agent.mqtt.commands import MAX_BYTES
from edge_agent.types import Value

ALLOWED = (
    "device.site",
    "endpoint.max_utterance_s",
    "endpoint.mode",
    "endpoint.probe_ms",
    "endpoint.silence_ms",
    "fleet.engine",
    "fleet.engine_version",
    "fleet.model",
    "fleet.model_version",
    "fleet.profile",
    "fleet.profile_version",
    "fleet.trial_min",
    "recognition.language",
    "recognition.partial_interval_ms",
    "recognition.partials",
    "recognition.prompt",
    "recognition.terms",
)
"""What may be set from afar: nothing that names a file, a broker, a microphone or a permission."""

C = TypeVar("C")
Merge: TypeAlias = Callable[[C, Mapping[str, object]], C]
"""A configuration with other values for some keys; raises ConfigError."""


class Desired(Value, frozen=True):
    """A readable document; its keys are not judged yet."""

    version: int
    values: dict[str, Any]
    """Key ("endpoint.silence_ms") -> value."""
    rejected: tuple[tuple[str, str], ...] = ()
    """(key, why) of what may not be set from afar."""


class Unreadable(Value, frozen=True):
    """Why a document was not looked into."""

    why: str


class Judged(Value, frozen=True):
    """What of a document holds."""

    config: Any
    accepted: dict[str, Any]
    rejected: tuple[tuple[str, str], ...]


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    version: Annotated[int, Meta(ge=1, le=2**53)]
    desired: dict[str, Any]


def read(payload: bytes) -> Desired | Unreadable:
    """Parse one message from `down/config`; never raises."""
    if len(payload) > MAX_BYTES:
        return Unreadable(why=f"longer than {MAX_BYTES} bytes")
    try:
        document = msgspec.json.decode(payload, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Unreadable(why=str(error))
    return sort_out(document.version, flat(document.desired))


def flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """{"endpoint": {"silence_ms": 700}} -> {"endpoint.silence_ms": 700}; keys may also come dotted."""
    found: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, Mapping):
            found.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            found[name] = value
    return found


def nested(values: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The reverse of `flat`, for keys with one dot."""
    tables: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        table, _, name = key.partition(".")
        tables.setdefault(table, {})[name] = value
    return tables


def sort_out(version: int, values: Mapping[str, Any]) -> Desired:
    """Keep what may be set from afar."""
    rejected = tuple((key[:100], "cannot be set from afar") for key in values if key not in ALLOWED)
    return Desired(
        version=version,
        values={key: value for key, value in values.items() if key in ALLOWED},
        rejected=rejected[:50],
    )


def versioned(desired: Desired, version: int, values: Mapping[str, Any]) -> str:
    """Why a document is not taken over the one in force; "" when it is, or says the same again."""
    if desired.version < version:
        return f"{desired.version} is older than {version}"
    if desired.version == version and desired.values != values:
        return f"{desired.version} is in force with other content; give a new content a new version"
    return ""


def judge(base: C, desired: Desired, merge: Merge[C]) -> Judged:
    """Take all values that hold together, over the configuration file's.

    Values are tried together first, then one by one, twice: a value may need another one (a probe needs a
    silence that is longer).
    """
    try:
        return Judged(
            config=merge(base, desired.values), accepted=dict(desired.values), rejected=desired.rejected
        )
    except ConfigError:
        pass  # at least one is wrong: which ones is found below
    accepted: dict[str, Any] = {}
    why: dict[str, str] = {}
    config = base
    for key, value in (*desired.values.items(), *desired.values.items()):
        if key not in accepted:
            try:
                config = merge(base, {**accepted, key: value})
            except ConfigError as error:
                why[key] = f"{error.cause}; {error.remedy}"[:300]
            else:
                accepted[key] = value
    refused = tuple((key, reason) for key, reason in why.items() if key not in accepted)
    return Judged(config=config, accepted=accepted, rejected=(*desired.rejected, *refused))
