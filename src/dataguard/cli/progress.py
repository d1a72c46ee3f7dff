"""How much memory a command may take, and how it shows that it is working."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from dataguard.budget import DEFAULT_MEMORY, LEAST_MEMORY, Budget, parse_memory, unwatched
from dataguard.cli import options
from dataguard.errors import UsageError

__all__ = ["budget", "memory_option", "note_first_use"]

memory_option = click.option(
    "--memory",
    metavar="SIZE",
    help="Main memory the command may take, like 800M or 4G; larger data is worked on in blocks "
    "[default: $DATAGUARD_MEMORY, else 2G].",
)


@contextmanager
def budget(memory: str | None, *, silent: bool) -> Iterator[Budget]:
    """Yield the budget of a command; progress bars on stderr, where that is a terminal.

    Parameters
    ----------
    memory : str or None
        As given on the command line.
    silent : bool
        No bars (``--quiet``, ``--json``).
    """
    if not silent:
        note_first_use()
    text = memory or os.environ.get("DATAGUARD_MEMORY")
    size = parse_memory(text) if text else DEFAULT_MEMORY
    if text and size < LEAST_MEMORY:
        raise UsageError(f"{text!r} is too little memory", remedy=f"allow at least {LEAST_MEMORY >> 20}M")
    if silent or not sys.stderr.isatty():
        yield Budget(size, unwatched)
        return
    bars = _Bars()
    try:
        yield Budget(size, bars.watch)
    finally:
        bars.stop()


def note_first_use() -> None:
    """Say why the first command of a fresh install takes longer."""
    cache = Path(os.environ.get("NUMBA_CACHE_DIR", ""))
    if not any(cache.rglob("*.nbi")):
        options.note("compiling for this machine: some seconds, once")


class _Bars:
    """One bar per step, made when the step first tells of itself."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}

    def watch(self, what: str, done: int, total: int) -> None:
        """Show how far a step is."""
        from rich.markup import escape

        if self._progress is None:
            self._progress = _progress()
            self._progress.start()
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(escape(what), total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(file=sys.stderr), transient=True)
