"""Standard Whisper token ids <-> rows of the model file. Pure.

A prepared model may keep its rows in another order (so that the library reads a text prefix in one pass) and
hold a copy of the end-of-text row under an id the scoring pass looks at. `prepared.json` beside the model
says so; without it ids are rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edge_agent.types import Value


class Layout(Value, frozen=True):
    """How token ids map to rows."""

    to_row: dict[int, int] = msgspec.field(default_factory=dict)
    """Only ids whose row differs."""
    to_token: dict[int, int] = msgspec.field(default_factory=dict)
    """Row -> id, only where they differ; copies of a row name the same id."""
    end_mirror: int | None = None
    """Row that repeats end-of-text where the scoring pass can see it."""
    suppressed_rows: tuple[int, ...] = ()
    """Rows that exist only for the library's sake and must never be generated."""
    prefix_copies: dict[int, int] = msgspec.field(default_factory=dict)
    """Token id -> row of a copy outside the range the library reads in one pass; ends such a prefix."""

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


def from_ids(ids: Mapping[int, int], *, end_mirror: int | None, suppressed: Sequence[int]) -> Layout:
    """A layout from the full or partial map token id -> row."""
    moved = {token: row for token, row in ids.items() if token != row}
    return Layout(
        to_row=moved,
        to_token={row: token for token, row in moved.items()},
        end_mirror=end_mirror,
        suppressed_rows=tuple(suppressed),
    )
