"""Entry point: turns errors into one line and an exit code; bugs show their traceback only if asked to."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

import click

from dataguard.cli import options
from dataguard.cli.group import cli
from dataguard.errors import DataguardError

__all__ = ["main"]

DEBUG = "DATAGUARD_DEBUG"
"""Variable that brings the traceback of an internal error back."""

_INTERNAL = 70
"""Exit code of a bug: EX_SOFTWARE of sysexits.h."""

_SEEN: list[int] = []
"""Signals that have asked the command at work to end."""


class _Ended(BaseException):
    """A signal asked the process to end; unwinds like Ctrl-C, so that nothing unfinished is left behind."""


def main() -> None:
    """Run the command line and exit."""
    _use_kernel_cache()
    _SEEN.clear()
    _end_in_order()
    try:
        code = cli.main(prog_name="dataguard", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else error.format_message())
        code = 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "dataguard"
        options.complain(f"{error.format_message().rstrip('.')}; see `{where} --help`")
        code = 2
    except DataguardError as error:
        options.complain(str(error))
        code = 2
    except (KeyboardInterrupt, click.Abort):
        code = _interrupted()
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
    except BaseException as error:  # noqa: BLE001 - a bug; or an interruption that a library has renamed
        code = _unexpected(error)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupted() -> int:
    click.echo("dataguard: interrupted; nothing half-written was left behind", err=True)
    return 130


def _unexpected(error: BaseException) -> int:
    """Answer what is no expected error: a signal seen before it is its cause (numba raises anew)."""
    if signal.SIGINT in _SEEN:
        return _interrupted()
    if _SEEN:
        return _quietly(128 + _SEEN[0])
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    options.complain(f"{what}; set {DEBUG}=1 for the details and report it", kind="internal error")
    return _INTERNAL


def _quietly(code: int) -> int:
    """Point stdout at nothing, so that the interpreter's last flush cannot fail, and return `code`."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _end_in_order() -> None:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does; what the caller has set or ignored (nohup) stays.

    The signals that arrive are noted: where a library turns what is raised into an exception of its own,
    nothing else tells it from a bug.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        _SEEN.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise _Ended(number)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)

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
