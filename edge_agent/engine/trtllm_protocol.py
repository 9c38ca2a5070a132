"""What the agent and the TensorRT-LLM worker say to each other: MessagePack behind a length, both ways.

The worker runs in an environment of its own and reads this file from beside itself, so nothing here imports
the rest of the agent.
"""

from __future__ import annotations

import struct
from typing import IO, TypeVar

import msgspec

LARGEST_BYTES = 64 << 20
"""A 30 s window of 128 features in float16 is 0.8 MB; anything near this bound is not ours."""
_LENGTH = struct.Struct(">I")
T = TypeVar("T")


class ProtocolError(Exception):
    """What came is no message."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine file depends on, as the worker finds it."""

    platform: str
    gpu: str
    compute: str
    cuda: str
    tensorrt: str
    tensorrt_llm: str
    driver: str
    """Either "engine" or "pytorch": how this version runs Whisper; empty: not at all."""


class Open(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """Load a model. `directory` holds encoder/ and decoder/, or a checkpoint for the pytorch driver."""

    directory: str
    batch: int
    beam: int
    cache_tokens: int
    cross_fraction: float


class Job(msgspec.Struct, frozen=True, kw_only=True, tag="job"):
    """Recognise one sound."""

    id: int
    features: bytes
    """float16[frames, mels], time first, C order."""
    frames: int
    mels: int
    prompt: tuple[int, ...]
    prompt_text: str
    max_new: int
    beam: int
    end: int
    suppressed: tuple[int, ...] = ()
    pcm: bytes = b""
    """float32[samples] at 16 kHz; only the pytorch driver takes sound."""


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    """Nobody waits for this job any more."""

    id: int


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag="ping"):
    """Are you there?"""

    number: int


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """End."""


Request = Open | Job | Cancel | Ping | Stop


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """First words of the worker."""

    environment: Environment


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened"):
    """The model is loaded."""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """Tokens of a job, without the prompt and the end of text."""

    id: int
    tokens: tuple[int, ...]
    ended: bool
    sum_logprob: float = 0.0
    text: str = ""
    """From a driver that answers text instead of tokens."""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """A job failed; without an id, the whole worker."""

    cause: str
    id: int | None = None


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag="pong"):
    """Answer to a ping."""

    number: int


Reply = Hello | Opened | Done | Failed | Pong

_requests = msgspec.msgpack.Decoder(Request)
_replies = msgspec.msgpack.Decoder(Reply)


def frame(message: Request | Reply) -> bytes:
    """A message as bytes."""
    data = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(data)) + data


def read_request(stream: IO[bytes]) -> Request | None:
    """The next message to the worker; None at the end of the stream. ProtocolError at anything else."""
    data = _read(stream)
    return None if data is None else _decoded(_requests, data)


def read_reply(stream: IO[bytes]) -> Reply | None:
    """The next message from the worker; None at the end of the stream. ProtocolError at anything else."""
    data = _read(stream)
    return None if data is None else _decoded(_replies, data)


def _read(stream: IO[bytes]) -> bytes | None:
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise ProtocolError("the stream ends inside a message")
    (length,) = _LENGTH.unpack(head)
    if length > LARGEST_BYTES:
        raise ProtocolError(f"a message of {length} bytes")
    data = stream.read(length)
    if len(data) < length:
        raise ProtocolError("the stream ends inside a message")
    return data


def _decoded(decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a message: {error}") from error
