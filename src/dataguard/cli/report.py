"""``dataguard report``."""

from __future__ import annotations

import click

from dataguard.cli import options, progress

__all__ = ["command"]


@click.command("report", epilog="Example: dataguard report found.csv --dataset flights -o bundle/")
@click.argument("suspect", type=click.Path())
@click.option("--dataset", metavar="NAME", help="Registered dataset [default: found by content].")
@click.option("-o", "--out", required=True, type=click.Path(), help="Folder to make.")
@click.option("--alpha", type=options.Level(0, 1e-9, min_open=True), default=1e-9, show_default=True,
              help="Family-wise error, as in trace.")  # fmt: skip
@options.vault_option
@options.json_option
@progress.memory_option
@options.quiet_option
@options.force_option
def command(
    suspect: str, dataset: str | None, out: str, alpha: float,
    vault: str | None, as_json: bool, memory: str | None, quiet: bool, force: bool,
) -> None:  # fmt: skip
    """Trace SUSPECT and write a signed evidence bundle (report.html, report.json, ...), status DRAFT."""
    silent = quiet or as_json
    with options.open_vault(vault) as opened, progress.budget(memory, silent=silent) as budget:
        options.note(f"tracing {options.named(suspect)} and writing {out}", quiet=silent)
        written = opened.report(
            options.input_path(suspect), out=out, dataset=dataset, alpha=alpha, force=force, budget=budget
        )
    if as_json:
        options.print_json(written.to_dict())
        return
    options.say(f"{written.path}: {written.findings} findings, status {written.status}")
    for name in written.files:
        options.say(f"  {name}")
    options.note("Re-check it anywhere: dataguard verify " + str(written.path), quiet=quiet)
