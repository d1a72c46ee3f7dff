"""Commands as processes that end early: killed, interrupted, out of space, at a chosen call or time.

Run as a script it is a server that has everything imported and forks one process per command, so that a
kill falls into the command's work and not into the interpreter's start. `Shell` is its client.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

SRC = Path(__file__).resolve().parents[1] / "src"
EVENTS = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.symlink", "os.truncate"}
"""Audit events of Python that can change a disk; syncs and statements of the registry are added by hand."""


# --- in the child: count the calls that change the disk ------------------------------------------------


class Calls:
    """Counts the calls of this process that can change something below `root`, and acts at one of them.

    Parameters
    ----------
    root : str
    act : callable
        Called with (number, text) before each such call, and after each statement of the registry.
    """

    def __init__(self, root, act):
        self._root, self._act, self.count, self._is_off = root, act, 0, False

    def hit(self, text):
        if self._is_off:
            return
        self.count += 1
        self._is_off = True  # what `act` itself does is not counted
        try:
            self._act(self.count, text)
        finally:
            self._is_off = False

    def install(self):
        from dataguard.registry.sqlite import SqliteStore

        sys.addaudithook(self._audit)
        sync, change = os.fsync, SqliteStore._change

        def counted_sync(descriptor):
            target = f"/proc/self/fd/{descriptor}"
            self.hit(f"sync {Path(target).readlink()}" if os.path.lexists(target) else "sync")
            return sync(descriptor)

        def counted_change(store, sql, values=()):
            self.hit(f"before {sql[:40]}")
            found = change(store, sql, values)
            self.hit(f"after {sql[:40]}")
            return found

        os.fsync, SqliteStore._change = counted_sync, counted_change

    def _audit(self, event, args):
        if event not in EVENTS or self._is_off:
            return
        if event == "open" and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = args[0]
        is_relative = event in ("os.remove", "os.rmdir") and args[-1] not in (None, -1)
        if not is_relative and not str(path).startswith(self._root):
            return
        names = [str(a) for a in args[: 2 if event in ("os.rename", "os.link") else 1]]
        self.hit(" ".join([event.removeprefix("os."), *names]))


def _actor(request):
    if request.get("record"):
        record = Path(request["record"]).open("a", buffering=1)  # noqa: SIM115 - as long as the process

        def write(_number, text):
            record.write(text + "\n")

        return write
    number, what = request["at"], request["what"]

    def act(count, text):
        if (
            what == "full"
            and count >= number
            and text.split(" ")[0] in ("open", "mkdir", "sync", "link", "rename")
        ):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if what != "full" and count == number:
            os.kill(os.getpid(), what)

    return act


def _child(request):
    out = os.open(request["out"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "record" in request or "at" in request:
        Calls(request["root"], _actor(request)).install()
    if "limit" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
    if "uid" in request:
        os.setgid(request["uid"])
        os.setuid(request["uid"])
    sys.argv = ["dataguard", *request["argv"]]
    from dataguard.cli.main import main

    try:
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 - the last resort of a process
        import traceback

        traceback.print_exc()
        code = 70
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def serve(root):
    """Answer requests, one JSON document a line: start a command (its pid) or wait for one (its end)."""
    import importlib

    from dataguard.cli.group import COMMANDS

    for name in COMMANDS:
        importlib.import_module(f"dataguard.cli.{name}")
    importlib.import_module("dataguard.vault")
    if root:  # every command's work is done once in here: kernels are loaded when commands are forked
        from faulty_world import make_base

        make_base(Path(root))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if not answer:
                _child(request)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


# --- the client --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code (negative: the signal), and all it printed."""

    code: int
    text: str

    @property
    def is_done(self) -> bool:
        """Whether the command said so: 0, or 1 for a trace that names somebody."""
        return self.code in (0, 1)

    def line(self) -> str:
        """Return the one line of an error, or raise if it is not one line."""
        lines = [text for text in self.text.splitlines() if "error:" in text]
        assert len(lines) == 1, self.text
        assert "Traceback" not in self.text, self.text
        return lines[0]


class Shell:
    """Starts commands in processes of their own; use it in a ``with`` block.

    Parameters
    ----------
    folder : Path
        Commands work below it.
    base : Path, optional
        Where to make a first world (`faulty_world.make_base`).
    """

    def __init__(self, folder: Path, base: Path | None = None) -> None:
        self._folder, self._n = folder, 0
        folder.mkdir(parents=True, exist_ok=True)
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(base or "")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(SRC)},
        )  # fmt: skip
        assert self._server.stdout.readline() == "ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def start(self, *argv: object, **more: Any) -> tuple[int, Path]:
        """Start a command; return its process and the file it prints to (see `finish`)."""
        self._n += 1
        out = self._folder / f"{os.getpid()}-{self._n}.txt"
        request = {"argv": [str(a) for a in argv], "out": str(out), "root": str(self._folder), **more}
        return self._ask(request), out

    def finish(self, started: tuple[int, Path]) -> Done:
        """Wait for a command."""
        code = self._ask({"wait": started[0]})
        text = started[1].read_text(errors="replace") if started[1].exists() else ""
        started[1].unlink(missing_ok=True)
        return Done(code, text)

    def run(self, *argv: object, after: float | None = None, by: int = signal.SIGKILL, **more: Any) -> Done:
        """Run a command; with `after` send it a signal that many seconds later.

        With ``at=N, what=SIGNAL`` it gets the signal at its N-th call that can change the disk below the
        shell's folder, with ``at=N, what="full"`` all that need room fail from there on, with ``record=FILE``
        these calls are written down. ``limit=BYTES`` bounds the size of files, ``uid=N`` is another user.
        """
        started = self.start(*argv, **more)
        if after is not None:
            time.sleep(after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(started[0], by)
        return self.finish(started)

    def calls(self, *argv: object) -> list[str]:
        """Run a command to its end and return its calls that can change the disk, in order."""
        record = self._folder / "record.txt"
        record.unlink(missing_ok=True)
        done = self.run(*argv, record=str(record))
        assert done.is_done, done.text
        return record.read_text().splitlines()

    def _ask(self, request: dict[str, Any]) -> int:
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


if __name__ == "__main__":
    serve(sys.argv[1])
