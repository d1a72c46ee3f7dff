"""``dataguard trace``."""

from __future__ import annotations

from typing import Any

import click

from dataguard.cli import options, progress

__all__ = ["command", "show"]


@click.command("trace", epilog="Example: dataguard trace found.csv --dataset flights")
@click.argument("suspect", type=click.Path())
@click.option("--dataset", metavar="NAME", help="Registered dataset [default: found by content].")
@click.option("--alpha", type=options.Level(0, 1e-9, min_open=True), default=1e-9, show_default=True,
              help="Family-wise error over all recipients and all runs on the dataset.")  # fmt: skip
@options.vault_option
@options.json_option
@progress.memory_option
@options.quiet_option
@options.exit_zero_option
def command(
    suspect: str,
    dataset: str | None,
    alpha: float,
    vault: str | None,
    as_json: bool,
    memory: str | None,
    quiet: bool,
    exit_zero: bool,
) -> None:
    """Say whose copy SUSPECT corresponds to, with a bound on the chance of naming a copy wrongly."""
    silent = quiet or as_json
    with options.open_vault(vault) as opened, progress.budget(memory, silent=silent) as budget:
        options.note(f"tracing {options.named(suspect)}", quiet=silent)
        result = opened.trace(options.input_path(suspect), dataset=dataset, alpha=alpha, budget=budget)
    if as_json:
        options.print_json(result.to_dict())
    else:
        show(result)
    if result.also_found:
        options.note(
            f"also found in it: {', '.join(result.also_found)}; trace them with --dataset", quiet=quiet
        )
    for missing in result.unavailable or ():
        options.note(f"not looked for: {missing}", quiet=quiet)
    options.found(1 if result.corresponding else 0, exit_zero=exit_zero)


def show(result: Any) -> None:
    """Print a trace for people."""
    a = result.accusation
    options.say(f"{result.outcome}" + "".join(f": the copy of {name}" for name in result.corresponding))
    is_drawn = result.examined_rows < result.suspect_rows
    drawn = f" examined, drawn from {result.suspect_rows:,}," if is_drawn else ""
    options.say(
        f"{result.aligned_rows:,} of {options.counted(result.examined_rows, 'suspect row')}{drawn} aligned to "
        f"{result.dataset!r}, {options.counted(a.votes, 'slot')} read, "
        f"{options.counted(a.hypotheses, 'committed key')} scored"
    )
    options.table(
        ["recipient", "slots agreeing", "log10 p", "adjusted for all tests"],
        [
            [
                r.recipient,
                f"{r.agreeing} of {a.votes}",
                options.decimal(r.log10_p),
                options.decimal(r.log10_p_adjusted),
            ]
            for r in a.recipients[:5]
        ],
    )
    if a.best_decoy_log10_p is not None:
        options.say(f"best of {a.decoys} keys never issued: log10 p {options.decimal(a.best_decoy_log10_p)}")
    spent = (
        "same test as an earlier run, nothing spent" if result.repeated else f"run {a.spent} on this dataset"
    )
    options.say(f"named at {result.alpha:g} over all keys and runs ({spent})")
