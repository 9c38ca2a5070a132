"""A progress bar on stderr while a terminal watches, and nothing otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Bar:
    """What a task tells of its progress, in any unit."""

    def __init__(self, set_total: Callable[[float], None], advance: Callable[[float], None]) -> None:
        self.total = set_total
        """Called once the amount of work is known."""
        self.advance = advance
        """Called with the amount of work just done; from any thread."""


SILENT = Bar(lambda _: None, lambda _: None)
"""Shows nothing."""


@contextmanager
def progress_bar(name: str, *, quiet: bool) -> Iterator[Bar]:
    """A bar that is gone when the block ends, so that a finished command leaves no trace of it."""
    if quiet or not sys.stderr.isatty():
        yield SILENT
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    # With a terminal on both, rich prints stdout's lines above the bar; a file or a pipe gets them itself.
    both = sys.stdout.isatty()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=both) as progress:
        task = progress.add_task(name, total=None)
        yield Bar(
            lambda total: progress.update(task, total=total), lambda amount: progress.advance(task, amount)
        )
