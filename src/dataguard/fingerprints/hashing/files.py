"""Digests of files, read in pieces: what was handed over, to the byte.

Memory is bounded by one piece, whatever the size of the file. The digests are those of
the xxhash tools (``xxhsum -H2``, ``-H3``); they find accidental changes and equal files,
not forgeries: evidence is committed with SHA-256 elsewhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import xxhash

from dataguard.errors import DecodeError, UsageError

__all__ = ["FileDigest", "Readable", "digest_file"]

PIECE = 1 << 20
"""Bytes read at a time: from 256 kB on the speed no longer depends on it."""


class Readable(Protocol):
    """Anything that hands out bytes."""

    def read(self, size: int, /) -> bytes | str:
        """Return at most `size` bytes; none at the end. Text is refused."""
        ...


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Digest of a stream of bytes.

    Attributes
    ----------
    algorithm : str
        ``xxh3-128`` or ``xxh3-64``, seed 0.
    digest : str
        Hexadecimal digits, the most significant first (the canonical form of xxHash).
    size : int
        Bytes read.
    """

    algorithm: str
    digest: str
    size: int


def digest_file(source: str | os.PathLike[str] | Readable, algorithm: str = "xxh3-128") -> FileDigest:
    """Return the digest of a file, or of an open binary file from where it stands on.

    Parameters
    ----------
    source : path, or object with ``read``
    algorithm : {"xxh3-128", "xxh3-64"}

    Raises
    ------
    UsageError
        For another algorithm, or a file that hands out text.
    DecodeError
        If the file cannot be read.
    """
    if algorithm not in ("xxh3-128", "xxh3-64"):
        raise UsageError(f"no file digest {algorithm!r}", remedy="use 'xxh3-128' or 'xxh3-64'")
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            with path.open("rb", buffering=0) as file:
                return _digest(file, algorithm)
        except OSError as error:
            raise DecodeError(
                f"cannot be read ({error.strerror})", where=str(path), remedy="check the path"
            ) from None
    if not hasattr(source, "read"):
        raise UsageError(
            f"no file but a {type(source).__name__}",
            remedy="give a path, or a file that is open in binary mode",
        )
    return _digest(source, algorithm)


def _digest(source: Readable, algorithm: str) -> FileDigest:
    state = xxhash.xxh3_128() if algorithm == "xxh3-128" else xxhash.xxh3_64()
    size = 0
    while True:
        piece = source.read(PIECE)
        if isinstance(piece, str):
            raise UsageError("the file hands out text", remedy="open it in binary mode")
        if not piece:
            break
        state.update(piece)
        size += len(piece)
    return FileDigest(algorithm, state.hexdigest(), size)
