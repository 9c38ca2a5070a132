"""Reading TOML strictly: a fault names the file, the key and, for a typing slip, the nearest known key."""

from __future__ import annotations

import difflib
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from edge_agent.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)


def read(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"{path} cannot be read: {reason}", remedy="check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text", remedy="save it as UTF-8") from error


def parse(text: str, where: str) -> dict[str, Any]:
    """TOML text as tables; `where` names it in errors."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}", remedy="correct that line") from error


def convert(data: dict[str, Any], kind: type[T], where: str) -> T:
    """`data` as a `kind`, unknown keys and wrong types refused.

    Raises:
        ConfigError: names `where`, the key, what is wrong with it and the nearest known key.
    """
    _refuse_unknown(data, kind, where, "")
    try:
        return msgspec.convert(data, kind, strict=True)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        key = place.rstrip("`") or "the file"
        raise ConfigError(f"{where}: {key}: {message}", remedy=f"correct {key}") from error


def _refuse_unknown(data: dict[str, Any], kind: type[msgspec.Struct], where: str, prefix: str) -> None:
    known = _fields(kind)
    for key, value in data.items():
        name = f"{prefix}{key}"
        if key not in known:
            raise ConfigError(f"{where}: unknown key {name}", remedy=_nearest(key, list(known), prefix))
        inner = known[key]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and isinstance(value, dict):
            _refuse_unknown(value, inner, where, f"{name}.")


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Name in the file -> type."""
    hints = get_type_hints(kind)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(kind)}


def _nearest(key: str, known: list[str], prefix: str) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {prefix}{close[0]}?"
    return f"known here: {', '.join(prefix + name for name in sorted(known))}"


def assign(data: dict[str, Any], assignment: str) -> None:
    """Apply one `section.key=value` of the command line to the tables, the value read as TOML, else as text.

    Raises:
        ConfigError: the assignment has no `=` or names a table as a value.
    """
    path, sign, raw = assignment.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not sign or not all(keys):
        raise ConfigError(
            f"--set {assignment}: not KEY=VALUE", remedy="write for example --set mqtt.prefix=lab"
        )
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    table = data
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {assignment}: {key} is not a table", remedy="name a key inside a table")
    table[keys[-1]] = value
