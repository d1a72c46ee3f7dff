"""``dataguard ledger``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dataguard.cli import options

__all__ = ["command"]


@click.group("ledger", epilog="Example: dataguard ledger verify")
def command() -> None:
    """Show, sign, check or export the tamper-evident ledger."""


@command.command("show", epilog="Example: dataguard ledger show --json")
@options.vault_option
@options.json_option
@options.quiet_option
def show(vault: str | None, as_json: bool, quiet: bool) -> None:
    """List registrations, commitments, exports and trace runs."""
    del quiet  # nothing is said on stderr
    with options.open_vault(vault) as opened:
        entries, root = opened.ledger_entries(), opened.ledger_root()
    shown = [
        {"seq": e.seq, "time": e.time, "type": e.type, "scope": e.scope, **_brief(e.payload)} for e in entries
    ]
    if as_json:
        options.print_json(
            {"schema": "dataguard.ledger/1", "size": len(entries), "root": root, "entries": shown}
        )
        return
    options.table(
        ["seq", "time", "type", "dataset", "recipient", "detail"],
        [
            [
                str(e.seq),
                e.time,
                e.type,
                str(e.payload.get("dataset", "")),
                str(e.payload.get("recipient", "")),
                _detail(e),
            ]
            for e in entries
        ],
    )
    options.say(f"{len(entries)} entries, root {root}")


def _brief(payload: Any) -> dict[str, Any]:
    keep = ("dataset", "version", "recipient", "generation", "sha256", "outcome", "votes", "run")
    return {k: payload[k] for k in keep if k in payload}


def _detail(entry: Any) -> str:
    p = entry.payload
    if entry.type == "trace-outcome":
        return f"run {p['run']}: {p['outcome']}"
    if entry.type == "trace-run":
        return f"{p['votes']} votes"
    return f"sha256 {p['sha256'][:16]}" if "sha256" in p else ""


@command.command("checkpoint", epilog="Example: dataguard ledger checkpoint --json > checkpoint.json")
@options.vault_option
@options.json_option
@options.quiet_option
def checkpoint(vault: str | None, as_json: bool, quiet: bool) -> None:
    """Sign size and root, for a witness or time-stamp service."""
    del quiet
    with options.open_vault(vault) as opened:
        made = opened.ledger_checkpoint()
    document = {
        "schema": "dataguard.checkpoint/1", "size": made.size, "root": made.root, "time": made.time,
        "entries": [], "envelope": made.envelope.decode(),
    }  # fmt: skip
    if as_json:
        options.print_json(document)
    else:
        options.say(f"{made.size} entries, root {made.root}, {made.time}")


@command.command("verify", epilog="Example: dataguard ledger verify")
@options.vault_option
@options.json_option
@options.quiet_option
def verify(vault: str | None, as_json: bool, quiet: bool) -> None:
    """Recompute every leaf, root and checkpoint."""
    del quiet
    with options.open_vault(vault) as opened:
        steps, size, root = opened.ledger_verify(), len(opened.ledger_headers()), opened.ledger_root()
    trusted = all(s.ok for s in steps)
    if as_json:
        options.print_json({
            "schema": "dataguard.ledger-verify/1", "size": size, "root": root, "entries": [],
            "trusted": trusted, "steps": [s.to_dict() for s in steps],
        })  # fmt: skip
    else:
        for step in steps:
            options.say(f"{step.n:>3} {'ok' if step.ok else 'NO':<3} {step.name}: {step.detail}")
    raise click.exceptions.Exit(0 if trusted else 3)


@command.command("export", epilog="Example: dataguard ledger export -o headers.json")
@click.option("-o", "--out", type=click.Path(), help="File to write [default: stdout].")
@options.vault_option
@options.json_option
@options.quiet_option
@options.force_option
def export(out: str | None, vault: str | None, as_json: bool, quiet: bool, force: bool) -> None:
    """Write the headers, without recipients, to a file.

    They are enough to recompute the root.
    """
    del quiet
    import json

    from dataguard.formats.atomic import atomic_write

    del as_json  # it is always JSON
    with options.open_vault(vault) as opened:
        headers, root = opened.ledger_headers(), opened.ledger_root()
    document = {"schema": "dataguard.ledger/1", "size": len(headers), "root": root, "entries": headers}
    if out is None:
        options.print_json(document)
        return
    with atomic_write(Path(out), force=force) as file:
        file.write(json.dumps(document, ensure_ascii=False).encode())
    options.say(f"{out}: {len(headers)} headers")
