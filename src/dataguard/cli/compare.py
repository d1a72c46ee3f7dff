"""``dataguard compare``."""

from __future__ import annotations

from typing import Any

import click

from dataguard.cli import options

__all__ = ["command", "show"]


@click.command("compare", epilog="Example: dataguard compare flights.parquet found.csv")
@click.argument("original", type=click.Path())
@click.argument("suspect", type=click.Path())
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=1e-6, show_default=True,
              help="Largest error at which a relation is stated.")  # fmt: skip
@options.json_option
@options.quiet_option
@options.exit_zero_option
def command(original: str, suspect: str, alpha: float, as_json: bool, quiet: bool, exit_zero: bool) -> None:
    """Say how SUSPECT is related to ORIGINAL: which rows, which columns, what was done. No vault needed."""
    from dataguard.investigate import compare

    options.note(f"comparing {original} with {suspect}", quiet=quiet or as_json)
    result = compare(original, suspect, alpha=alpha)
    document = result.to_dict()
    if as_json:
        options.print_json(document)
    else:
        show(document)
    related = document["relation"] not in ("unrelated", "same-schema")
    options.found(1 if related else 0, exit_zero=exit_zero)


def show(document: dict[str, Any]) -> None:
    """Print a comparison for people."""
    rows = document["rows"]
    click.echo(f"relation: {document['relation']}")
    click.echo(
        f"{rows['matched']:,} of {rows['suspect']:,} suspect rows correspond to rows of the original "
        f"({rows['original']:,} rows)"
    )
    for key, what in (("containment_original", "of the original is in the suspect"),
                      ("containment_suspect", "of the suspect is in the original")):  # fmt: skip
        c = document[key]
        click.echo(
            f"{100 * c['estimate']:.2f} % {what}"
            + ("" if c["exact"] else f" ({100 * c['low']:.2f} to {100 * c['high']:.2f} %)")
        )
    options.table(
        ["original column", "suspect column", "agreement", "changes"],
        [
            [
                str(c["original"]),
                str(c["suspect"]),
                f"{100 * c['agreement']:.1f} %",
                ", ".join(map(_change, c["changes"])),
            ]
            for c in document["columns"]
        ],
    )
    if document["changes"]:
        click.echo("done to the table: " + ", ".join(map(_change, document["changes"])))
    if document["log10_p"] is not None:
        click.echo(f"log10 p {document['log10_p']:.1f}, if {document['null_hypothesis']}")


def _change(change: Any) -> str:
    if isinstance(change, str):
        return change
    parts = dict(change)
    kind = parts.pop("kind", parts.pop("change", None)) or next(iter(parts))
    detail = " ".join(f"{k}={v}" for k, v in parts.items() if k != kind)
    return f"{kind} ({detail})" if detail else str(kind)
