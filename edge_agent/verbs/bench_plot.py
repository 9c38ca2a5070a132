"""`edge-agent bench --plot FILE.svg`: checked before minutes are spent, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.bench.plot import figure
from edge_agent.errors import UsageError
from edge_agent.files import write_atomically
from edge_agent.verbs.common import say


def check(path: Path | None) -> None:
    """Refuse a file that could not be written.

    Raises:
        UsageError: another ending than .svg, no such directory, or one that may not be written.
    """
    if path is None:
        return
    if path.suffix.lower() != ".svg":
        raise UsageError(f"--plot {path}: only SVG is drawn", remedy="name a file that ends in .svg")
    if path.is_dir():
        raise UsageError(f"--plot {path} is a directory", remedy="name a file in it")
    if not path.parent.is_dir():
        raise UsageError(
            f"--plot {path}: there is no directory {path.parent}", remedy=f"make it: mkdir -p {path.parent}"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"--plot {path}: {path.parent} cannot be written", remedy="name a directory that you may write"
        )


def write(path: Path | None, result: Mapping[str, Any], *, quiet: bool) -> None:
    """Draw what was measured.

    Args:
        path: None draws nothing.
        result: as --json prints it.
        quiet: do not say that it was written.

    Raises:
        UsageError: the file cannot be written after all, or nothing was measured.
    """
    if path is None:
        return
    try:
        write_atomically(path, figure(result).encode())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--plot {path}: {getattr(error, 'strerror', None) or error}",
            remedy="the figures above are complete; name another file and run it again for the plot",
        ) from error
    if not quiet:
        say(f"drawn: {path}")
