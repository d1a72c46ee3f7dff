"""Files compressed or not, opened as one stream of bytes.

The magic decides, never the suffix. Everything streams, so a file that blows up costs no memory;
one that would cost hours is refused, and what is damaged is said in one line.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import pyarrow as pa

from dataguard.errors import DecodeError

__all__ = ["ByteStream", "compression_of", "open_bytes", "reading"]

_MAX_RATIO = 200
"""Tables shrink to a hundredth at the most; gzip's own limit is 1,032, which bombs come near."""
_RATIO_FROM = 1 << 30
"""Bytes that may come out of any file, however small: 1 GiB takes seconds."""

_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))


class ByteStream(Protocol):
    """The part of a binary file that reading in blocks needs."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the front of `buffer`; return the bytes filled, 0 at the end."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Return up to `size` bytes."""


def compression_of(path: Path) -> str | None:
    """Return "gzip", "zstd" or None (plain), by the first bytes of the file.

    Raises
    ------
    DecodeError
        Unreadable file.
    """
    with reading(path), path.open("rb") as file:
        head = file.read(4)
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


@contextlib.contextmanager
def open_bytes(path: Path, compression: str | None) -> Iterator[ByteStream]:
    """Open a file for reading, decompressed; all members (gzip) or frames (zstd) one behind the other.

    Parameters
    ----------
    path : Path
    compression : str or None
        As returned by `compression_of`.

    Yields
    ------
    ByteStream
        Its methods raise DecodeError for what is unreadable, damaged, or unpacks to more than 1 GiB and 200
        times its size.

    Raises
    ------
    DecodeError
        A file that cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        with reading(path):
            if compression == "gzip":
                stream: ByteStream = cast("ByteStream", stack.enter_context(gzip.open(path, "rb")))
            elif compression == "zstd":
                raw = stack.enter_context(pa.OSFile(str(path)))
                stream = stack.enter_context(pa.CompressedInputStream(raw, "zstd"))
            else:
                stream = stack.enter_context(path.open("rb", buffering=0))
        with reading(path):
            size = path.stat().st_size
        yield _Guarded(stream, path, max(_RATIO_FROM, _MAX_RATIO * size) if compression else None)


class _Guarded:
    """A stream whose faults come out in one line; those of the block that reads it are left alone."""

    def __init__(self, stream: ByteStream, path: Path, room: int | None) -> None:
        self._stream = stream
        self._path = path
        self._room = room  # bytes that may still come out; None for any number

    def readinto(self, buffer: memoryview, /) -> int | None:
        with reading(self._path):
            got = self._stream.readinto(buffer)
        self._count(got or 0)
        return got

    def read(self, size: int = -1, /) -> bytes | None:
        with reading(self._path):
            data = self._stream.read(size)
        self._count(len(data or b""))
        return data

    def _count(self, size: int) -> None:
        if self._room is None:
            return
        self._room -= size
        if self._room < 0:
            raise DecodeError(
                f"unpacks to more than 1 GiB and {_MAX_RATIO} times its size",
                where=str(self._path),
                remedy="unpack it first if it is no bomb",
            )


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong in the block, which reads `path`, into one line."""
    where = str(path)
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DecodeError(f"damaged gzip ({error})", where=where, remedy="fetch it again") from error
    except OSError as error:  # pyarrow's own are OSErrors without a number
        if error.strerror is None:
            reason = " ".join(str(error).split())
            raise DecodeError(f"damaged zstd ({reason})", where=where, remedy="fetch it again") from error
        raise DecodeError(f"cannot be read ({error.strerror})", where=where) from error
