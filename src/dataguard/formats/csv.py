"""CSV and TSV as a table of text: every cell exactly as it stands, nothing guessed about types.

Reading goes through the scanner of ``csv_scan.py``, so that the write-back in ``splice.py``
moves the very bytes that were decoded here. Encoding, layout and compression are found on a
sample; each has a file of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dataguard.errors import DecodeError
from dataguard.formats.chunks import Chunk, Density
from dataguard.formats.compression import ByteStream, compression_of, open_bytes, reading
from dataguard.formats.csv_scan import BOM, Layout, Scanner, scanned_as
from dataguard.formats.dialect import SEPARATORS, sniff_dialect
from dataguard.formats.encodings import encoding_named, sniff_encoding
from dataguard.formats.selection import selected
from dataguard.formats.transcode import Utf16Stream, decode_cells

__all__ = ["CsvSource"]

_SAMPLE = 1 << 16
_SEARCH = 1 << 24
"""How far a file that begins in ASCII is searched for the first byte that tells its encoding."""


class CsvSource:
    """A delimited text file, plain or compressed by gzip or zstd.

    Encodings: UTF-8, UTF-16, CP932, EUC-JP, Windows-1252. Separators: comma, tab, semicolon, bar.
    The first row that is not blank holds the column names, unless the sample shows that it is
    data; row names without a name of their own, as R writes them, are the column "". All columns
    are large_string; an empty cell without quotes is null, ``""`` is the empty string. Blank
    lines are no rows, except in a file of one column, where they are nulls. A last row cut short
    is a row; the cells it lacks are null.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        "csv" or "tsv" (tab, if there is one).
    name : str
        Short display name.
    header : bool, optional
        Whether there is a row of names; by default decided by `sniff_dialect`.
    encoding : str, optional
        Python's name of the encoding; by default decided by `sniff_encoding`.

    Attributes
    ----------
    encoding : str
        "utf-8", "utf-16-le", "utf-16-be", "cp932", "euc_jp", "cp1252" or "iso8859-1". A file in
        ASCII up to its 16th MiB counts as UTF-8.
    separator : bytes
    header : bool
        The first row holds names.
    comment : bool
        The first line is a remark: it has one cell and all others have more.
    compression : str or None
        "gzip" or "zstd".
    column_names : tuple of str

    Raises
    ------
    UsageError
        An `encoding` that is not supported.
    DecodeError
        Empty file, damaged compression, UTF-32 or ISO-2022-JP, text that is not in the encoding
        (with row and line), NUL bytes, duplicate column names, no rows, ragged rows (those of
        the first block at once, others when they are read), bars between cells in CP932.
    """

    nested_columns: tuple[str, ...] = ()

    def __init__(
        self,
        path: Path,
        format: str,  # noqa: A002 - the word of the protocol
        name: str,
        *,
        header: bool | None = None,
        encoding: str | None = None,
    ) -> None:
        self.path: Path | None = path
        self.name = name
        self.format = format
        self._file = path
        self._rows: int | None = None
        self._density = Density()
        where = str(path)
        self.compression = compression_of(path)
        self.encoding = encoding_named(encoding) if encoding else self._find_encoding()
        with self.open_text() as file:
            try:
                head = _filled(file, _SAMPLE)
            except UnicodeDecodeError:
                head = b""  # bad at once; the scanner says where
        sample = head.removeprefix(BOM)
        if head and not sample.strip(b"\r\n"):
            raise DecodeError("is empty", where=where, remedy="a header row and data are needed")
        if self.encoding in ("cp932", "euc_jp"):  # a byte of a character is no bar
            sample = sample.decode(self.encoding, "replace").encode()
        dialect = sniff_dialect(
            sample or b"?", cut=len(head) == _SAMPLE, separators=_candidates(format, sample), header=header
        )
        if dialect.separator == b"|" and self.encoding == "cp932":
            raise DecodeError(
                "is CP932 text separated by bars, which also occur inside its characters",
                where=where,
                remedy="save it as UTF-8, or with commas",
            )
        self.separator, self.comment, self.header = dialect.separator, dialect.comment, dialect.header
        self._layout = Layout(
            where, self.encoding, self.separator, self.comment, self.header, dialect.row_names
        )
        self.column_names: tuple[str, ...] = ()
        if not any(chunk.rows for chunk in self.chunks()):
            raise DecodeError("no rows below the header", where=where, remedy="data rows are needed")

    @property
    def compressed(self) -> bool:
        """Whether the file on disk is compressed."""
        return self.compression is not None

    @contextlib.contextmanager
    def open_text(self) -> Iterator[ByteStream]:
        """Open the bytes that are scanned: decompressed, UTF-16 as UTF-8, else as they are."""
        with open_bytes(self._file, self.compression) as file:
            yield Utf16Stream(file, self.encoding) if self.encoding.startswith("utf-16") else file

    def chunks(self, *, check_text: bool = True) -> Iterator[Chunk]:
        """Stream the file as located cells.

        Parameters
        ----------
        check_text : bool
            Also check the encoding of the whole text; a second pass need not.

        Raises
        ------
        DecodeError
            Ragged row, NUL byte, open quote (with the line), text that is not in the encoding
            (with row and line), a file that changed since it was opened.
        """
        with self.open_text() as file:
            scanner = Scanner(self._layout, file)
            names = scanner.read_preamble()
            if not self.column_names:
                self.column_names = names
            elif names != self.column_names:
                raise DecodeError("changed while it was read", where=str(self._file), remedy="run again")
            yield from scanner.chunks(len(names), check_text=check_text)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream record batches of large_string columns, about 1 MiB of file each.

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
        names = selected(self.column_names, columns, str(self._file))
        place = {column: position for position, column in enumerate(self.column_names)}
        schema = pa.schema([(column, pa.large_string()) for column in names])
        positions = [place[column] for column in names]
        encoding = scanned_as(self.encoding)
        for chunk in self.chunks():
            if chunk.rows:
                arrays = [_text_array(chunk, len(self.column_names), at, encoding) for at in positions]
                yield pa.record_batch(arrays, schema=schema)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Collect `batches`."""
        return pa.Table.from_batches(list(self.batches(columns)))

    def rows(self) -> int:
        """Count the data rows (one pass on first use)."""
        if self._rows is None:
            self._rows = 0
            for chunk in self.chunks(check_text=False):
                self._rows += chunk.rows
                # One byte beside each cell is a separator or a newline.
                self._density.add(chunk.rows, chunk.end - chunk.begin - len(chunk.starts))
        return self._rows

    @property
    def densest(self) -> int:
        """Bytes of text of a row where rows are longest; see `Density`."""
        self.rows()
        return self._density.densest()

    def sha256(self) -> str:
        """Digest of the file as it lies on disk (compressed if it is), hex."""
        with reading(self._file), self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def preamble(self) -> bytes:
        """Return the bytes before the first data row: BOM, comment, blank lines, header (UTF-16 as UTF-8)."""
        with self.open_text() as file:
            scanner = Scanner(self._layout, file)
            scanner.read_preamble()
            return bytes(scanner.preamble)

    def stamp(self) -> tuple[int, int]:
        """Size in bytes and time of the last change (ns) of the file on disk: to see that nobody wrote to it."""
        with reading(self._file):
            status = self._file.stat()
            return status.st_size, status.st_mtime_ns

    def _find_encoding(self) -> str:
        """Decide on the beginning of the file, or on its first part that is not ASCII."""
        where = str(self._file)
        with open_bytes(self._file, self.compression) as file:
            sample = _filled(file, _SAMPLE)
            encoding = sniff_encoding(sample, cut=len(sample) == _SAMPLE, where=where)
            if encoding != "utf-8" or not sample.isascii():
                return encoding
            searched = len(sample)
            while len(sample) and searched < _SEARCH:
                sample = _filled(file, 1 << 20)
                searched += len(sample)
                if not sample.isascii():
                    first = int(np.argmax(np.frombuffer(sample, np.uint8) > 0x7F))
                    sample = sample[first:] + _filled(file, max(0, _SAMPLE - len(sample) + first))
                    return sniff_encoding(sample[:_SAMPLE], cut=len(sample) >= _SAMPLE, where=where)
        return "utf-8"


def _candidates(form: str, sample: bytes) -> tuple[bytes, ...]:
    """Separators to choose from: a .tsv that has tabs is separated by tabs."""
    return (b"\t",) if form == "tsv" and b"\t" in sample else SEPARATORS


def _filled(file: ByteStream, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end."""
    parts: list[bytes] = []
    missing = size
    while missing and (part := file.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _text_array(chunk: Chunk, columns: int, column: int, encoding: str) -> pa.Array:
    """Decode one column of a chunk, shape (rows,), large_string."""
    from dataguard.formats import _kernels

    starts, ends = chunk.starts[column::columns], chunk.ends[column::columns]
    gap = int(encoding != "utf-8")
    text = np.empty(int((ends - starts).sum(dtype=np.int64)) + gap * chunk.rows, np.uint8)
    offsets = np.empty(chunk.rows + 1, np.int64)
    validity = np.zeros((chunk.rows + 7) // 8, np.uint8)
    nulls = _kernels.cell_text(
        chunk.data, chunk.starts, chunk.ends, columns, column, chunk.rows, gap, offsets, text, validity
    )
    if gap:
        text, offsets[1:] = decode_cells(text[: offsets[-1]], encoding)
    buffers = [pa.py_buffer(validity) if nulls else None, pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.large_string(), chunk.rows, buffers, null_count=int(nulls))
