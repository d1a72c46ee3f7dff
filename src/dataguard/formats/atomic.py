"""Outputs that appear whole or not at all.

Everything is written beside its final place, synced to disk and then renamed; whatever
ends the work early, KeyboardInterrupt included, takes the unfinished file with it.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from dataguard.errors import UsageError

__all__ = ["atomic_directory", "atomic_write", "sync_folder"]


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[io.BufferedRandom]:
    """Open a binary file that takes its name only when the block ends without an exception.

    Parameters
    ----------
    path : path
        Final place; its folder must exist. Mode 0644 minus umask.
    force : bool
        Replace an existing file.

    Yields
    ------
    io.BufferedRandom
        Open for writing and reading; its ``name`` is the temporary path.

    Raises
    ------
    UsageError
        `path` exists and not `force`, is a directory, or cannot be written (no folder, no
        permission, no space).
    """
    target = Path(path)
    _check_free(target, force)
    with _writing(target):
        temporary = _beside(target, lambda name: os.close(os.open(name, os.O_CREAT | os.O_EXCL, 0o644)))
        try:
            with temporary.open("w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _check_free(target, force)  # somebody may have been faster
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Make a directory that takes its name only when the block ends without an exception.

    Parameters
    ----------
    path : path
        Final place; its parent must exist. An existing empty directory counts as free.
    force : bool
        Replace an existing directory and everything in it; never one that holds the
        current folder or the user's home.

    Yields
    ------
    Path
        The temporary directory to fill.

    Raises
    ------
    UsageError
        As `atomic_write`; also when `path` is a file or a link.
    """
    target = Path(path)
    _check_replaceable(target, force)
    with _writing(target):
        temporary = _beside(target, lambda name: name.mkdir(0o755))
        aside = temporary.with_suffix(".old")
        try:
            yield temporary
            for folder, _, files in os.walk(temporary):
                for file in files:
                    _sync_file(Path(folder, file))
                sync_folder(Path(folder))
            _check_replaceable(target, force)
            if target.exists():
                target.rename(aside)
            temporary.rename(target)
        except BaseException:
            if aside.exists() and not target.exists():
                aside.rename(target)
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(target.parent)
        shutil.rmtree(aside, ignore_errors=True)


def _check_free(target: Path, force: bool) -> None:
    if target.is_dir():
        raise UsageError("is a directory", where=str(target), remedy="name a file")
    if not force and os.path.lexists(target):
        raise UsageError("already exists", where=str(target), remedy="pass --force to replace it")


def _check_replaceable(target: Path, force: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise UsageError("exists and is not a directory", where=str(target), remedy="name another place")
    if not any(target.iterdir()):
        return
    if not force:
        raise UsageError("already exists", where=str(target), remedy="pass --force to replace it")
    for kept in (Path.cwd(), Path.home()):
        if kept.resolve().is_relative_to(target.resolve()):
            raise UsageError(f"holds {kept}", where=str(target), remedy="name another place")


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn a refusal of the file system into one line; errors about other files pass unchanged."""
    if not target.parent.is_dir():
        raise UsageError("no such folder", where=str(target.parent), remedy="make it first")
    try:
        yield
    except OSError as error:
        beside = error.filename is None or Path(os.fsdecode(error.filename)).parent == target.parent
        if not beside:
            raise
        raise UsageError(f"cannot be written ({error.strerror})", where=str(target)) from error


def _beside(target: Path, make: Callable[[Path], None]) -> Path:
    """Make a temporary file or folder beside `target` under the first free name."""
    attempt = 0
    while True:
        temporary = target.with_name(f".{target.name}.{os.getpid()}-{attempt}.part")
        try:
            make(temporary)
        except FileExistsError:
            attempt += 1
        else:
            return temporary


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make a rename durable, where the system can sync folders (Windows and some shares cannot)."""
    with contextlib.suppress(OSError):
        _sync_file(path)
