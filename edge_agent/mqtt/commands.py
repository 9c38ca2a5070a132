"""What may be asked of a device: a closed set of commands, bytes in, an Action or a Refusal out. Pure.

No command carries a path, a URL, a template or anything that is executed. Fields of the envelope that we do
not know are ignored, as everywhere in the contract; arguments that we do not know are refused, because they
may change what is meant.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from edge_agent.types import Value

MAX_BYTES = 64 * 1024
NO_ID = "unreadable"
"""Stands for the id in the answer to a message whose id cannot be read."""

_Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")]
_Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[!-~]+\Z")]
_Moment = Annotated[datetime, Meta(tz=True)]
_Term = Annotated[str, Meta(min_length=1, max_length=100)]


class Mute(Value, frozen=True, tag="mute", tag_field="type"):
    """Close the microphone; the time until it opens again is admitted as a gap."""

    duration_s: Annotated[float, Meta(ge=1, le=86_400)] | None = None
    """None: until `unmute`, also across restarts."""


class Unmute(Value, frozen=True, tag="unmute", tag_field="type"):
    """Open the microphone again."""


class Flush(Value, frozen=True, tag="flush", tag_field="type"):
    """Publish what is being said now, without waiting for the silence."""


class Listen(Value, frozen=True, tag="listen", tag_field="type"):
    """Open the gate: hear what is said now, from a little before (gate.mode "command" or "wake")."""

    duration_s: Annotated[float, Meta(ge=0, le=3_600)] | None = None
    """For so long, whatever is said; 0: end what is open and close; None: for one utterance."""
    channel: Annotated[int, Meta(ge=0, le=4_095)] | None = None
    """None: all."""


class SetProfile(Value, frozen=True, tag="set_profile", tag_field="type"):
    """Serve with another profile, or with "auto" choose again; takes a restart."""

    profile: _Name


class ReloadTerms(Value, frozen=True, tag="reload_terms", tag_field="type"):
    """Use these domain words from the next utterance on; without them, those of the configuration file."""

    terms: Annotated[tuple[_Term, ...], Meta(max_length=500)] | None = None


class SelfTest(Value, frozen=True, tag="self_test", tag_field="type"):
    """Recognise a known recording in the next pause and tell whether its words came out."""


class Replay(Value, frozen=True, tag="replay", tag_field="type"):
    """Send delivered messages again: those from a number on, or those made at or after a time."""

    from_seq: Annotated[int, Meta(ge=1, le=2**62)] | None = None
    since: _Moment | None = None

    def __post_init__(self) -> None:
        if (self.from_seq is None) == (self.since is None):
            raise ValueError("replay takes from_seq or since, one of them")


class InstallModel(Value, frozen=True, tag="install_model", tag_field="type"):
    """Bring a signed model to serve, once: its name and number in the fleet's signed list."""

    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,47}\Z")]
    version: Annotated[int, Meta(ge=1, le=2**53)]


class Restart(Value, frozen=True, tag="restart", tag_field="type"):
    """End cleanly and be started again by the service manager."""


Action: TypeAlias = (
    Mute | Unmute | Flush | Listen | SetProfile | ReloadTerms | SelfTest | Replay | InstallModel | Restart
)
TYPES: tuple[str, ...] = tuple(str(kind.__struct_config__.tag) for kind in get_args(Action))


class Command(Value, frozen=True):
    """A well-formed command. Whether it is carried out now is decided by `gate`."""

    command_id: str
    action: Action
    issued_utc_ms: int
    expires_utc_ms: int


class Refusal(Value, frozen=True):
    """Why a command is not carried out."""

    command_id: str
    reason: str
    state: Literal["refused", "expired"] = "refused"


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    command_id: _Id
    issued_at: _Moment
    expires_at: _Moment


def read(payload: bytes) -> Command | Refusal:
    """Parse and check one message from `down/command`; never raises."""
    if len(payload) > MAX_BYTES:
        return Refusal(command_id=NO_ID, reason=f"longer than {MAX_BYTES} bytes")
    try:
        body = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Refusal(command_id=NO_ID, reason=f"not JSON: {error}")
    if not isinstance(body, dict):
        return Refusal(command_id=NO_ID, reason="not a JSON object")
    try:
        return _command(body)
    except (msgspec.ValidationError, RecursionError) as error:
        return Refusal(command_id=_id_of(body), reason=_said(error))


def _command(body: dict[str, Any]) -> Command | Refusal:
    command_id, kind, given = _id_of(body), body.get("type"), body.get("args", {})
    if body.get("schema") != "command/1":
        return Refusal(command_id=command_id, reason='schema: not "command/1"')
    envelope = msgspec.convert(body, _Envelope)
    if kind not in TYPES:
        return Refusal(command_id=command_id, reason=f"type: not one of {', '.join(TYPES)}")
    if not isinstance(given, dict) or "type" in given:
        return Refusal(command_id=command_id, reason="args: not an object of arguments")
    action: Action = msgspec.convert({**given, "type": kind}, Action)
    return Command(
        command_id=envelope.command_id,
        action=action,
        issued_utc_ms=utc_ms(envelope.issued_at),
        expires_utc_ms=utc_ms(envelope.expires_at),
    )


def utc_ms(moment: datetime) -> int:
    """Milliseconds since 1970 of a time with a zone."""
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def kind_of(action: Action) -> str:
    """The command's name in the contract."""
    return str(type(action).__struct_config__.tag)


def _id_of(body: dict[str, Any]) -> str:
    try:
        return msgspec.convert(body.get("command_id"), _Id)
    except msgspec.ValidationError:
        return NO_ID


def _said(error: Exception) -> str:
    """msgspec's message with the field first, as in our own."""
    message, found, place = str(error).partition(" - at `$.")
    return f"{place.rstrip('`')}: {message}" if found else message
