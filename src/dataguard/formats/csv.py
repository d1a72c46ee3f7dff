"""CSV and TSV as a table of text: every cell exactly as it stands, nothing guessed about types.

Reading goes through the scanner of ``_kernels.py``, so that the write-back in ``splice.py``
moves the very bytes that were decoded here. A later encoding or dialect belongs into
`_open_bytes` (transcode first) and `sniff_separator`.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataguard.errors import DecodeError, UsageError

__all__ = ["BOM", "Chunk", "CsvSource", "sniff_separator"]

BOM = b"\xef\xbb\xbf"

_BLOCK = 1 << 22
"""Bytes read at a time; 4 MiB measured as fast as 8 and 16."""
_MAX_ROW = 1 << 28
"""A row longer than 256 MiB is a quote that was never closed."""
_SAMPLE = 1 << 16
_SEPARATORS = (b",", b"\t", b";")


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Whole rows of a CSV file, as bytes; valid until the next chunk is asked for.

    Parameters
    ----------
    data : NDArray[np.uint8]
        Buffer.
    begin, end : int
        The rows, blank lines among them included, are ``data[begin:end]``.
    starts, ends : NDArray[np.int32], shape (rows * columns,)
        Raw extent of each cell, quotes included, row by row.
    first_row, rows : int
        Number of the first data row (from zero) and count of rows.
    """

    data: NDArray[np.uint8]
    begin: int
    end: int
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    first_row: int
    rows: int


class CsvSource:
    """A CSV or TSV file in UTF-8 (BOM or not), plain or gzip-compressed.

    The first row that is not blank holds the column names. All columns are large_string; an
    empty cell without quotes is null, ``""`` is the empty string. Blank lines are no rows,
    except in a file of one column, where they are nulls.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        "csv" (separator found by `sniff_separator`) or "tsv".
    name : str
        Short display name.

    Raises
    ------
    DecodeError
        Empty file, not UTF-8, NUL bytes, duplicate column names, no rows, ragged rows (those of
        the first block at once, others when they are read).
    """

    nested_columns: tuple[str, ...] = ()

    def __init__(self, path: Path, format: str, name: str) -> None:  # noqa: A002 - the word of the protocol
        self.path: Path | None = path
        self.name = name
        self.format = format
        self._file = path
        self._rows: int | None = None
        self.compressed = _starts_with_gzip(path)
        with _reading(path), _open_bytes(path, self.compressed) as file:
            head = file.read(_SAMPLE)
        if not head.removeprefix(BOM).strip(b"\r\n"):
            raise DecodeError("is empty", where=str(path), remedy="a header row and data are needed")
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DecodeError("is UTF-16 text", where=str(path), remedy="save it as UTF-8")
        cut = len(head) == _SAMPLE
        self.separator = b"\t" if format == "tsv" else sniff_separator(head.removeprefix(BOM), cut=cut)
        self.column_names: tuple[str, ...] = ()
        if not any(chunk.rows for chunk in self.chunks()):
            raise DecodeError("no rows below the header", where=str(path))

    def chunks(self, *, check_text: bool = True) -> Iterator[Chunk]:
        """Stream the file as located cells.

        Parameters
        ----------
        check_text : bool
            Also check for valid UTF-8; a second pass need not.

        Raises
        ------
        DecodeError
            Ragged row, NUL byte, open quote (with the line), invalid UTF-8 (with row and line).
        """
        with _reading(self._file), _open_bytes(self._file, self.compressed) as file:
            yield from _Scanner(self, file).chunks(check_text=check_text)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream record batches of large_string columns, about 4 MiB of file each.

        Parameters
        ----------
        columns : sequence of str, optional
            Columns wanted, in this order; all by default.

        Raises
        ------
        UsageError
            Unknown column.
        DecodeError
            See `chunks`.
        """
        names = list(self.column_names if columns is None else columns)
        for column in names:
            if column not in self.column_names:
                raise UsageError(f"no column {column!r}", where=str(self._file))
        schema = pa.schema([(column, pa.large_string()) for column in names])
        positions = [self.column_names.index(column) for column in names]
        for chunk in self.chunks():
            arrays = [_text_array(chunk, len(self.column_names), position) for position in positions]
            if chunk.rows:
                yield pa.record_batch(arrays, schema=schema)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Collect `batches`."""
        return pa.Table.from_batches(list(self.batches(columns)))

    def rows(self) -> int:
        """Count the data rows (one pass on first use)."""
        if self._rows is None:
            self._rows = sum(chunk.rows for chunk in self.chunks(check_text=False))
        return self._rows

    def sha256(self) -> str:
        """Digest of the file as it lies on disk (compressed if it is), hex."""
        with _reading(self._file), self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def preamble(self) -> bytes:
        """Return the raw bytes before the first data row: BOM, blank lines, header."""
        with _reading(self._file), _open_bytes(self._file, self.compressed) as file:
            scanner = _Scanner(self, file)
            scanner.read_header()
        with _reading(self._file), _open_bytes(self._file, self.compressed) as file:
            return file.read(scanner.dropped + scanner.begin)


class _Scanner:
    """One pass over an open file: a buffer, refilled behind an unfinished last row."""

    def __init__(self, source: CsvSource, file: io.FileIO | gzip.GzipFile) -> None:
        from dataguard.formats import _kernels

        self.kernels = _kernels
        self.source = source
        self.where = str(source.path)
        self.file = file
        self.separator = source.separator[0]
        self.special = _kernels.CLASS_OF_BYTE.copy()
        self.special[self.separator] = 1
        self.state = np.zeros(_kernels.STATE_SIZE, np.int64)
        self.state[_kernels.LINE] = 1
        self.data = np.empty(0, np.uint8)
        self.dropped = self.begin = self.size = 0  # file offset of data[0]; unread bytes in data
        self.final = False
        self.grow()

    def grow(self) -> None:
        """Keep the bytes from `begin` on, in a larger buffer where they fill it, and read behind them."""
        kept = self.size - self.begin
        if kept > _MAX_ROW:
            line = self.state[self.kernels.LINE]
            raise DecodeError(
                f"the row on line {line} is longer than 256 MiB",
                where=self.where,
                remedy="look for a quote that is never closed",
            )
        size = max(_BLOCK, 2 * kept)
        if size == self.data.size:
            self.data[:kept] = self.data[self.begin : self.size].copy()
        else:
            data = np.empty(size, np.uint8)
            data[:kept] = self.data[self.begin : self.size]
            self.data = data
            # A cell takes at least one byte, its separator or newline; only the last one may have none.
            self.starts, self.ends = (np.empty(size + 1, np.int32) for _ in range(2))
        self.dropped += self.begin
        self.begin, self.size = 0, kept
        view = self.data.data
        while self.size < size and not self.final:
            got = self.file.readinto(view[self.size :])
            self.size += got
            self.final = got == 0

    def scan(self, max_rows: int) -> int:
        """Scan from `begin`; return the number of complete rows."""
        k, state = self.kernels, self.state
        k.scan_rows(
            self.data,
            self.begin,
            self.size,
            self.special,
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
        what = {
            k.ERROR_RAGGED: f"has {state[k.ERROR_COUNT]} cells where the header has {state[k.COLUMNS]}",
            k.ERROR_NUL: "holds a NUL byte",
            k.ERROR_QUOTE: "opens a quote that is never closed",
        }[int(state[k.ERROR])]
        remedy = "is it binary, or UTF-16?" if state[k.ERROR] == k.ERROR_NUL else "repair that row"
        raise DecodeError(f"line {state[k.ERROR_LINE]} {what}", where=self.where, remedy=remedy)

    def read_header(self) -> tuple[str, ...]:
        """Step over BOM, blank lines and the header; return the column names."""
        k = self.kernels
        self.begin = 3 if self.data[: min(3, self.size)].tobytes() == BOM else 0
        while not self.scan(1):
            if self.final:
                raise DecodeError("is empty", where=self.where, remedy="a header row and data are needed")
            self.begin = int(self.state[k.CONSUMED])
            self.grow()
        columns = int(self.state[k.COLUMNS])
        names = []
        for start, end in zip(self.starts[:columns].tolist(), self.ends[:columns].tolist(), strict=True):
            try:
                names.append(_unquoted(self.data[start:end].tobytes()).decode())
            except UnicodeDecodeError:
                raise DecodeError(
                    "the header is not UTF-8", where=self.where, remedy="save it as UTF-8"
                ) from None
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            listed = ", ".join(map(repr, twice))
            raise DecodeError(f"duplicate column names {listed}", where=self.where, remedy="rename them")
        self.begin = int(self.state[k.CONSUMED])
        return tuple(names)

    def chunks(self, *, check_text: bool) -> Iterator[Chunk]:
        """Yield chunks up to the end of the file."""
        names = self.read_header()
        if not self.source.column_names:
            self.source.column_names = names
        elif names != self.source.column_names:
            raise DecodeError("changed while it was read", where=self.where, remedy="run again")
        first_row = 0
        while True:
            line = int(self.state[self.kernels.LINE])
            rows = self.scan(self.size)
            end = int(self.state[self.kernels.CONSUMED])
            cells = rows * len(names)
            chunk = Chunk(self.data, self.begin, end, self.starts[:cells], self.ends[:cells], first_row, rows)
            if check_text:
                _check_utf8(chunk, len(names), line, self.where)
            if rows or end > self.begin:
                yield chunk
            first_row += rows
            self.begin = end
            if self.final:
                return
            self.grow()


def sniff_separator(sample: bytes, *, cut: bool = False) -> bytes:
    """Choose among comma, tab and semicolon.

    Parameters
    ----------
    sample : bytes
        Beginning of the file without BOM; at least one row.
    cut : bool
        The sample ends within the file, so its last row does not count.

    Returns
    -------
    bytes
        The one that gives every row of the sample the same number (two or more) of cells, the
        largest number if several do; else the one that cuts the header into most cells; comma
        where nothing is cut.
    """
    text = sample.decode("utf-8", errors="replace")
    best, best_rank = b",", (False, 1)
    for separator in _SEPARATORS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator.decode())
        counts = [len(row) for row in reader if row]
        if cut and len(counts) > 1:
            counts.pop()
        header = counts[0]
        rank = (header > 1 and set(counts) == {header}, header)
        if rank > best_rank:
            best, best_rank = separator, rank
    return best


def _unquoted(raw: bytes) -> bytes:
    """Text of one raw cell; the slow form of the kernel `cell_text`."""
    if not raw.startswith(b'"'):
        return raw
    end = 1
    while (end := raw.index(b'"', end)) + 1 < len(raw) and raw[end + 1 : end + 2] == b'"':
        end += 2
    return raw[1:end].replace(b'""', b'"') + raw[end + 1 :]


def _text_array(chunk: Chunk, columns: int, column: int) -> pa.Array:
    """Decode one column of a chunk, shape (rows,), large_string."""
    from dataguard.formats import _kernels

    starts, ends = chunk.starts[column::columns], chunk.ends[column::columns]
    text = np.empty(int((ends - starts).sum(dtype=np.int64)), np.uint8)
    offsets = np.empty(chunk.rows + 1, np.int64)
    validity = np.zeros((chunk.rows + 7) // 8, np.uint8)
    nulls = _kernels.cell_text(
        chunk.data, chunk.starts, chunk.ends, columns, column, chunk.rows, offsets, text, validity
    )
    buffers = [pa.py_buffer(validity) if nulls else None, pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.large_string(), chunk.rows, buffers, null_count=int(nulls))


def _check_utf8(chunk: Chunk, columns: int, line: int, where: str) -> None:
    """Raise DecodeError naming row and line of the first byte that is not UTF-8."""
    data = chunk.data[chunk.begin : chunk.end]
    whole = [None, pa.py_buffer(np.array([0, data.size], np.int64)), pa.py_buffer(data)]
    try:
        pa.Array.from_buffers(pa.large_string(), 1, whole).validate(full=True)
    except pa.ArrowInvalid:
        raw = data.tobytes()
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            row = int(np.searchsorted(chunk.starts[::columns], chunk.begin + error.start, side="right"))
            line += raw.count(b"\n", 0, error.start)
            raise DecodeError(
                f"row {chunk.first_row + row} (line {line}) is not UTF-8",
                where=where,
                remedy="save the file as UTF-8",
            ) from None


def _starts_with_gzip(path: Path) -> bool:
    with _reading(path), path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _open_bytes(path: Path, compressed: bool) -> io.FileIO | gzip.GzipFile:
    """Open the text of a file as UTF-8 bytes, unbuffered where it can be."""
    if compressed:
        return gzip.open(path, "rb")
    return path.open("rb", buffering=0)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong in the block, which reads `path`, into one line."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DecodeError(f"damaged gzip ({error})", where=str(path), remedy="fetch it again") from error
    except OSError as error:
        raise DecodeError(f"cannot be read ({error.strerror})", where=str(path)) from error
