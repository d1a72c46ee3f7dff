"""``dataguard init``."""

from __future__ import annotations

import click

from dataguard.cli import options

__all__ = ["command"]


@click.command("init", epilog="Example: dataguard init --vault ~/vault")
@options.vault_option
@options.json_option
@options.quiet_option
def command(vault: str | None, as_json: bool, quiet: bool) -> None:
    """Make a vault: signing key, master secret, registry, ledger.

    Keys are files of mode 0600. Back up the folder: without the master secret no
    copy can be traced any more.
    """
    from dataguard.vault import Vault

    with Vault.create(options.vault_folder(vault)) as made:
        document = {
            "schema": "dataguard.init/1",
            "vault": str(made.folder),
            "registry": str(made.registry),
            "public_key": made.public_key.hex(),
        }
    if as_json:
        options.print_json(document)
        return
    options.say(f"vault       {document['vault']}")
    options.say(f"public key  {document['public_key']}")
    options.note(
        "Back up this folder, its keys above all; keep the public key where others can see it.", quiet=quiet
    )
