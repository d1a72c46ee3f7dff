"""One index file: a head that names sizes, then parts whose every 64 KiB has a check sum.

A part is known to be whole when its entry in the head is: a build that was killed goes on behind the last such part.
A reader checks the head and the tables of sums when it opens a file, and each block when it is first looked at, so
that opening costs nothing and no answer rests on a flipped bit. Sizes follow from the head and must be those of the
file before anything is mapped. Layout: section "Index" of ``docs/formats.md``.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from dataguard.errors import DecodeError, SchemeMismatch, UsageError
from dataguard.formats.atomic import sync_folder

__all__ = ["BLOCK", "Head", "PartShape", "Reader", "Writer", "digest_of", "file_size", "finished"]

Bytes = NDArray[np.uint8]
I64 = NDArray[np.int64]

BLOCK = 1 << 16
"""Bytes under one check sum; summed in 4 us, read from disk at one go."""

_MAGIC = b"dgindex\x00"
_VERSION = 1
_HEAD = struct.Struct("<8sHHHHI4x8QQQ")
_ENTRY = struct.Struct("<QQ")
_CHECK = struct.Struct("<Q")
_ALIGN = 64
_MAX_PARTS = 4 * 4096
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""What somebody put there as a link to a file of his choice is not written to."""

_REMEDY = "restore the folder from a copy, or build the index anew"


@dataclass(frozen=True, slots=True)
class PartShape:
    """Type and length of one part."""

    dtype: str
    count: int

    @property
    def size(self) -> int:
        """Bytes of its content."""
        return np.dtype(self.dtype).itemsize * self.count


@dataclass(frozen=True, slots=True)
class Head:
    """What a file says of itself.

    Attributes
    ----------
    kind : int
        1 bands, 2 postings, 3 removed rows.
    scheme : int
        Hash scheme of the elements.
    numbers : tuple of 8 int
        Sizes, by kind.
    source : int
        xxh3_64 of what it was built from, to tell whether an unfinished file belongs to a build.
    """

    kind: int
    scheme: int
    numbers: tuple[int, int, int, int, int, int, int, int]
    source: int

    def pack(self, parts: int, size: int) -> bytes:
        """Return the fixed part of the head, its check sum included."""
        plain = _HEAD.pack(
            _MAGIC, self.kind, _VERSION, self.scheme, 0, parts, *self.numbers, self.source, size
        )
        return plain + _CHECK.pack(xxhash.xxh3_64_intdigest(plain))


_FIXED = _HEAD.size + _CHECK.size


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _blocks(size: int) -> int:
    return -(-size // BLOCK)


def _places(shapes: Sequence[PartShape]) -> tuple[list[int], int]:
    """Return where each part begins, its table behind it, and where the file ends."""
    at, places = _padded(_FIXED + _ENTRY.size * len(shapes)), []
    for shape in shapes:
        places.append(at)
        at += _padded(shape.size) + _padded(8 * _blocks(shape.size))
    return places, at


def file_size(shapes: Sequence[PartShape]) -> int:
    """Return the bytes a file of these parts takes."""
    return _places(shapes)[1]


def digest_of(arrays: Iterable[NDArray[Any]]) -> int:
    """Return the xxh3_64 of arrays laid end to end."""
    state = xxhash.xxh3_64()
    for array in arrays:
        state.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return int(state.intdigest())


def _view(data: Bytes | bytes) -> memoryview:
    return data.data if isinstance(data, np.ndarray) else memoryview(data)


def _sum(data: Bytes | bytes) -> str:
    return f"{xxhash.xxh3_64_intdigest(_view(data)):016x}"


def _entry(number: int, table: Bytes | bytes, head: bytes) -> bytes:
    total = xxhash.xxh3_64_intdigest(_view(table))
    return _ENTRY.pack(total, xxhash.xxh3_64_intdigest(struct.pack("<QQ", total, number) + head))


class Writer:
    """A file being built under a temporary name; whole parts survive a killed process.

    Parameters
    ----------
    path : Path
        Final place; until `finish` the file has ``.part`` behind its name.
    head : Head
    shapes : sequence of PartShape

    Raises
    ------
    UsageError
        No room, or no permission.
    """

    def __init__(self, path: Path, head: Head, shapes: Sequence[PartShape]) -> None:
        self._path, self._shapes = path, tuple(shapes)
        self._places, self._size = _places(shapes)
        self._head = head.pack(len(self._shapes), self._size)
        self._unfinished = path.with_name(path.name + ".part")
        self._done = [False] * len(self._shapes)
        with _writing(path):
            self._file = os.open(self._unfinished, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o644)
            try:
                self._resume()
            except BaseException:
                os.close(self._file)
                raise

    def _resume(self) -> None:
        """Keep the parts of an earlier attempt that are whole; anything else is written again."""
        if os.fstat(self._file).st_size == self._size and os.pread(self._file, _FIXED, 0) == self._head:
            self._done = [self._is_whole(number) for number in range(len(self._shapes))]
            self._clear_gaps()
            return
        os.ftruncate(self._file, 0)
        _reserve(self._file, self._size)
        self._put(self._head, 0)
        os.fsync(self._file)

    def _clear_gaps(self) -> None:
        """Put zeros between the parts, where a power cut may have left anything."""
        end = _FIXED + _ENTRY.size * len(self._shapes)
        for shape, at in zip(self._shapes, self._places, strict=True):
            self._put(bytes(at - end), end)
            self._put(bytes(_padded(shape.size) - shape.size), at + shape.size)
            end = at + _padded(shape.size) + 8 * _blocks(shape.size)
        self._put(bytes(self._size - end), end)

    def _is_whole(self, number: int) -> bool:
        shape, at = self._shapes[number], self._places[number]
        table = os.pread(self._file, 8 * _blocks(shape.size), at + _padded(shape.size))
        entry = os.pread(self._file, _ENTRY.size, _FIXED + number * _ENTRY.size)
        if entry != _entry(number, table, self._head):
            return False
        for block, (known,) in enumerate(_CHECK.iter_unpack(table)):
            size = min(BLOCK, shape.size - block * BLOCK)
            if xxhash.xxh3_64_intdigest(os.pread(self._file, size, at + block * BLOCK)) != known:
                return False
        return True

    def has(self, number: int) -> bool:
        """Whether a part is written and on disk."""
        return self._done[number]

    def put(self, number: int, arrays: Iterable[NDArray[Any]]) -> None:
        """Write a part, given as arrays laid end to end, and make it last."""
        shape, at = self._shapes[number], self._places[number]
        table, carried, done = bytearray(), b"", 0
        with _writing(self._path):
            for array in arrays:
                data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                if carried:
                    data = np.concatenate([np.frombuffer(carried, np.uint8), data])
                whole = len(data) // BLOCK * BLOCK
                done += self._put_blocks(data[:whole], at + done, table)
                carried = data[whole:].tobytes()
            done += self._put_blocks(np.frombuffer(carried, np.uint8), at + done, table)
            assert done == shape.size, "a part was announced with another size"
            self._put(bytes(table), at + _padded(shape.size))
            os.fsync(self._file)  # the entry vouches for what is on disk, not for what is on its way
            self._put(_entry(number, bytes(table), self._head), _FIXED + number * _ENTRY.size)
            os.fsync(self._file)
        self._done[number] = True

    def _put_blocks(self, data: Bytes, at: int, table: bytearray) -> int:
        for begin in range(0, len(data), BLOCK):
            table += _CHECK.pack(xxhash.xxh3_64_intdigest(data[begin : begin + BLOCK].data))
        self._put(data, at)
        return len(data)

    def _put(self, data: Bytes | bytes, at: int) -> None:
        left = _view(data)
        while left:
            count = os.pwrite(self._file, left[: 1 << 24], at)
            at, left = at + count, left[count:]

    def finish(self) -> str:
        """Give the file its name; return the check sum of its head, which vouches for all of it."""
        assert all(self._done), "a part is missing"
        with _writing(self._path):
            head = os.pread(self._file, _FIXED + _ENTRY.size * len(self._shapes), 0)
            self._unfinished.replace(self._path)
            sync_folder(self._path.parent)
        self.close()
        return _sum(head)

    def close(self) -> None:
        """Leave an unfinished file for the next attempt."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Reader:
    """A finished file, mapped; blocks are checked when they are first looked at.

    Parameters
    ----------
    path : Path
    kind : int
        Expected kind.
    check : str
        Check sum of the head the manifest names, 16 hex digits; empty: not compared.

    Raises
    ------
    DecodeError
        Not such a file, not the one that was named, cut short, or damaged.
    SchemeMismatch
        Of a version this program does not know.
    """

    def __init__(self, path: Path, kind: int, check: str = "") -> None:
        self.path, self._check = path, check
        try:
            with open(path, "rb", opener=_opened) as file:
                about = os.fstat(file.fileno())
                self._size, is_file = about.st_size, stat.S_ISREG(about.st_mode)
                fixed = file.read(_FIXED) if is_file else b""
        except OSError as error:
            raise DecodeError(f"cannot be read ({error.strerror})", where=str(path), remedy=_REMEDY) from None
        self.head, self._parts, size = _unpack(fixed, kind, path)
        self.fixed = fixed
        if size != self._size:
            raise self.damaged(f"has {self._size} bytes instead of {size}")

    def damaged(self, what: str) -> DecodeError:
        """Return the refusal of this file."""
        return DecodeError(what, where=str(self.path), remedy=_REMEDY)

    def map(self, shapes: Sequence[PartShape]) -> tuple[NDArray[Any], ...]:
        """Map the parts, whose shapes follow from the numbers of the head; check all tables of sums.

        Returns
        -------
        tuple of ndarray
            One for each part, read-only, one dimension.
        """
        places, size = _places(shapes)
        if len(shapes) != self._parts or size != self._size:
            raise self.damaged("does not have the size its head announces")
        try:
            self._data = np.memmap(self.path, np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise self.damaged(f"cannot be mapped ({error})") from None
        if len(self._data) != size:
            raise self.damaged("was changed while it was opened")
        self._spans = [
            (at, shape.size, np.dtype(shape.dtype).itemsize) for at, shape in zip(places, shapes, strict=True)
        ]
        self._tables = [self._table(number) for number in range(len(shapes))]
        self.sum = _sum(self._data[: _FIXED + _ENTRY.size * len(shapes)])
        if self._check and self.sum != self._check:
            raise self.damaged("is not the file the manifest names")
        self._fresh = [np.ones(len(table), np.bool_) for table in self._tables]
        self._left = [len(table) for table in self._tables]
        return tuple(
            np.ndarray(shape.count, shape.dtype, self._data[at : at + shape.size])
            for at, shape in zip(places, shapes, strict=True)
        )

    def _table(self, number: int) -> NDArray[np.uint64]:
        at, size, _ = self._spans[number]
        table = self._data[at + _padded(size) : at + _padded(size) + 8 * _blocks(size)]
        begin = _FIXED + number * _ENTRY.size
        if self._data[begin : begin + _ENTRY.size].tobytes() != _entry(number, table.tobytes(), self.fixed):
            raise self.damaged(f"part {number} is unfinished or damaged")
        return np.frombuffer(table.tobytes(), "<u8")

    def is_checked(self, number: int) -> bool:
        """Whether all blocks of a part were checked."""
        return self._left[number] == 0

    def check(self, number: int, first: I64, last: I64) -> None:
        """Check the blocks that hold elements ``first[i]`` to ``last[i]`` of a part, where not done before.

        Raises
        ------
        DecodeError
            A block is damaged, or an element lies outside the part.
        """
        if self._left[number] == 0 or len(first) == 0:
            return
        _, size, item = self._spans[number]
        if int(first.min()) < 0 or (int(last.max()) + 1) * item > size:
            raise self.damaged(f"part {number} points outside of the file")
        blocks = len(self._tables[number])
        begins, ends = first * item // BLOCK, ((last + 1) * item - 1) // BLOCK
        change = np.bincount(begins, minlength=blocks + 1) - np.bincount(ends + 1, minlength=blocks + 1)
        touched = np.cumsum(change[:blocks]) > 0
        self._check_blocks(number, np.flatnonzero(touched & self._fresh[number]))

    def check_part(self, number: int) -> None:
        """Check all of a part that was not checked before."""
        self._check_blocks(number, np.flatnonzero(self._fresh[number]))

    def check_again(self) -> Iterator[int]:
        """Check everything, whatever was checked before; yield the bytes done, part by part."""
        end = _FIXED + _ENTRY.size * len(self._spans)
        for number, (at, size, _) in enumerate(self._spans):
            self._table(number)
            gaps = (self._data[end:at], self._data[at + size : at + _padded(size)])
            end = at + _padded(size) + 8 * _blocks(size)
            if any(gap.any() for gap in gaps):
                raise self.damaged(f"has bytes that mean nothing before part {number} or behind it")
            self._check_blocks(number, np.arange(len(self._tables[number])))
            yield size
        if self._data[end:].any():
            raise self.damaged("has bytes that mean nothing at its end")

    def _check_blocks(self, number: int, blocks: I64) -> None:
        at, size, _ = self._spans[number]
        table, fresh = self._tables[number], self._fresh[number]
        for block in blocks.tolist():
            begin = at + block * BLOCK
            if (
                xxhash.xxh3_64_intdigest(self._data[begin : min(begin + BLOCK, at + size)].data)
                != table[block]
            ):
                raise self.damaged(f"block {block} of part {number} is damaged")
            fresh[block] = False
        self._left[number] = int(np.count_nonzero(fresh))  # counted anew: other threads check blocks too


def finished(path: Path, head: Head, shapes: Sequence[PartShape]) -> str | None:
    """Return the check sum of a file of this head and these parts that an earlier attempt finished, if there is one."""
    try:
        reader = Reader(path, head.kind)
        if reader.fixed != head.pack(len(shapes), file_size(shapes)):
            return None
        reader.map(shapes)
    except (DecodeError, SchemeMismatch):  # none, or none of ours: it is replaced
        return None
    return reader.sum


def _opened(path: str, flags: int) -> int:
    """Open without waiting, should it be a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _unpack(fixed: bytes, kind: int, path: Path) -> tuple[Head, int, int]:
    if len(fixed) < _FIXED or fixed[:8] != _MAGIC:
        raise DecodeError("is no index file", where=str(path), remedy=_REMEDY)
    if _CHECK.unpack(fixed[_HEAD.size :])[0] != xxhash.xxh3_64_intdigest(fixed[: _HEAD.size]):
        raise DecodeError("has a damaged head", where=str(path), remedy=_REMEDY)
    _, own, version, scheme, _, parts, *numbers, source, size = _HEAD.unpack(fixed[: _HEAD.size])
    if version != _VERSION:
        raise SchemeMismatch(
            f"is an index file of version {version}",
            where=str(path),
            remedy="update dataguard, or build the index anew",
        )
    if own != kind or parts > _MAX_PARTS:
        raise DecodeError(f"is an index file of another kind ({own})", where=str(path), remedy=_REMEDY)
    eight = tuple(int(n) for n in numbers)
    assert len(eight) == 8
    return Head(own, scheme, eight, source), parts, size


def _reserve(file: int, size: int) -> None:
    """Take all room at once: a full disk shows now and not after hours."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the system says about writing into one line."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})",
            where=str(path),
            remedy="make room or choose another folder; the next build goes on where this one ended",
        ) from None
