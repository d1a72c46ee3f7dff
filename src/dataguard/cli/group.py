"""The command group: commands are imported only when they run, so that --help stays fast."""

from __future__ import annotations

import importlib

import click

__all__ = ["COMMANDS", "LazyGroup", "cli"]

COMMANDS = {
    "init": "Make a vault: keys, registry, ledger.",
    "register": "Register an original: fingerprint, reference copy, commitment.",
    "protect": "Write a marked export for one recipient.",
    "compare": "Say how two datasets are related.",
    "scan": "Find registered datasets in files and folders.",
    "trace": "Say whose copy a suspect corresponds to.",
    "report": "Write the evidence bundle of a suspect.",
    "verify": "Re-check every number of a bundle, offline.",
    "ledger": "Show, sign, check or export the ledger.",
    "vault": "Back up, restore, check, or set a passphrase.",
    "key": "Let new keys take over.",
    "demo": "Watch all of it on bundled real data.",
}
"""Command name -> one line of help; each lives in ``dataguard.cli.<name>.command``."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in the order of a case's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"dataguard.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list from the table above, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


_HELP = """Share data without fear: mark each recipient's copy, find leaks, trace them, prove it.

\b
Provider      init, register, protect, ledger
Investigator  compare, scan, trace
Counsel       report, verify

Exit codes: 0 done or nothing found, 1 something found, 2 bad input,
3 evidence not trusted, 4 some files unread, 70 internal error, 130 interrupted.
"""


@click.group(
    cls=LazyGroup,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: dataguard demo",
)
@click.version_option(package_name="dataguard", prog_name="dataguard")
def cli() -> None:
    """Run a dataguard command."""
