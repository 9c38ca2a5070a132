"""What a prepared model directory says about itself in `prepared.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from edge_agent.errors import ModelError
from edge_agent.types import Value

PREPARED = "prepared.json"
FORMAT = 2
"""Raised when prepared files of an older programme must be made again."""


class Prepared(Value, frozen=True):
    """Contents of `prepared.json`; the meaning of each field is told in `models/prepare.py`."""

    format: int
    name: str
    source: dict[str, str]
    """File of the published model -> sha256."""
    files: dict[str, str]
    """File of this directory -> sha256."""
    layout: Literal["plain", "parallel-prefix"]
    ids: dict[int, int]
    """Standard token id -> row of this model, for those that moved."""
    eot_mirror: int | None
    """Row that repeats the end-of-text row, or none."""
    suppress: tuple[int, ...]
    """Rows the caller must add to the suppressed ones in every `generate`."""
    judge: str = ""
    """Directory of the judge below this one; empty: none was made."""


def read_prepared(directory: Path) -> Prepared | None:
    """The description of a prepared directory; None when it is absent or of another format.

    Raises:
        ModelError: it is there and cannot be read.
    """
    path = directory / PREPARED
    try:
        data = path.read_bytes()
        if msgspec.json.decode(data, type=dict[str, object]).get("format") != FORMAT:
            return None
        return msgspec.json.decode(data, type=Prepared, strict=False)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path} cannot be read ({error})",
            remedy=f"run: edge-agent models prepare {directory.parent.name}",
        ) from error


def prepared_is_current(directory: Path) -> bool:
    """True when a readable description of the current format is there."""
    try:
        return read_prepared(directory) is not None
    except ModelError:
        return False


def prepared_source(directory: Path) -> dict[str, str]:
    """Digests of the published files that a prepared directory was made from; empty when unreadable."""
    prepared = read_prepared(directory)
    return {} if prepared is None else prepared.source
