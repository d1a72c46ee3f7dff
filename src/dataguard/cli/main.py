"""Entry point: turns expected errors into one line and an exit code; bugs keep their traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from dataguard.cli import options
from dataguard.cli.group import cli
from dataguard.errors import DataguardError

__all__ = ["main"]


class _Ended(BaseException):
    """A signal asked the process to end; unwinds like Ctrl-C, so that nothing unfinished is left behind."""


def main() -> None:
    """Run the command line and exit."""
    _use_kernel_cache()
    _end_in_order()
    try:
        code = cli.main(prog_name="dataguard", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "dataguard"
        options.complain(f"{error.format_message().rstrip('.')}; see `{where} --help`")
        code = 2
    except DataguardError as error:
        options.complain(str(error))
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("dataguard: interrupted; nothing half-written was left behind", err=True)
        code = 130
    except _Ended as ended:
        code = _quietly(128 + int(ended.args[0]))
    except SystemExit:
        # click's own answer to a reader that went away (a pipe into `head`): no finding and no error of ours.
        code = _quietly(0)
    except BrokenPipeError:
        code = _quietly(0)
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        options.complain(
            f"{where}{error.strerror or error}; check the name, its permissions and the free space"
        )
        code = _quietly(2)
    sys.exit(code if isinstance(code, int) else 0)


def _quietly(code: int) -> int:
    """Point stdout at nothing, so that the interpreter's last flush cannot fail, and return `code`."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _end_in_order() -> None:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does; what the caller has set or ignored (nohup) stays."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise _Ended(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def _use_kernel_cache() -> None:
    """Keep compiled kernels between commands, in a folder of our own (a library user decides for himself)."""
    os.environ.setdefault("DATAGUARD_NUMBA_CACHE", "1")
    if "NUMBA_CACHE_DIR" not in os.environ:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        os.environ["NUMBA_CACHE_DIR"] = str(Path(base) / "dataguard" / "kernels")
