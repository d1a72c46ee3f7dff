"""One pass over a delimited text: a buffer, refilled behind an unfinished last row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.errors import DecodeError
from dataguard.formats.chunks import Chunk
from dataguard.formats.compression import ByteStream
from dataguard.formats.encodings import LABELS, codec_errors

__all__ = ["BOM", "Layout", "Scanner", "newlines", "scanned_as"]

BOM = b"\xef\xbb\xbf"

_BLOCK = 1 << 20
"""Bytes read at a time: of 1/4 to 16 MiB measured, 1 MiB is the fastest (it stays in the cache)."""
_MAX_ROW = 1 << 26
"""A row longer than 64 MiB is a quote that was never closed, or a bomb."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What must be known before the first row is read.

    Parameters
    ----------
    where : str
        Name of the file, for messages.
    encoding : str
        Of the file; UTF-16 arrives transcoded to UTF-8.
    separator : bytes
        One byte.
    comment, header, row_names : bool
        See `Dialect`.
    """

    where: str
    encoding: str
    separator: bytes
    comment: bool
    header: bool
    row_names: bool = False


class Scanner:
    """One pass over an open text.

    Parameters
    ----------
    layout : Layout
    file : ByteStream
        At its beginning; may raise UnicodeDecodeError where it transcodes.
    """

    def __init__(self, layout: Layout, file: ByteStream) -> None:
        from dataguard.formats import _kernels

        self.kernels = _kernels
        self.layout = layout
        self.file = file
        self.separator = layout.separator[0]
        self.state = np.zeros(_kernels.STATE_SIZE, np.int64)
        self.state[_kernels.LINE] = 1
        self.words = np.empty(0, np.uint64)
        self.data = np.empty(0, np.uint8)
        self.limit = self.begin = self.size = 0  # room for text; unread bytes are data[begin:size]
        self.final = False
        self.bad_text = False  # the stream ends at bytes that are no text
        self.preamble = bytearray()
        self.grow()

    def grow(self) -> None:
        """Keep the bytes from `begin` on, in a larger buffer where they fill it, and read behind them."""
        kept = self.size - self.begin
        if kept > _MAX_ROW:
            raise DecodeError(
                f"the row on line {self.line} is longer than {_MAX_ROW >> 20} MiB",
                where=self.layout.where,
                remedy="look for a quote that is never closed",
            )
        limit = max(_BLOCK, min(2 * kept, _MAX_ROW + _BLOCK))
        if limit == self.limit:
            self.data[:kept] = self.data[self.begin : self.size].copy()
        else:
            words = np.empty(limit // 8 + 2, np.uint64)  # room for the LF behind the text
            data = words.view(np.uint8)
            data[:kept] = self.data[self.begin : self.size]
            self.words, self.data, self.limit = words, data, limit
            # A cell takes at least one byte, its separator or newline; only the last row may lack some.
            cells = limit + 1 + self.kernels.MAX_COLUMNS
            self.starts, self.ends = (np.empty(cells, np.int32) for _ in range(2))
        self.begin, self.size = 0, kept
        view = self.data.data
        while self.size < limit and not self.final and not self.bad_text:
            try:
                got = self.file.readinto(view[self.size : limit]) or 0
            except UnicodeDecodeError:
                self.bad_text = True
            else:
                self.size += got
                self.final = got == 0
        self.data[self.size] = self.kernels.LF

    @property
    def line(self) -> int:
        """Number of the physical line at `begin`, from 1."""
        return int(self.state[self.kernels.LINE])

    def scan(self, max_rows: int) -> int:
        """Scan from `begin`; return the number of complete rows."""
        k, state = self.kernels, self.state
        k.scan_rows(
            self.data,
            self.words,
            self.begin,
            self.size,
            self.separator,
            self.final,
            max_rows,
            self.starts,
            self.ends,
            state,
        )
        if state[k.ERROR]:
            self.fail()
        return int(state[k.ROWS])

    def fail(self) -> None:
        """Raise the error left in the state."""
        k, state = self.kernels, self.state
        count, columns = state[k.ERROR_COUNT], state[k.COLUMNS]
        expected = "the header has" if self.layout.header else "the first row has"
        what, remedy = {
            k.ERROR_RAGGED: (
                f"has {count} cells where {expected} {columns}",
                "repair that row, or quote the cell that holds a separator",
            ),
            k.ERROR_WIDE: (f"has more than {k.MAX_COLUMNS} cells", "is it a table?"),
            k.ERROR_NUL: ("holds a NUL byte", "is it binary?"),
            k.ERROR_QUOTE: ("opens a quote that is never closed", "repair that row"),
            k.ERROR_ESCAPE: (
                "is ISO-2022-JP text",
                "convert the file: iconv -f ISO-2022-JP -t UTF-8",
            ),
        }[int(state[k.ERROR])]
        raise DecodeError(f"line {state[k.ERROR_LINE]} {what}", where=self.layout.where, remedy=remedy)

    def step(self, end: int) -> None:
        """Make ``data[begin:end]`` part of the preamble."""
        self.preamble += self.data[self.begin : end].tobytes()
        self.begin = end
        if len(self.preamble) > _MAX_ROW:
            raise DecodeError(
                f"no header within the first {_MAX_ROW >> 20} MiB",
                where=self.layout.where,
                remedy="is it a table?",
            )

    def first_row(self) -> int:
        """Scan one row behind `begin`, reading on as needed; return the count of its cells."""
        k = self.kernels
        self.state[k.COLUMNS] = 0
        while not self.scan(1):
            self.step(int(self.state[k.CONSUMED]))
            if self.bad_text:
                self.fail_text(0)
            if self.final:
                raise DecodeError(
                    "is empty", where=self.layout.where, remedy="a header row and data are needed"
                )
            self.grow()
        return int(self.state[k.COLUMNS])

    def read_preamble(self) -> tuple[str, ...]:
        """Step over everything before the first data row; return the column names.

        Afterwards `preamble` holds the bytes stepped over: byte order mark, comment, blank lines
        and header. A column of row names that the header lacks is called "". Without a header the
        columns are counted in the first row and called column_1, column_2, ...
        """
        k = self.kernels
        if self.data[: min(3, self.size)].tobytes() == BOM:
            self.step(len(BOM))
        if self.layout.comment:
            self.first_row()
            self.step(int(self.state[k.CONSUMED]))
        columns = self.first_row()
        if self.layout.header:
            names = self._names(columns)
            self.step(int(self.state[k.CONSUMED]))
            self.state[k.COLUMNS] = len(names)
            return names
        line = 1 + newlines(self.preamble)
        self.step(int(self.starts[0]))
        self.state[k.LINE] = (
            line + newlines(self.preamble[-int(self.starts[0]) :]) if self.starts[0] else line
        )
        return tuple(f"column_{number}" for number in range(1, columns + 1))

    def _names(self, columns: int) -> tuple[str, ...]:
        """Column names in the row just scanned."""
        encoding = scanned_as(self.layout.encoding)
        cells = [self.data[self.starts[k] : self.ends[k]].tobytes() for k in range(columns)]
        try:
            names = [_unquoted(cell).decode(encoding, codec_errors(encoding)) for cell in cells]
        except UnicodeDecodeError:
            raise DecodeError(
                f"the header is not {LABELS[self.layout.encoding]}",
                where=self.layout.where,
                remedy="save the file as UTF-8",
            ) from None
        if self.layout.row_names:
            names.insert(0, "")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            listed = ", ".join(map(repr, twice[:8])) + (", ..." if len(twice) > 8 else "")
            raise DecodeError(
                f"duplicate column names {listed}", where=self.layout.where, remedy="rename them"
            )
        return tuple(names)

    def chunks(self, columns: int, *, check_text: bool) -> Iterator[Chunk]:
        """Yield the rows behind the preamble up to the end of the text."""
        first_row = 0
        while True:
            line = self.line
            rows = self.scan(self.size)
            end = int(self.state[self.kernels.CONSUMED])
            cells = rows * columns
            chunk = Chunk(self.data, self.begin, end, self.starts[:cells], self.ends[:cells], first_row, rows)
            if check_text:
                self.check_text(chunk, columns, line)
            if rows or end > self.begin:
                yield chunk
            first_row += rows
            self.begin = end
            if self.bad_text:
                self.fail_text(first_row)
            if self.final:
                return
            self.grow()

    def check_text(self, chunk: Chunk, columns: int, line: int) -> None:
        """Raise DecodeError naming row and line of the first bytes that are no text."""
        encoding = scanned_as(self.layout.encoding)
        data = chunk.data[chunk.begin : chunk.end]
        if encoding != self.layout.encoding or _is_sound(data, encoding):
            return
        raw = data.tobytes()
        try:
            raw.decode(encoding, codec_errors(encoding))
        except UnicodeDecodeError as error:
            row = np.searchsorted(chunk.starts[::columns], chunk.begin + error.start, side="right")
            self._refuse(chunk.first_row + int(row), line + newlines(raw[: error.start]))

    def fail_text(self, rows: int) -> None:
        """Raise DecodeError: the stream broke in the row behind `rows` rows, after the bytes at hand."""
        self._refuse(rows + 1, self.line + newlines(self.data[self.begin : self.size].tobytes()))

    def _refuse(self, row: int, line: int) -> None:
        raise DecodeError(
            f"row {row} (line {line}) is not {LABELS[self.layout.encoding]}",
            where=self.layout.where,
            remedy="repair that line, or save the file as UTF-8",
        )


def scanned_as(encoding: str) -> str:
    """Return the encoding of the bytes that are scanned for a file in `encoding`."""
    return "utf-8" if encoding.startswith("utf-16") else encoding


def newlines(raw: bytes | bytearray) -> int:
    """Count the line breaks LF, CR and CRLF."""
    return raw.count(b"\n") + raw.count(b"\r") - raw.count(b"\r\n")


def _is_sound(data: NDArray[np.uint8], encoding: str) -> bool:
    """Whether the bytes are known to be text; False leaves it to the slower decoder."""
    if encoding != "utf-8":
        return not data.size or int(data.max()) < 0x80
    whole = [None, pa.py_buffer(np.array([0, data.size], np.int64)), pa.py_buffer(data)]
    try:
        pa.Array.from_buffers(pa.large_string(), 1, whole).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _unquoted(raw: bytes) -> bytes:
    """Text of one raw cell; the slow form of the kernel `cell_text`."""
    if not raw.startswith(b'"'):
        return raw
    end = 1
    while (end := raw.index(b'"', end)) + 1 < len(raw) and raw[end + 1 : end + 2] == b'"':
        end += 2
    return raw[1:end].replace(b'""', b'"') + raw[end + 1 :]
