"""``dataguard key``."""

from __future__ import annotations

import click

from dataguard.cli import options

__all__ = ["command"]


@click.group("key", epilog="Example: dataguard key rotate")
def command() -> None:
    """Let new keys take over."""


@command.command("rotate", epilog="Example: dataguard key rotate --vault ~/vault")
@click.option(
    "--master", is_flag=True, help="A new master secret instead, for datasets registered from now on."
)
@options.vault_option
@options.json_option
@options.quiet_option
def rotate(master: bool, vault: str | None, as_json: bool, quiet: bool) -> None:
    """Let a new signing key take over.

    The old key acknowledges it in the ledger and is erased. Whoever knows the old public
    key can still check what is signed from now on; older bundles are checked as before.
    Back up the vault afterwards.
    """
    with options.open_vault(vault) as opened:
        previous = opened.public_key.hex()
        number = opened.rotate_master() if master else None
        if not master:
            opened.rotate_signing_key()
        document = {
            "schema": "dataguard.key-rotate/1", "rotated": "master" if master else "signing",
            "public_key": opened.public_key.hex(), "previous_public_key": previous, "master": number,
        }  # fmt: skip
    if as_json:
        options.print_json(document)
        return
    if master:
        options.say(f"master secret {number} is for datasets registered from now on")
    else:
        options.say(f"public key  {document['public_key']}")
        options.say(f"before      {previous}")
    options.note("Back up the vault now: an older backup lacks the new key.", quiet=quiet)
