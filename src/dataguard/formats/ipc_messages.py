"""The frame of an Arrow IPC file or stream, read without pyarrow: where its messages lie, checked.

Arrow's own reader trusts lengths that a damaged or hostile file may state (it allocates what a
header claims), and it does not say where a batch lies; both are settled here first. Layouts:
Arrow columnar format, "Serialization and Interprocess Communication"; File.fbs, Message.fbs, Schema.fbs.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import IO

import numpy as np

from dataguard.errors import DecodeError

__all__ = ["MAGIC", "Frame", "Layout", "read_layout"]

MAGIC = b"ARROW1"
_MAX_ROWS = (1 << 31) - 1
_MAX_RATIO = 1024
_FREE_BYTES = 1 << 28
"""A batch may unpack to 256 MiB, or to 1,024 times its size where that is more."""
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_VERSIONS = (3, 4)
_CODECS = ("lz4", "zstd")
_TYPE_DEPTH = 64


class _DamagedError(Exception):
    """Internal: what is wrong with the bytes, and perhaps a remedy."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: ``offset .. offset + head + body`` of the file.

    Parameters
    ----------
    offset, head, body : int
        Start, bytes of prefix and header, bytes of the body.
    kind : int
        1 schema, 2 dictionary, 3 record batch.
    rows : int
        Rows of the batch or dictionary.
    codec : str or None
        "lz4" or "zstd".
    legacy : bool
        No continuation marker in front (before Arrow 0.15).
    version : int
        Metadata version: 3 = V4, 4 = V5.
    dictionary : int
        Id, for a dictionary.
    """

    offset: int
    head: int
    body: int
    kind: int
    rows: int = 0
    codec: str | None = None
    legacy: bool = False
    version: int = 4
    dictionary: int = -1

    @property
    def end(self) -> int:
        """Offset behind the message."""
        return self.offset + self.head + self.body


@dataclass(frozen=True, slots=True)
class Layout:
    """The messages of a whole file or stream.

    Parameters
    ----------
    is_file : bool
        File format (with a footer), else stream.
    size : int
        Bytes of the file.
    dictionaries, batches : tuple of Frame
        In the order of the footer, or of the stream.
    big_endian : bool
    dictionary_ids : tuple of int
        For each top-level column the id of its dictionary, -1 = none.
    footer : int
        Offset of the footer; the size for a stream.
    blocks : tuple of int
        Offsets in the footer of its tables of blocks, dictionaries first; empty for a stream.
    """

    is_file: bool
    size: int
    dictionaries: tuple[Frame, ...]
    batches: tuple[Frame, ...]
    big_endian: bool
    dictionary_ids: tuple[int, ...]
    footer: int
    blocks: tuple[int, ...]


class _Table:
    """A FlatBuffers table; every access is checked against the bytes there are."""

    __slots__ = ("at", "data", "fields")

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        vtable = at - int(_number(data, "<i", at))
        size = int(_number(data, "<H", vtable))
        if size % 2 or vtable + size > len(data):
            raise _DamagedError("a header is damaged")
        self.fields = struct.unpack_from(f"<{size // 2}H", data, vtable)[2:]

    def number(self, slot: int, form: str, default: int = 0) -> int:
        """Return a scalar field."""
        at = self._find(slot)
        return default if at is None else int(_number(self.data, form, at))

    def table(self, slot: int) -> _Table | None:
        """Return a table field; None where there is none."""
        at = self._find(slot)
        return None if at is None else _Table(self.data, at + int(_number(self.data, "<I", at)))

    def vector(self, slot: int, width: int) -> tuple[int, int]:
        """Return offset and count of a vector of elements `width` bytes wide."""
        at = self._find(slot)
        if at is None:
            return 0, 0
        at += int(_number(self.data, "<I", at))
        count = int(_number(self.data, "<I", at))
        if at + 4 + count * width > len(self.data):
            raise _DamagedError("a header is damaged")
        return at + 4, count

    def tables(self, slot: int) -> list[_Table]:
        """Return a vector of tables."""
        at, count = self.vector(slot, 4)
        return [_Table(self.data, i + int(_number(self.data, "<I", i))) for i in range(at, at + 4 * count, 4)]

    def pairs(self, slot: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Return a vector of structs of two int64, shape (count, 2)."""
        at, count = self.vector(slot, 16)
        return np.frombuffer(self.data, "<i8", 2 * count, at).reshape(count, 2)

    def _find(self, slot: int) -> int | None:
        offset = self.fields[slot] if slot < len(self.fields) else 0
        return self.at + offset if offset else None


def _number(data: bytes, form: str, at: int) -> int:
    if not 0 <= at <= len(data) - struct.calcsize(form):
        raise _DamagedError("a header is damaged")
    value: int = struct.unpack_from(form, data, at)[0]
    return value


def _root(data: bytes) -> _Table:
    return _Table(data, int(_number(data, "<I", 0)))


def read_layout(file: IO[bytes], where: str) -> Layout:
    """Find and check all messages of an open IPC file or stream.

    Headers only, except the 8 bytes in front of each compressed buffer.

    Parameters
    ----------
    file : IO[bytes]
        Seekable.
    where : str
        Its name, for errors.

    Returns
    -------
    Layout

    Raises
    ------
    DecodeError
        Truncated or damaged frame, messages or buffers outside the file or over one another,
        a decompression bomb, Feather V1, several streams in a row.
    """
    try:
        file.seek(0, 2)
        size = file.tell()
        head = _read(file, 0, min(8, size))
        if head.startswith(b"FEA1"):
            raise DecodeError(
                "is Feather V1, which is no longer read",
                where=where,
                remedy="write it again as Feather V2, with the pyarrow.feather module for example",
            )
        layout = _file_layout(file, size) if head.startswith(MAGIC) else _stream_layout(file, size)
        for frame in layout.dictionaries + layout.batches:
            _check_body(file, frame)
    except (_DamagedError, struct.error) as error:
        what, remedy = (*error.args, "fetch it again")[:2]
        raise DecodeError(f"damaged or truncated Arrow IPC ({what})", where=where, remedy=remedy) from error
    return layout


def _read(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise _DamagedError("it ends too early")
    return data


def _file_layout(file: IO[bytes], size: int) -> Layout:
    if size < 24:
        raise _DamagedError("it ends too early")
    length, magic = struct.unpack("<i6s", _read(file, size - 10, 10))
    start = size - 10 - length
    if magic != MAGIC or length <= 0 or start < 8:
        raise _DamagedError("there is no footer: it ends too early")
    data = _read(file, start, length)
    footer = _root(data)
    schema = footer.table(1)
    if schema is None:
        raise _DamagedError("there is no schema")
    groups: list[tuple[Frame, ...]] = []
    blocks = []
    for slot, kind in ((2, _DICTIONARY), (3, _BATCH)):
        at, count = footer.vector(slot, 24)
        frames = []
        for offset, head, body in struct.iter_unpack("<qi4xq", data[at : at + 24 * count]):
            if not (8 <= offset <= size and 8 <= head <= size and 0 <= body <= size) or offset % 8:
                raise _DamagedError("a block lies outside the file")
            frame = _frame(file, offset, start)
            if frame is None or (frame.kind, frame.head, frame.body) != (kind, head, body):
                raise _DamagedError("a block of the footer is no such message")
            frames.append(frame)
        groups.append(tuple(frames))
        blocks.append(at)
    ordered = sorted((frame.offset, frame.end) for group in groups for frame in group)
    if any(end > after for (_, end), (after, _) in itertools.pairwise(ordered)):
        raise _DamagedError("messages lie over one another")
    return Layout(True, size, groups[0], groups[1], *_schema(schema), start, tuple(blocks))


def _stream_layout(file: IO[bytes], size: int) -> Layout:
    first = _frame(file, 0, size)
    if first is None or first.kind != _SCHEMA:
        raise _DamagedError("it starts with no schema")
    prefix = 4 if first.legacy else 8
    schema = _root(_read(file, prefix, first.head - prefix)).table(2)
    assert schema is not None  # `_frame` looked
    frames: dict[int, list[Frame]] = {_DICTIONARY: [], _BATCH: []}
    at = first.end
    while at < size:
        frame = _frame(file, at, size)
        if frame is None:
            at += 4 if first.legacy else 8
            break
        if frame.kind not in frames:
            raise _DamagedError("a message is neither batch nor dictionary")
        frames[frame.kind].append(frame)
        at = frame.end
    if at < size and _read(file, at, min(1 << 16, size - at)).strip(b"\0"):
        raise _DamagedError("there are bytes behind its end; several streams in a row are several tables")
    return Layout(False, size, tuple(frames[_DICTIONARY]), tuple(frames[_BATCH]), *_schema(schema), size, ())


def _schema(schema: _Table) -> tuple[bool, tuple[int, ...]]:
    """Byte order, and the dictionary id of each top-level column."""
    ids = []
    for field in schema.tables(1):
        _check_depth(field, _TYPE_DEPTH)
        encoding = field.table(4)
        ids.append(-1 if encoding is None else encoding.number(0, "<q"))
    return schema.number(0, "<h") == 1, tuple(ids)


def _check_depth(field: _Table, room: int) -> None:
    if not room:
        raise _DamagedError(f"types are nested deeper than {_TYPE_DEPTH}")
    for child in field.tables(5):
        _check_depth(child, room - 1)


def _frame(file: IO[bytes], offset: int, limit: int) -> Frame | None:
    """Read the header of the message at `offset`; None = end of the stream."""
    prefix = _read(file, offset, 4)
    legacy = prefix != b"\xff\xff\xff\xff"
    if not legacy:
        prefix = _read(file, offset + 4, 4)
    (length,) = struct.unpack("<i", prefix)
    if length == 0:
        return None
    start = offset + (4 if legacy else 8)
    if length < 0 or start + length > limit:
        raise _DamagedError("a message reaches beyond the end")
    data = _read(file, start, length)
    message = _root(data)
    version, kind = message.number(0, "<h"), message.number(1, "<B")
    body, header = message.number(3, "<q"), message.table(2)
    head = start + length - offset
    if body < 0 or offset + head + body > limit:
        raise _DamagedError("a message reaches beyond the end")
    if version not in _VERSIONS or header is None or kind not in (_SCHEMA, _DICTIONARY, _BATCH):
        raise _DamagedError("a message of an unknown kind or version")
    if version == _VERSIONS[0] and b"ARROW:experimental_compression" in data:
        raise _DamagedError("experimental compression of Arrow 0.17", "write it again with a newer Arrow")
    if kind == _SCHEMA:
        return Frame(offset, head, body, kind, legacy=legacy, version=version)
    batch = header.table(1) if kind == _DICTIONARY else header
    if batch is None:
        raise _DamagedError("a dictionary without values")
    compression = batch.table(3)
    method = None if compression is None else compression.number(0, "<b")
    if method is not None and method not in (0, 1):
        raise _DamagedError("an unknown compression")
    rows = batch.number(0, "<q")
    _check_lengths(batch, rows, body)
    return Frame(
        offset,
        head,
        body,
        kind,
        rows,
        None if method is None else _CODECS[method],
        legacy,
        version,
        header.number(0, "<q") if kind == _DICTIONARY else -1,
    )


def _check_lengths(batch: _Table, rows: int, body: int) -> None:
    """Check the lengths of columns and buffers against the body."""
    nodes, buffers = batch.pairs(1), batch.pairs(2)
    if (
        not 0 <= rows <= _MAX_ROWS
        or np.any(nodes < -1)
        or np.any(nodes[:, 0] < 0)
        or np.any(nodes > _MAX_ROWS)
    ):
        raise _DamagedError("a column has an impossible number of rows")
    if np.any(nodes[:, 1] > nodes[:, 0]):
        raise _DamagedError("a column has more nulls than rows")
    if np.any(buffers < 0) or np.any(buffers > body) or np.any(buffers.sum(axis=1) > body):
        raise _DamagedError("a buffer reaches beyond its message")
    if buffers[:, 1].sum() > body:
        raise _DamagedError("buffers lie over one another")


def _check_body(file: IO[bytes], frame: Frame) -> None:
    """Add up what the compressed buffers of a message claim to unpack to."""
    if frame.codec is None:
        return
    prefix = 4 if frame.legacy else 8
    header = _root(_read(file, frame.offset + prefix, frame.head - prefix)).table(2)
    batch = header.table(1) if header is not None and frame.kind == _DICTIONARY else header
    assert batch is not None  # `_frame` looked
    claimed = 0
    for offset, length in batch.pairs(2).tolist():
        if length == 0:
            continue
        if length < 8:
            raise _DamagedError("a compressed buffer is too short")
        (size,) = struct.unpack("<q", _read(file, frame.offset + frame.head + offset, 8))
        if size < -1:
            raise _DamagedError("a buffer of negative size")
        claimed += max(size, 0)
    if claimed > max(_FREE_BYTES, _MAX_RATIO * frame.body):
        raise _DamagedError(
            f"a batch of {frame.body} bytes claims to unpack to {claimed}",
            "if that is right, have it written again in smaller batches or uncompressed",
        )
