"""Which files make a bundle, and how they are read: each once, into memory, and nothing else followed.

A bundle comes from the other side of a dispute: links, devices and endless files in it must
do no harm.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataguard.errors import EvidenceError

__all__ = [
    "ANNEX",
    "LEDGER",
    "MAX_FILE_BYTES",
    "PAGE",
    "README",
    "REPORT",
    "REQUIRED",
    "STATEMENT",
    "Contents",
    "read_contents",
]

REPORT = "report.json"
STATEMENT = "statement.dsse.json"
PAGE = "report.html"
LEDGER = "ledger.json"
ANNEX = "annex/openings.json"
README = "README.txt"
REQUIRED = (REPORT, STATEMENT, PAGE, LEDGER, ANNEX, README)

MAX_FILE_BYTES = 512 * 1024 * 1024
"""Largest file of a bundle that is read (bytes)."""
_MAX_ENTRIES = 10_000
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """What lies in a bundle directory.

    Attributes
    ----------
    files : mapping of str to bytes
        The required files, by name.
    digests : mapping of str to str
        Hex SHA-256 of every regular file found, by path with ``/``.
    strays : tuple of str
        Entries that are neither a regular file nor a directory (links, pipes, devices).
    """

    files: Mapping[str, bytes]
    digests: Mapping[str, str]
    strays: tuple[str, ...]


def read_contents(path: Path) -> Contents:
    """Return what lies in the bundle at `path`.

    Raises
    ------
    EvidenceError
        Not a directory, a required file missing, a file beyond the size limit, or unreadable.
    """
    where = str(path)
    if not path.is_dir():
        raise EvidenceError(
            "not a bundle directory", where=where, remedy="name the folder that holds report.json"
        )
    try:
        names, strays = _walk(path)
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            raise EvidenceError(
                f"not a bundle: no {missing[0]}", where=where, remedy="name a complete bundle folder"
            )
        files = {name: _read(path / name) for name in REQUIRED}
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        digests |= {name: _digest(path / name) for name in names if name not in files}
    except OSError as error:
        raise EvidenceError(
            f"cannot be read ({error.strerror})", where=where, remedy="check the folder's permissions"
        ) from None
    return Contents(files, digests, tuple(strays))


def _walk(top: Path) -> tuple[set[str], list[str]]:
    """Return (regular files, other entries) below `top`, following no link."""
    names: set[str] = set()
    strays: list[str] = []
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(top / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(name + "/")
                elif entry.is_file(follow_symlinks=False):
                    names.add(name)
                else:
                    strays.append(name)
                if len(names) + len(strays) + len(pending) > _MAX_ENTRIES:
                    raise EvidenceError(
                        f"more than {_MAX_ENTRIES} entries", where=str(top), remedy="name a bundle folder"
                    )
    return names, sorted(strays)


def _open(path: Path) -> int:
    # Opened without following links and without waiting for a pipe's other end; checked after opening.
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    descriptor = os.open(path, flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
        os.close(descriptor)
        raise EvidenceError(
            f"not a file of at most {MAX_FILE_BYTES >> 20} MiB",
            where=str(path),
            remedy="name a bundle folder",
        )
    return descriptor


def _read(path: Path) -> bytes:
    with os.fdopen(_open(path), "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise EvidenceError("file grows while it is read", where=str(path), remedy="copy the bundle first")
    return data


def _digest(path: Path) -> str:
    digest, left = hashlib.sha256(), MAX_FILE_BYTES
    with os.fdopen(_open(path), "rb") as file:
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
