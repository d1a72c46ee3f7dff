"""Options and output conventions every command shares."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from dataguard.errors import KeyringError, UsageError

__all__ = [
    "Level", "complain", "counted", "decimal", "exit_zero_option", "force_option", "found", "given_file",
    "input_path", "json_lines_option", "json_option", "named", "note", "open_vault", "passphrase",
    "print_json", "print_json_line", "quiet_option", "say", "table", "vault_folder", "vault_option",
]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])

PASSPHRASE_FILE, PASSPHRASE = "--passphrase-file", "DATAGUARD_PASSPHRASE"
_MAX_SECRET = 64 * 1024
_LONGEST = 1600
"""Characters of an error: names in it may be a megabyte long, and what to do stands at its end."""


def secret_file_option(name: str, what: str) -> Callable[[F], F]:
    """Return an option for a file with a secret; `passphrase` looks it up, so no command passes it on."""

    def keep(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
        ctx.meta[f"dataguard{name}"] = value

    return click.option(
        name, type=click.Path(), metavar="FILE", expose_value=False, callback=keep, help=what
    )  # fmt: skip


def vault_option(command: F) -> F:
    """Add ``--vault``, and ``--passphrase-file`` for where its keys are locked."""
    what = f"File (mode 0600) with its passphrase [default: ${PASSPHRASE}, else asked]."
    folder = click.option(
        "--vault", "vault", metavar="DIR",
        help="Vault folder [default: $DATAGUARD_VAULT, else .dataguard here].",
    )  # fmt: skip
    return folder(secret_file_option(PASSPHRASE_FILE, what)(command))


class Level(click.FloatRange):
    """An error probability; unlike click's own range it does not take nan."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number.

        Raises
        ------
        click.BadParameter
            Not a number, or outside the range.
        """
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail("nan is no probability", param, ctx)
        return number


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
json_lines_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON Lines on stdout: one document per file."
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress or notes on stderr.")
force_option = click.option("--force", is_flag=True, help="Replace existing output.")
exit_zero_option = click.option("--exit-zero", is_flag=True, help="Exit 0 even when something is found.")


def vault_folder(given: str | None) -> Path:
    """Return the vault folder: the option, else the environment, else ``.dataguard`` here."""
    return Path(given or os.environ.get("DATAGUARD_VAULT") or ".dataguard")


def open_vault(given: str | None) -> Any:
    """Open the vault a command works on."""
    from dataguard.vault import Vault

    return Vault.open(vault_folder(given), passphrase=passphrase)


def given_file(option: str) -> str | None:
    """Return the file given by an option of `secret_file_option`."""
    context = click.get_current_context(silent=True)
    found: str | None = context.meta.get(f"dataguard{option}") if context else None
    return found


def passphrase(
    what: str = "Passphrase of the vault",
    *,
    option: str = PASSPHRASE_FILE,
    variable: str = PASSPHRASE,
    is_new: bool = False,
) -> str:
    """Return a passphrase: from the file given, else the environment, else asked for without echo.

    Parameters
    ----------
    what : str
        The prompt.
    option, variable : str
        Where else it may be given.
    is_new : bool
        Ask twice.

    Raises
    ------
    KeyringError
        The file cannot be read or is open to others; nothing given and no terminal to ask on.
    """
    given = given_file(option)
    if given is not None:
        return _secret_of(Path(given))
    if os.environ.get(variable):
        return os.environ[variable]
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise KeyringError("a passphrase is needed", remedy=f"set {variable} or pass {option} FILE")
    answer: str = click.prompt(what, hide_input=True, err=True, confirmation_prompt=is_new)
    return answer


def _secret_of(path: Path) -> str:
    """Return the first line of a file nobody else may read."""
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read(_MAX_SECRET)
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise KeyringError(
            f"cannot read the passphrase ({why})", where=str(path), remedy="check it"
        ) from None
    if os.name == "posix" and mode & 0o077:
        raise KeyringError("passphrase file is open to others", where=str(path), remedy=f"chmod 600 {path}")
    if not text or "\n" in text:
        raise KeyringError("is not one line", where=str(path), remedy="write the passphrase into it")
    return text


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document; keys keep their order, Japanese stays readable."""
    _echo_json(document, 2 if sys.stdout.isatty() else None)


def print_json_line(document: Mapping[str, Any]) -> None:
    """Print one JSON document of several, on a line of its own."""
    _echo_json(document, None)


def _echo_json(document: Mapping[str, Any], indent: int | None) -> None:
    """Print JSON in which nothing foreign can steer a terminal or turn a line around, and nothing is lost.

    What JSON lets pass raw and a terminal may act on (DEL, C1, bidirectional marks, separators, lone
    surrogates of file names) is escaped, as RFC 8259, section 7, allows for any character.
    """
    is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    text = json.dumps(document, ensure_ascii=not is_unicode, allow_nan=False, indent=indent)
    click.echo("".join(c if c == "\n" or _is_plain(c) else json.dumps(c)[1:-1] for c in text))


def note(text: str, *, quiet: bool = False) -> None:
    """Write a line for people on stderr."""
    if not quiet:
        click.echo(_printable(text), err=True)


def say(text: str) -> None:
    """Write a line that may hold foreign text (file, column, recipient names) on stdout."""
    click.echo(_printable(text))


def complain(text: str, kind: str = "error") -> None:
    """Write the one line of an error on stderr."""
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    click.echo(f"dataguard: {kind}: {_printable(shown)}", err=True)


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

    from dataguard.formats.source import suffix_of_content

    folder = Path(tempfile.mkdtemp(prefix="dataguard-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    spooled = folder / "stdin"
    with spooled.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if not spooled.stat().st_size:
        raise UsageError("stdin is empty", where="-", remedy="pipe a file into it")
    return str(spooled.rename(folder / f"stdin{suffix_of_content(spooled)}"))


def counted(count: int, what: str) -> str:
    """Return a number with its noun, in the plural where there is not one; ``file(s)`` is not for people."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def decimal(value: float) -> str:
    """Return a number with one decimal, never as ``-0.0``."""
    return f"{round(value, 1) + 0.0:.1f}"


def named(given: str) -> str:
    """Return what a person gave as input, fit to be shown: a URI without its password or keys."""
    from dataguard.formats.source import shown

    return shown(given)


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
    return "".join(c if _is_plain(c) else "\ufffd" for c in text)


def _is_plain(c: str) -> bool:
    """Whether a character only shows itself; Python counts the full-width space as not printable."""
    return c.isprintable() or c == "\u3000"
