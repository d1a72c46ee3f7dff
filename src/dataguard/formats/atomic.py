"""Outputs that appear whole or not at all.

Everything is written beside its final place, synced to disk and then renamed; whatever
ends the work early, KeyboardInterrupt included, takes the unfinished file with it. What a
killed process could not take along, the next write to the same place removes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from dataguard.errors import UsageError

__all__ = [
    "atomic_directory", "atomic_write", "claim", "discard", "is_abandoned", "remove_leftovers", "sync_folder",
    "unclaim",
]  # fmt: skip

_LONGEST = 180
_CLAIM = "unfinished"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str], *, force: bool = False, private: bool = False
) -> Iterator[io.BufferedRandom]:
    """Open a binary file that takes its name only when the block ends without an exception.

    Parameters
    ----------
    path : path
        Final place; its folder must exist. Mode 0644 minus umask.
    force : bool
        Replace an existing file.
    private : bool
        Mode 0600 instead.

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
    with _writing(target):
        _check_free(target, force)
        temporary = _beside(target, lambda name: os.close(os.open(name, os.O_CREAT | os.O_EXCL, 0o600)))
        try:
            with temporary.open("w+b") as file:
                yield file
                file.flush()
                if not private:  # nobody else reads it before it has its name
                    os.fchmod(file.fileno(), 0o644 & ~_umask())
                os.fsync(file.fileno())
            _put(temporary, target, force)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


@contextlib.contextmanager
def atomic_directory(
    path: str | os.PathLike[str], *, force: bool = False, private: bool = False
) -> Iterator[Path]:
    """Make a directory that takes its name only when the block ends without an exception.

    Parameters
    ----------
    path : path
        Final place; its parent must exist. An existing empty directory counts as free.
    force : bool
        Replace an existing directory and everything in it; never one that holds the
        current folder or the user's home.
    private : bool
        Mode 0700 instead of 0755 minus umask.

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
    with _writing(target):
        _check_replaceable(target, force)
        temporary = _beside(target, lambda name: name.mkdir(0o700))
        aside = temporary.with_suffix(".old")
        try:
            yield temporary
            for folder, _, files in os.walk(temporary):
                for file in files:
                    _sync_file(Path(folder, file))
                sync_folder(Path(folder))
            if not private:
                temporary.chmod(0o755 & ~_umask())
            _check_replaceable(target, force)
            if not (target.exists() and _exchange(temporary, target)):
                if target.exists():
                    target.rename(aside)
                temporary.rename(target)
        except BaseException:
            if aside.exists() and not target.exists():
                aside.rename(target)
            for left in (temporary, aside):
                shutil.rmtree(left, ignore_errors=True)
            raise
        sync_folder(target.parent)
        for left in (temporary, aside):
            shutil.rmtree(left, ignore_errors=True)


def remove_leftovers(folder: Path) -> bool:
    """Remove what killed processes of this host left in a folder, whatever it was to become; return if any was.

    An unfinished copy under a hidden name goes out with the folder when that is packed and sent.
    """
    pattern = re.compile(rf"\.(.+)\.{_host()}-([1-9][0-9]{{0,9}})-[0-9]+\.part", re.DOTALL)
    is_found = False
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            found = pattern.fullmatch(path.name)
            if found is not None and not _alive(int(found[2])):
                is_found = True
                _remove(path)
    return is_found


# --- folders that count only once a registry names them -----------------------------------------------


def claim(folder: Path) -> None:
    """Mark a folder as unfinished work of this process, until `unclaim`."""
    (folder / f"{_stem(Path(_CLAIM))}{os.getpid()}-0.part").touch()


def unclaim(folder: Path) -> None:
    """Take the mark away: the folder is finished."""
    for mark in folder.glob(f".{_CLAIM}.*.part"):
        mark.unlink(missing_ok=True)


def is_abandoned(folder: Path) -> bool:
    """Whether a folder is unfinished work of a process of this host that is gone."""
    pattern = re.compile(re.escape(_stem(Path(_CLAIM))) + r"([1-9][0-9]{0,9})-0\.part")
    marks = [pattern.fullmatch(mark.name) for mark in folder.glob(f".{_CLAIM}.*.part")]
    return bool(marks) and all(mark is not None and not _alive(int(mark[1])) for mark in marks)


def discard(folder: Path) -> None:
    """Remove a folder so that no part of it is ever seen under its name."""
    aside = folder.with_name(f"{_stem(folder)}{os.getpid()}-0.part")
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _check_free(target: Path, force: bool) -> None:
    if target.is_dir():
        raise UsageError("is a directory", where=str(target), remedy="name a file")
    if not force and os.path.lexists(target):
        raise UsageError("already exists", where=str(target), remedy="pass --force to replace it")


def _put(temporary: Path, target: Path, force: bool) -> None:
    """Give the file its name; without `force` never over one that somebody was faster to put there."""
    _check_free(target, force)
    if not force:
        try:
            os.link(temporary, target)  # unlike a rename it refuses an existing name
        except FileExistsError:
            _check_free(target, force)
        except OSError:  # a file system without hard links
            pass
        else:
            temporary.unlink()
            return
    temporary.replace(target)


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step, where the system (Linux) and the file system can; else do nothing.

    Between two renames a kill would leave the old folder under a hidden name, and nothing under its own.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE (linux/fcntl.h, linux/fs.h)
    return swap is not None and swap(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn a refusal of the file system into one line; errors about other files pass unchanged."""
    if not target.parent.is_dir():
        raise UsageError("no such folder", where=str(target.parent), remedy="make it first")
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            named = Path(os.fsdecode(error.filename))
            inside = str(named).startswith(str(target.with_name(_stem(target))))
            if named.parent != target.parent and not inside:
                raise
        raise UsageError(
            f"cannot be written ({error.strerror or error})",
            where=str(target),
            remedy="free some space, or name another place" if error.errno in _FULL else "",
        ) from error


def _beside(target: Path, make: Callable[[Path], None]) -> Path:
    """Make a temporary file or folder beside `target` under the first free name."""
    _sweep(target)
    attempt = 0
    while True:
        temporary = target.with_name(f"{_stem(target)}{os.getpid()}-{attempt}.part")
        try:
            make(temporary)
        except FileExistsError:
            attempt += 1
        else:
            return temporary


def _stem(target: Path) -> str:
    """Start of all temporary names for `target`: ``.NAME.HOST-``, so that process ids mean something."""
    name = target.name
    if len(os.fsencode(name)) > _LONGEST:  # a name has at most 255 bytes, ours included
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}.{_host()}-"


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _sweep(target: Path) -> None:
    """Remove what processes of this host left for `target` when they were killed.

    Only exact names of this module count, and only of processes that are gone. A folder set
    aside by a process killed between its two renames goes back to its place.
    """
    pattern = re.compile(re.escape(_stem(target)) + r"([1-9][0-9]{0,9})-[0-9]+\.(part|old)")
    with contextlib.suppress(OSError):  # whatever cannot be removed does no harm but lie there
        for name in sorted(path.name for path in target.parent.iterdir()):
            found = pattern.fullmatch(name)
            if found is None or _alive(int(found[1])):
                continue
            left = target.with_name(name)
            if found[2] == "old" and not os.path.lexists(target):
                left.rename(target)
            else:
                _remove(left)


def _remove(left: Path) -> None:
    if left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    """Whether a process runs; always so where asking could end it (Windows)."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user
        return True
    return True


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
