"""Standard Whisper token ids <-> rows of the model file.

A prepared model may keep its rows in another order (so that the library reads a text prefix in one pass) and
hold a copy of the end-of-text row where the scoring pass sees it. `prepared.json` beside the model says so;
without it ids are rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from edge_agent.errors import EngineLoadFailed
from edge_agent.types import Value

_FORMAT = 2
JUDGE_SHARPNESS = 16.0
"""What a judge's logits are multiplied by (edge_agent/models/judge.py makes it so)."""


class Layout(Value, frozen=True):
    """How token ids map to rows."""

    to_row: dict[int, int] = msgspec.field(default_factory=dict)
    """Only ids whose row differs."""
    to_token: dict[int, int] = msgspec.field(default_factory=dict)
    """Row -> id, only where they differ."""
    end_mirror: int | None = None
    """Row that repeats end-of-text where the scoring pass sees it."""
    suppressed_rows: tuple[int, ...] = ()
    """Rows that exist only for the library's sake and are never generated."""
    parallel_prefix: bool = False
    """The library takes every text token for a task token and reads a prefix in one pass."""
    judge: str = ""
    """Directory, below the model's, of its sharpened decoder; empty: there is none."""

    def rows(self, tokens: Iterable[int]) -> list[int]:
        """Token ids as rows."""
        if not self.to_row:
            return list(tokens)
        get = self.to_row.get
        return [get(token, token) for token in tokens]

    def tokens(self, rows: Iterable[int]) -> list[int]:
        """Rows as token ids."""
        if not self.to_token:
            return list(rows)
        get = self.to_token.get
        return [get(row, row) for row in rows]

    def suppress(self, tokens: Iterable[int]) -> list[int]:
        """Rows never to generate."""
        return sorted({*self.rows(tokens), *self.suppressed_rows})


class _Prepared(msgspec.Struct, frozen=True):
    """What this module needs of `prepared.json`."""

    format: int
    ids: dict[int, int] = msgspec.field(default_factory=dict)
    eot_mirror: int | None = None
    layout: str = "plain"
    suppress: tuple[int, ...] = ()
    judge: str = ""


def read_layout(model_dir: Path) -> Layout:
    """The layout of a model directory; the identity for a published model.

    Raises:
        EngineLoadFailed: `prepared.json` cannot be used.
    """
    path = model_dir / "prepared.json"
    remedy = "prepare it again with: edge-agent models prepare"
    try:
        prepared = msgspec.json.decode(path.read_bytes(), type=_Prepared)
    except FileNotFoundError:
        return Layout()
    except (OSError, msgspec.MsgspecError) as error:
        raise EngineLoadFailed(f"{path} cannot be read: {error}", remedy=remedy) from error
    if prepared.format != _FORMAT or prepared.layout not in ("plain", "parallel-prefix"):
        raise EngineLoadFailed(f"{path} is of a form this version does not know", remedy=remedy)
    moved = {token: row for token, row in prepared.ids.items() if token != row}
    return Layout(
        to_row=moved,
        to_token={row: token for token, row in moved.items()},
        end_mirror=prepared.eot_mirror,
        suppressed_rows=prepared.suppress,
        parallel_prefix=prepared.layout == "parallel-prefix",
        judge=prepared.judge,
    )
