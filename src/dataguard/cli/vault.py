"""``dataguard vault``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dataguard.cli import options
from dataguard.errors import UsageError

__all__ = ["command"]

_BACKUP_FILE, _BACKUP = "--backup-passphrase-file", "DATAGUARD_BACKUP_PASSPHRASE"
_NEW_FILE, _NEW = "--new-passphrase-file", "DATAGUARD_NEW_PASSPHRASE"
_backup_option = options.secret_file_option(
    _BACKUP_FILE, f"File (mode 0600) with the backup's passphrase [default: ${_BACKUP}, else asked]."
)


@click.group("vault", epilog="Example: dataguard vault backup -o today.dgvault --encrypt")
def command() -> None:
    """Back up, restore, check, or set a passphrase."""


@command.command("backup", epilog="Example: dataguard vault backup -o today.dgvault --encrypt")
@click.option("-o", "--out", type=click.Path(), required=True, help="File to write.")
@click.option("--encrypt", is_flag=True, help="Encrypt all of it under a passphrase of its own.")
@click.option("--plain-keys", is_flag=True, help="Allow keys that lie open in the backup.")
@_backup_option
@options.vault_option
@options.json_option
@options.quiet_option
@options.force_option
def backup(
    out: str, encrypt: bool, plain_keys: bool, vault: str | None, as_json: bool, quiet: bool, force: bool
) -> None:
    """Write all of the vault to one file.

    Keys, registry, ledger, reference copies and plans; other commands may go on meanwhile.
    Originals registered with --no-keep are not in it.
    """
    encrypt = encrypt or options.given_file(_BACKUP_FILE) is not None
    if not encrypt and not plain_keys:
        _require_locked(vault, out)  # before any passphrase is asked for
    with options.open_vault(vault) as opened:
        secret = _backup_passphrase(is_new=True) if encrypt else None
        made = opened.backup(out, passphrase=secret, plain_keys=plain_keys, force=force)
    if as_json:
        options.print_json(made.to_dict())
        return
    options.say(
        f"{made.out}: {made.files} files, {made.bytes} bytes{', encrypted' if made.encrypted else ''}"
    )
    options.note("Restore it once, somewhere: dataguard vault restore FILE --vault DIR", quiet=quiet)


def _require_locked(vault: str | None, out: str) -> None:
    from dataguard.keyfile import KeyFiles

    folder = options.vault_folder(vault)
    if (folder / "vault.json").is_file() and not KeyFiles(folder / "keys").is_locked:
        raise UsageError(
            "the keys would lie open in the backup",
            where=out,
            remedy="pass --encrypt, or --plain-keys if the file is kept as safe as the vault",
        )


def _backup_passphrase(*, is_new: bool = False) -> str:
    what = "New passphrase of the backup" if is_new else "Passphrase of the backup"
    return options.passphrase(what, option=_BACKUP_FILE, variable=_BACKUP, is_new=is_new)


@command.command("restore", epilog="Example: dataguard vault restore today.dgvault --vault ~/vault")
@click.argument("file", type=click.Path())
@click.option("--registry", metavar="URL", help="Put the registry on this PostgreSQL server.")
@_backup_option
@options.vault_option
@options.json_option
@options.quiet_option
def restore(file: str, registry: str | None, vault: str | None, as_json: bool, quiet: bool) -> None:
    """Unpack the backup FILE into a new vault folder and check it.

    Nothing is overwritten, and nothing is left of a backup that does not pass.
    """
    del quiet
    from dataguard.vault import Vault

    folder = options.vault_folder(vault)
    steps = Vault.restore(
        file, folder, passphrase=options.passphrase, backup_passphrase=_backup_passphrase, registry=registry
    )
    _show("dataguard.vault-restore/1", folder, steps, as_json=as_json)


@command.command("check", epilog="Example: dataguard vault check --vault ~/vault")
@options.vault_option
@options.json_option
@options.quiet_option
def check(vault: str | None, as_json: bool, quiet: bool) -> None:
    """Check ledger, keys, registry and reference copies.

    Committed roots are computed anew from what is kept. Exit code 3 if something does not hold.
    """
    del quiet
    from dataguard.vault import Vault

    folder = options.vault_folder(vault)
    steps = Vault.examine(folder, passphrase=options.passphrase)
    _show("dataguard.vault-check/1", folder, steps, as_json=as_json)
    raise click.exceptions.Exit(0 if all(step.ok for step in steps) else 3)


@command.command("passphrase", epilog="Example: dataguard vault passphrase")
@click.option("--remove", is_flag=True, help="Leave the keys as plain files of mode 0600.")
@options.secret_file_option(_NEW_FILE, f"File (mode 0600) with the new one [default: ${_NEW}, else asked].")
@options.vault_option
@options.json_option
@options.quiet_option
def passphrase(remove: bool, vault: str | None, as_json: bool, quiet: bool) -> None:
    """Set, change or remove the passphrase of the keys.

    It protects the keys only: plans and reference copies lie open in the vault folder, and
    older backups keep the passphrase they were made under.
    """
    del quiet
    with options.open_vault(vault) as opened:
        new = None
        if not remove:
            new = options.passphrase(
                "New passphrase of the vault", option=_NEW_FILE, variable=_NEW, is_new=True
            )
        opened.set_passphrase(new)
        document = {
            "schema": "dataguard.vault-passphrase/1",
            "vault": str(opened.folder),
            "locked": opened.is_locked,
        }
    if as_json:
        options.print_json(document)
    else:
        options.say("keys are locked" if document["locked"] else "keys are plain files")


def _show(schema: str, folder: Path, steps: list[Any], *, as_json: bool) -> None:
    trusted = all(step.ok for step in steps)
    if as_json:
        options.print_json({
            "schema": schema, "vault": str(folder), "trusted": trusted, "steps": [s.to_dict() for s in steps],
        })  # fmt: skip
        return
    for step in steps:
        options.say(f"{step.n:>3} {'ok' if step.ok else 'NO':<3} {step.name}: {step.detail}")
