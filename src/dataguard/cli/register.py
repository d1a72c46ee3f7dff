"""``dataguard register``."""

from __future__ import annotations

import click

from dataguard.cli import options, progress
from dataguard.errors import UsageError

__all__ = ["command", "parse_tolerance"]


def parse_tolerance(pairs: tuple[str, ...]) -> dict[str, float]:
    """Return ``col=x`` options as a mapping.

    Raises
    ------
    UsageError
        Not of that form, or not a number from 0.
    """
    tolerance = {}
    for pair in pairs:
        name, sign, text = pair.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not sign or not name or not 0 <= value < float("inf"):
            raise UsageError(
                f"--tolerance {pair!r}", remedy="write column=number, for example --tolerance price=0.5"
            )
        tolerance[name] = value
    return tolerance


@click.command(
    "register",
    epilog="Example: dataguard register flights.parquet --name flights --protect-columns air_time",
)
@click.argument("data", type=click.Path())
@click.option("--name", required=True, help="Name of the dataset; again with the same name: a new version.")
@click.option("--kind", help="Kind of data [default: found out].")
@click.option("--no-keep", is_flag=True, help="Remember path and digest instead of keeping a reference copy.")
@click.option("--protect-columns", metavar="A,B", default="", help="Columns that never carry a mark.")
@click.option(
    "--tolerance", metavar="COL=X", multiple=True, help="Largest change of a column (repeatable); 0: none."
)
@options.vault_option
@options.json_option
@progress.memory_option
@options.quiet_option
def command(
    data: str, name: str, kind: str | None, no_keep: bool, protect_columns: str, tolerance: tuple[str, ...],
    vault: str | None, as_json: bool, memory: str | None, quiet: bool,
) -> None:  # fmt: skip
    """Register DATA as an original: fingerprint, reference copy, commitment in the ledger."""
    columns = [c.strip() for c in protect_columns.split(",") if c.strip()]
    silent = quiet or as_json
    if no_keep and data == "-":
        raise UsageError(
            "stdin is gone once it is read",
            where="-",
            remedy="leave --no-keep out, or save it to a file first",
        )
    with options.open_vault(vault) as opened, progress.budget(memory, silent=silent) as budget:
        options.note(f"reading {options.named(data)}", quiet=silent)
        done = opened.register(
            options.input_path(data), name=name, kind=kind, keep=not no_keep,
            protect_columns=columns, tolerance=parse_tolerance(tolerance), budget=budget,
        )  # fmt: skip
    if as_json:
        options.print_json(done.to_dict())
        return
    capacity = done.capacity
    options.say(
        f"{done.dataset} version {done.version}: {done.rows:,} rows x {done.columns} columns, {done.kind}"
    )
    options.table(
        ["marked columns (a group moves together)", "slots"],
        [[" + ".join(g["columns"]), f"{g['slots']:,}"] for g in capacity["groups"]],
    )
    if capacity["guarded"]:
        options.table(["left alone", "why"], [[c, str(r)] for c, r in capacity["guarded"].items()])
    if capacity["sorted_by_marked"]:
        options.note(
            f"warning: rows run in order of {', '.join(capacity['sorted_by_marked'])}, which carries marks; "
            "register the table shuffled, or a careful leaker can undo them",
            quiet=quiet,
        )
    f = capacity["forecast"]
    options.say(
        f"smallest traceable leak: about {f['rows']} unchanged rows "
        f"({f['votes_needed']} readable slots, {f['recipients']:,} recipients, error {f['alpha']:g})"
    )
