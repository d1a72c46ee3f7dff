"""``dataguard protect``."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import click

from dataguard.budget import Budget
from dataguard.cli import options, progress
from dataguard.errors import UsageError

__all__ = ["command", "distortion_rows"]


def distortion_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the distortion report as table rows."""
    return [
        [
            r["part"], f"{100 * r['changed']:.1f} %", _number(r["mean_sd"], 3), _number(r["max_sd"], 2),
            _number(r["max_abs"], 2), f"{r['ks']:g}", "yes" if r["exact"] else "NO",
        ]
        for r in rows
    ]  # fmt: skip


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


@click.command("protect", epilog="Example: dataguard protect flights --recipient acme -o acme.parquet")
@click.argument("name")
@click.option("--recipient", required=True, metavar="ID", help="Who gets this copy.")
@click.option(
    "-o", "--out", required=True, type=click.Path(), help="File to write; its suffix decides the format."
)
@click.option(
    "--profile",
    type=click.Choice(["single"]),
    default="single",
    show_default=True,
    help="Bias law of the marks.",
)
@click.option("--terms", type=click.Path(), help="Contract or terms; its digest goes into the ledger.")
@click.option("--expires", metavar="DATE", help="End of the permission, YYYY-MM-DD.")
@options.vault_option
@options.json_option
@progress.memory_option
@options.quiet_option
@options.force_option
def command(
    name: str, recipient: str, out: str, profile: str, terms: str | None, expires: str | None,
    vault: str | None, as_json: bool, memory: str | None, quiet: bool, force: bool,
) -> None:  # fmt: skip
    """Write a marked export of NAME (a registered dataset, or a file) for one recipient.

    The ledger entry is made before any marked byte is released; a mark that does not
    read back, or would break the distortion contract, is refused.
    """
    from dataguard.protect import check_target

    del profile  # one law so far; the export records it
    recipient = recipient.strip()
    check_target(Path(out), force)
    silent = quiet or as_json
    with _vault_for(name, vault) as opened, progress.budget(memory, silent=silent) as budget:
        dataset = _registered(opened, name, budget)
        options.note(f"marking {dataset} for {recipient}", quiet=silent)
        done = opened.protect(
            dataset, recipient=recipient, out=out, force=force, terms=terms, expires=expires, budget=budget
        )
    document = done.to_dict()
    if as_json:
        options.print_json(document)
        return
    options.say(f"{done.out}: {done.slots_marked:,} slots marked for {recipient}")
    options.table(
        ["column", "changed", "mean (sd)", "max (sd)", "max", "KS", "same values"],
        distortion_rows(document["distortion"]["rows"]),
    )
    d = done.distortion
    options.say(
        f"largest change of a correlation {d.correlation:.4f}; facts newly violated {sum(d.violations.values())}"
    )
    options.say(f"smallest traceable leak: about {done.forecast.rows} unchanged rows")
    options.say(f"sha256 {done.sha256}")
    if _is_past(expires):
        options.note(f"note: the permission ended on {expires}, before today", quiet=quiet)


def _is_past(day: str | None) -> bool:
    return day is not None and dt.date.fromisoformat(day) < dt.datetime.now(tz=dt.UTC).date()


def _vault_for(name: str, given: str | None) -> Any:
    from dataguard.vault import Vault

    folder = options.vault_folder(given)
    if not (folder / "vault.json").exists() and _is_data(name):
        from dataguard.formats.source import open_source
        from dataguard.modalities.discovery import detect
        from dataguard.register import check_name

        check_name(_stem(name))
        detect(open_source(name))  # a file that cannot be read must not leave a vault behind
        options.note(f"made a new vault in {folder}: back it up")
        return Vault.create(folder)
    return Vault.open(folder, passphrase=options.passphrase)


def _is_data(name: str) -> bool:
    """Whether what stands in a dataset's place is a file, a folder, a part of a file, or a URI."""
    from dataguard.formats.source import split_part

    return "://" in name or split_part(Path(name))[0].exists()


def _stem(name: str) -> str:
    """Return the name a file or table is registered under; of a URI, nothing that could be a secret."""
    from urllib.parse import urlsplit

    from dataguard.formats.source import PART, split_part

    if "://" not in name:
        return split_part(Path(name))[0].name.split(".")[0]
    place, _, part = name.partition(PART)
    return part or urlsplit(place).path.rpartition("/")[2].split(".")[0]


def _registered(opened: Any, name: str, budget: Budget) -> str:
    """Return the dataset's name; a file not registered yet is registered under its stem."""
    if opened.is_registered(name) or not _is_data(name):
        return name
    stem = _stem(name)
    if not opened.is_registered(stem):
        opened.register(name, name=stem, budget=budget)
        options.note(f"registered {options.named(name)} as {stem!r}")
        return stem
    raise UsageError(
        f"a dataset {stem!r} is registered already", where=options.named(name),
        remedy="protect it by name, or register this file as its new version: dataguard register "
        f"{options.named(name)} --name {stem}",
    )  # fmt: skip
