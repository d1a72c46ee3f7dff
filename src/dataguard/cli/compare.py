"""``dataguard compare``."""

from __future__ import annotations

from typing import Any

import click

from dataguard.cli import options, progress

__all__ = ["command", "show"]


@click.command("compare", epilog="Example: dataguard compare flights.parquet found.csv")
@click.argument("original", type=click.Path())
@click.argument("suspect", type=click.Path())
@click.option("--alpha", type=options.Level(0, 1, min_open=True, max_open=True), default=1e-6, show_default=True,
              help="Largest error at which a relation is stated.")  # fmt: skip
@options.json_option
@progress.memory_option
@options.quiet_option
@options.exit_zero_option
def command(
    original: str, suspect: str, alpha: float, as_json: bool, memory: str | None, quiet: bool, exit_zero: bool
) -> None:
    """Say how SUSPECT is related to ORIGINAL: which rows, which columns, what was done. No vault needed."""
    from dataguard.investigate import compare

    silent = quiet or as_json
    options.note(f"comparing {options.named(original)} with {options.named(suspect)}", quiet=silent)
    with progress.budget(memory, silent=silent) as budget:
        result = compare(
            options.input_path(original), options.input_path(suspect), alpha=alpha, budget=budget
        )
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
    options.say(f"relation: {document['relation']}")
    drawn = "" if rows["examined"] == rows["suspect"] else f", drawn from {rows['suspect']:,},"
    options.say(
        f"{rows['matched']:,} of {rows['examined']:,} suspect rows{drawn} correspond to rows of the original "
        f"({rows['original']:,} rows)"
    )
    for key, what in (("containment_original", "of the original is in the suspect"),
                      ("containment_suspect", "of the suspect is in the original")):  # fmt: skip
        c = document[key]
        options.say(
            f"{100 * c['estimate']:.2f} % {what}"
            + ("" if c["exact"] else f" ({100 * c['low']:.2f} to {100 * c['high']:.2f} %)")
        )
    options.table(
        ["original column", "suspect column", "agreement", "changes"],
        [
            [
                str(c["original"]),
                str(c["suspect"]),
                "-" if c["agreement"] is None else f"{100 * c['agreement']:.1f} %",
                ", ".join(map(_change, c["changes"])),
            ]
            for c in document["columns"]
        ],
    )
    done = [_change(c) for c in document["changes"] if c["kind"] != "renamed"]
    renamed = sum(c["kind"] == "renamed" for c in document["changes"])
    if renamed:
        done.append(f"{renamed} columns renamed")
    if done:
        options.say("done to the table: " + "; ".join(done))
    if document["log10_p"] is not None:
        options.say(f"log10 p {options.decimal(document['log10_p'])}, if {document['null_hypothesis']}")


def _change(change: dict[str, Any]) -> str:
    """Return one change in words: its kind and particulars."""
    detail = ", ".join(f"{k} {_words(v)}" for k, v in change.items() if k != "kind")
    return f"{change['kind']} ({detail})" if detail else str(change["kind"])


def _words(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
