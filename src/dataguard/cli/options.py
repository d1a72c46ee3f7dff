"""Options and output conventions every command shares."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from dataguard.errors import UsageError

__all__ = [
    "complain", "exit_zero_option", "force_option", "found", "input_path", "json_option", "note", "open_vault",
    "print_json", "quiet_option", "say", "table", "vault_folder", "vault_option",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])

vault_option = click.option(
    "--vault", "vault", metavar="DIR", help="Vault folder [default: $DATAGUARD_VAULT, else .dataguard here]."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress or notes on stderr.")
force_option = click.option("--force", is_flag=True, help="Replace existing output.")
exit_zero_option = click.option("--exit-zero", is_flag=True, help="Exit 0 even when something is found.")


def vault_folder(given: str | None) -> Path:
    """Return the vault folder: the option, else the environment, else ``.dataguard`` here."""
    return Path(given or os.environ.get("DATAGUARD_VAULT") or ".dataguard")


def open_vault(given: str | None) -> Any:
    """Open the vault a command works on."""
    from dataguard.vault import Vault

    return Vault.open(vault_folder(given))


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document; keys keep their order, Japanese stays readable."""
    click.echo(
        json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2 if sys.stdout.isatty() else None)
    )


def note(text: str, *, quiet: bool = False) -> None:
    """Write a line for people on stderr."""
    if not quiet:
        click.echo(_printable(text), err=True)


def say(text: str) -> None:
    """Write a line that may hold foreign text (file, column, recipient names) on stdout."""
    click.echo(_printable(text))


def complain(text: str) -> None:
    """Write the one line of an error on stderr."""
    click.echo(f"dataguard: error: {_printable(text)}", err=True)


def input_path(given: str) -> str:
    """Return a path to read: the one given, or for ``-`` a temporary file with what stdin holds.

    Raises
    ------
    UsageError
        stdin is empty.
    """
    if given != "-":
        return given
    import atexit
    import shutil
    import tempfile

    head = sys.stdin.buffer.read(4)
    if not head:
        raise UsageError("stdin is empty", where="-", remedy="pipe a file into it")
    suffix = ".parquet" if head == b"PAR1" else ".csv.gz" if head[:2] == b"\x1f\x8b" else ".csv"
    folder = Path(tempfile.mkdtemp(prefix="dataguard-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    spooled = folder / f"stdin{suffix}"
    with spooled.open("wb") as file:
        file.write(head)
        shutil.copyfileobj(sys.stdin.buffer, file)
    return str(spooled)


def found(code: int, *, exit_zero: bool) -> None:
    """Leave with `code`, or with 0 where a finding is not to be an error."""
    raise click.exceptions.Exit(0 if exit_zero and code == 1 else code)


def table(headings: list[str], rows: list[list[str]], title: str | None = None) -> None:
    """Print a table on stdout; plain when stdout is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, box=None if not sys.stdout.isatty() else _box(), title_justify="left")
    for heading in headings:
        shown.add_column(heading, overflow="fold")
    for row in rows:
        # Data is text, never markup: a suspect's column name must not style our output.
        shown.add_row(*[Text(_printable(cell)) for cell in row])
    # In a pipe or a file nothing needs to be folded to a screen.
    width = None if sys.stdout.isatty() else 240
    Console(file=sys.stdout, highlight=False, width=width).print(shown)


def _box() -> Any:
    from rich import box

    return box.SIMPLE_HEAD


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
