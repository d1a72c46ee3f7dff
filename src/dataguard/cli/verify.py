"""``dataguard verify``: needs neither a vault nor numpy."""

from __future__ import annotations

from pathlib import Path

import click

from dataguard.cli import options
from dataguard.errors import UsageError

__all__ = ["command"]


@click.command("verify", epilog="Example: dataguard verify bundle/ --public-key 3f...")
@click.argument("bundle", type=click.Path())
@click.option(
    "--public-key", metavar="HEX", help="Key the bundle must be signed with [default: the one it names]."
)
@options.json_option
@options.quiet_option
def command(bundle: str, public_key: str | None, as_json: bool, quiet: bool) -> None:
    """Re-check every number of BUNDLE, offline, from what lies in it."""
    from dataguard.evidence.verify import verify

    result = verify(Path(bundle), public_key=_key(public_key))
    if as_json:
        options.print_json(result.to_dict())
    else:
        for step in result.steps:
            click.echo(f"{step.n:>3} {'ok' if step.ok else 'NO':<3} {step.name}: {step.detail}")
        click.echo("trusted" if result.trusted else "NOT TRUSTED")
        for text in result.notes:
            options.note(f"note: {text}", quiet=quiet)
    raise click.exceptions.Exit(0 if result.trusted else 3)


def _key(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise UsageError(
            "--public-key is no Ed25519 key", remedy="give the 64 hex digits that `dataguard init` printed"
        )
    return key
