"""Entry point: turns expected errors into one line and an exit code; bugs keep their traceback."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from dataguard.cli.group import cli
from dataguard.errors import DataguardError

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit."""
    _use_kernel_cache()
    try:
        code = cli.main(prog_name="dataguard", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except DataguardError as error:
        click.echo(f"dataguard: error: {error}", err=True)
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("dataguard: interrupted; nothing half-written was left behind", err=True)
        code = 130
    except BrokenPipeError:
        # The reader went away (a pipe into `head`): no error of ours; keep the interpreter from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _use_kernel_cache() -> None:
    """Keep compiled kernels between commands, in a folder of our own (a library user decides for himself)."""
    os.environ.setdefault("DATAGUARD_NUMBA_CACHE", "1")
    if "NUMBA_CACHE_DIR" not in os.environ:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        os.environ["NUMBA_CACHE_DIR"] = str(Path(base) / "dataguard" / "kernels")
