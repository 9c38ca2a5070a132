"""The published JSON Schemas, and whether a payload keeps to them.

The schemas allow unknown fields, as consumers must. `strict` also refuses those: for our own payloads.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module, resources
from typing import Any

import msgspec

from edge_agent.errors import UsageError
from edge_agent.mqtt.wire import TopicKind


@cache
def schema(kind: TopicKind) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a kind of payload."""
    text = (resources.files("edge_agent.mqtt") / "schemas" / f"{kind}.json").read_bytes()
    loaded: dict[str, Any] = msgspec.json.decode(text)
    return loaded


def problems(kind: TopicKind, body: object, *, strict: bool = False) -> list[str]:
    """What is wrong with a decoded payload, in words; empty when nothing is.

    Raises:
        UsageError: the package jsonschema is not installed.
    """
    return [
        f"{'/'.join(map(str, error.absolute_path)) or 'payload'}: {error.message}"
        for error in _validator(kind, strict).iter_errors(body)
    ]


def validate(kind: TopicKind, payload: bytes, *, strict: bool = True) -> None:
    """Refuse a payload that does not keep to the contract.

    Raises:
        ValueError: naming every problem.
    """
    try:
        body = msgspec.json.decode(payload)
    except msgspec.DecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    wrong = problems(kind, body, strict=strict)
    if wrong:
        raise ValueError("; ".join(wrong))


@cache
def _validator(kind: TopicKind, strict: bool) -> Any:
    try:
        validator = import_module("jsonschema").Draft202012Validator
    except ImportError as error:
        raise UsageError(
            "validation needs the package jsonschema", remedy="run: pip install jsonschema"
        ) from error
    chosen = schema(kind)
    return validator(_closed(chosen) if strict else chosen)


def _closed(part: Any) -> Any:
    """The same schema; objects that list their properties admit no others, unless they say they do."""
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _closed(value) for key, value in part.items()}
    if "properties" in part and isinstance(part.get("type"), str):
        closed.setdefault("additionalProperties", False)
    return closed
