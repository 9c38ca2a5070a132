"""What the ways of fetching share: progress, and the way to say "not from here"."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from edge_agent.types import Value


class Progress(Value, frozen=True):
    """How far one transfer has come."""

    label: str
    """What is on its way: a file or a package."""
    done_bytes: int
    total_bytes: int


ProgressFn: TypeAlias = Callable[[Progress], None]


class SourceFailed(Exception):
    """This source cannot deliver; the message is one short reason. Never leaves the room."""


def quiet(_progress: Progress) -> None:
    """For callers that show no progress."""
