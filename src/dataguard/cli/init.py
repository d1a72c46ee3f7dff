"""``dataguard init``."""

from __future__ import annotations

import click

from dataguard.cli import options

__all__ = ["command"]


@click.command("init", epilog="Example: dataguard init --vault ~/vault --passphrase")
@click.option(
    "--passphrase",
    "is_locked",
    is_flag=True,
    help="Encrypt the keys; asks twice, or takes $DATAGUARD_PASSPHRASE or --passphrase-file.",
)
@click.option(
    "--registry",
    metavar="URL",
    help="postgresql://user@host/database[?schema=NAME] [default: a SQLite file in the vault].",
)
@options.vault_option
@options.json_option
@options.quiet_option
def command(is_locked: bool, registry: str | None, vault: str | None, as_json: bool, quiet: bool) -> None:
    """Make a vault: signing key, master secret, registry, ledger.

    Keys are files of mode 0600. Back up the vault (dataguard vault backup): without the
    master secret no copy can be traced any more. A server's password is taken from
    PGPASSWORD, ~/.pgpass or the URL, and not stored.
    """
    from dataguard.vault import Vault

    wanted = is_locked or options.given_file(options.PASSPHRASE_FILE) is not None
    secret = options.passphrase("New passphrase of the vault", is_new=True) if wanted else None
    with Vault.create(options.vault_folder(vault), passphrase=secret, registry=registry) as made:
        document = {
            "schema": "dataguard.init/1",
            "vault": str(made.folder),
            "registry": made.registry,
            "public_key": made.public_key.hex(),
            "locked": made.is_locked,
        }
    if as_json:
        options.print_json(document)
        return
    options.say(f"vault       {document['vault']}")
    if registry is not None:
        options.say(f"registry    {document['registry']}")
        options.note("The server's password is not stored: set PGPASSWORD, or use ~/.pgpass.", quiet=quiet)
    options.say(f"public key  {document['public_key']}")
    options.note(
        "Back up this vault (dataguard vault backup); keep the public key where others can see it.",
        quiet=quiet,
    )
    if wanted:
        options.note(
            "Nobody can open it without the passphrase: keep that in a second place too.", quiet=quiet
        )
