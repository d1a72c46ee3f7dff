"""``dataguard scan``."""

from __future__ import annotations

import click

from dataguard.cli import options, progress

__all__ = ["command"]


@click.command("scan", epilog="Example: dataguard scan downloads/ --json")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--alpha", type=options.Level(0, 1, min_open=True, max_open=True), default=1e-6, show_default=True,
              help="Error per file over all registered datasets.")  # fmt: skip
@options.vault_option
@options.json_lines_option
@progress.memory_option
@options.quiet_option
@options.exit_zero_option
def command(
    paths: tuple[str, ...],
    alpha: float,
    vault: str | None,
    as_json: bool,
    memory: str | None,
    quiet: bool,
    exit_zero: bool,
) -> None:
    """Say which registered datasets occur in which files (folders are searched).

    With --json: JSON Lines, one document per file.
    """
    matched = unread = read = 0
    missing: set[str] = set()
    with options.open_vault(vault) as opened, progress.budget(memory, silent=quiet or as_json) as budget:
        for result in opened.scan(paths, alpha=alpha, budget=budget):
            matched += bool(result.matches)
            unread += bool(result.skipped)
            read += not result.skipped
            for text in (t for t in result.unavailable if t not in missing):
                options.note(f"not looked for: {text}", quiet=quiet or as_json)
                missing.add(text)
            if as_json:
                options.print_json_line(result.to_dict())
            elif result.skipped:
                options.note(f"not read: {result.skipped}", quiet=quiet)
            for match in () if as_json else result.matches:
                share = match["containment_suspect"]["estimate"]
                options.say(
                    f"{result.path}: {match['dataset']} (version {match['version']}), "
                    f"{100 * share:.1f} % of the file's rows, log10 p {match['log10_p']}"
                )
            whole = result.decomposition
            if whole is not None and len(whole.parts) > 1 and not as_json:
                made = [f"{p.name} (version {p.version}) {100 * p.added_share:.1f} %" for p in whole.parts]
                options.say(
                    f"{result.path}: its rows, each counted once: {', '.join(made)}, "
                    f"none of these {100 * whole.unexplained_share:.1f} %"
                )
    if not as_json:
        found = (
            f"registered datasets found in {matched:,} of" if matched else "no registered dataset found in"
        )
        options.say(
            f"{found} {options.counted(read, 'file')}"
            + (f"; {unread:,} could not be read" if unread else "")
            + (f"; {options.counted(len(missing), 'dataset')} could not be looked for" if missing else "")
        )
    options.found(1 if matched else 4 if unread or missing else 0, exit_zero=exit_zero)
