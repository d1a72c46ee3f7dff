"""``dataguard compare``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dataguard.cli import options, progress

if TYPE_CHECKING:
    from dataguard.budget import Budget
    from dataguard.fingerprints.comparison.exhibits import Exhibits
    from dataguard.fingerprints.comparison.tables import Comparison

__all__ = ["command", "show"]


@click.command("compare", epilog="Example: dataguard compare flights.parquet found.csv --html found.html")
@click.argument("original", type=click.Path())
@click.argument("suspect", type=click.Path())
@click.option("--alpha", type=options.Level(0, 1, min_open=True, max_open=True), default=1e-6, show_default=True,
              help="Largest error at which a relation is stated.")  # fmt: skip
@click.option("--html", "page", type=click.Path(), metavar="FILE", help="Also write a page for people.")
@click.option("--mask", "masked", multiple=True, metavar="COLS",
              help="Columns whose cells the page covers, with commas; auto: those that look personal. "
              "Given names add to auto.")  # fmt: skip
@click.option("--no-mask", is_flag=True, help="Cover no cells in the page.")
@click.option("--public", multiple=True, type=click.Path(), metavar="FILE",
              help="Freely available data: rows in it say nothing. May be given several times.")  # fmt: skip
@click.option("--lang", type=click.Choice(["ja", "en", "both"]), default="both", show_default=True,
              help="Language of the page; of the terminal, where it is one.")  # fmt: skip
@options.json_option
@options.force_option
@progress.memory_option
@options.quiet_option
@options.exit_zero_option
def command(
    original: str,
    suspect: str,
    alpha: float,
    page: str | None,
    masked: tuple[str, ...],
    no_mask: bool,
    public: tuple[str, ...],
    lang: str,
    as_json: bool,
    force: bool,
    memory: str | None,
    quiet: bool,
    exit_zero: bool,
) -> None:
    """Say how SUSPECT is related to ORIGINAL: which rows, which columns, what was done. No vault needed."""
    mask = _mask(masked, no_mask=no_mask, has_page=page is not None)
    if page is not None:
        _check_free(Path(page), force=force)
        _check_no_input(Path(page), (original, suspect, *public))
    silent = quiet or as_json
    options.note(f"comparing {options.named(original)} with {options.named(suspect)}", quiet=silent)
    inputs = options.input_path(original), options.input_path(suspect)
    with progress.budget(memory, silent=silent) as budget:
        result, exhibits = _compared(inputs, public, alpha, budget, wants_page=page is not None)
    document = result.to_dict()
    if page is not None:
        names = options.named(original), options.named(suspect)
        text = _page(
            result, exhibits, inputs, names, page=page, public=public, alpha=alpha, mask=mask, lang=lang
        )
        _write(Path(page), text, force=force)
    if as_json:
        options.print_json(document)
    else:
        if "public" in document:
            taken, whole = document["public"]["rows"], document["rows"]["suspect"]
            options.say(
                f"{taken:,} of {whole:,} suspect rows are freely available and were left out; of the rest:"
            )
        show(document, lang)
    if page is not None:
        options.note(f"page: {page}", quiet=silent)
    related = document["relation"] not in ("unrelated", "same-schema")
    options.found(1 if related else 0, exit_zero=exit_zero)


def _mask(given: tuple[str, ...], *, no_mask: bool, has_page: bool) -> tuple[str, ...]:
    """Return the columns to cover: what looks personal, and those named, unless nothing is to be."""
    from dataguard.errors import UsageError
    from dataguard.pages.covering import AUTO

    if (given or no_mask) and not has_page:
        raise UsageError("covers cells of a page", where="--mask", remedy="add --html FILE")
    if no_mask and given:
        raise UsageError("contradicts --mask", where="--no-mask", remedy="leave one of the two out")
    names = [name.strip() for one in given for name in one.split(",")]
    return () if no_mask else (AUTO, *(name for name in names if name and name != AUTO))


def _check_free(page: Path, *, force: bool) -> None:
    """Refuse a place that cannot be written before minutes are spent on what is to be written there."""
    from dataguard.errors import UsageError

    if page.is_dir():
        raise UsageError("is a directory", where=str(page), remedy="name a file")
    if not force and os.path.lexists(page):
        raise UsageError("already exists", where=str(page), remedy="pass --force to replace it")
    if not page.absolute().parent.is_dir():
        raise UsageError("no such folder", where=str(page.parent), remedy="make it first")


def _check_no_input(page: Path, inputs: tuple[str, ...]) -> None:
    """Refuse to write the page over what is compared."""
    from dataguard.errors import UsageError

    if any(page.exists() and Path(given).exists() and page.samefile(given) for given in inputs):
        raise UsageError("is one of the files that are compared", where=str(page), remedy="name another file")


def _compared(
    inputs: tuple[str, str], public: tuple[str, ...], alpha: float, budget: Budget, *, wants_page: bool
) -> tuple[Comparison, Exhibits]:
    """Compare; exhibits only where a page shows them."""
    from dataguard import investigate
    from dataguard.fingerprints.comparison.exhibits import Exhibits

    if wants_page or public:
        more = tuple(options.input_path(p) for p in public)
        return investigate.compare_with_exhibits(*inputs, alpha=alpha, budget=budget, public=more)
    return investigate.compare(*inputs, alpha=alpha, budget=budget), Exhibits()


def _page(
    result: Comparison,
    exhibits: Exhibits,
    inputs: tuple[str, str],
    names: tuple[str, str],
    *,
    page: str,
    public: tuple[str, ...],
    alpha: float,
    mask: tuple[str, ...],
    lang: str,
) -> str:
    """Return the page; the command stands on it without the password of a URI."""
    import shlex

    from dataguard._version import VERSION
    from dataguard.formats.source import open_source
    from dataguard.pages.comparison import comparison_page

    said = ["dataguard", "compare", *names, "--html", page]
    said += [word for one in public for word in ("--public", options.named(one))]
    return comparison_page(
        result, exhibits, original=names[0], suspect=names[1],
        original_sha256=open_source(inputs[0]).sha256(), suspect_sha256=open_source(inputs[1]).sha256(),
        command=shlex.join(said), tool=VERSION, alpha=alpha, mask=mask, lang=lang,
    )  # fmt: skip


def _write(page: Path, text: str, *, force: bool) -> None:
    from dataguard.formats.atomic import atomic_write

    with atomic_write(page, force=force) as file:
        file.write(text.encode())


def show(document: dict[str, Any], lang: str = "en") -> None:
    """Print a comparison for people; plain when stdout is no terminal, or where colour is not wanted."""
    from rich.console import Console

    from dataguard.pages.terminal import comparison_screen

    is_terminal = sys.stdout.isatty()
    is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    # In a pipe or a file nothing needs to be folded to a screen.
    console = Console(
        file=sys.stdout, highlight=False, markup=False, emoji=False, width=None if is_terminal else 240
    )
    for part in comparison_screen(document, lang=lang, is_plain=not (is_terminal and is_unicode)):
        console.print(part)
