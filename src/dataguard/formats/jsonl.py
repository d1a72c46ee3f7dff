"""JSON Lines as a table of text: one flat object per line, every value exactly as it stands.

Reading goes through the scanner of ``_json_kernels.py``, and the write-back in ``splice.py`` moves
the very bytes that were located here. Numbers stay the literals they are: ``1.50`` is not ``1.5``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataguard.errors import DecodeError
from dataguard.formats.chunks import Chunk, Density
from dataguard.formats.compression import ByteStream, compression_of, open_bytes, reading
from dataguard.formats.edits import BlockMoves
from dataguard.formats.jsonl_scan import BOM, KeyTable, LineScanner, changed_error, without_surrogates
from dataguard.formats.selection import selected
from dataguard.formats.splice import splice_text

__all__ = ["JsonLinesSource", "write_jsonl"]


class JsonLinesSource:
    """A JSON Lines file (RFC 8259 texts in UTF-8, one per line), plain, gzip- or zstd-compressed.

    Every line that is not blank is one object, and one row. The columns are the keys in order of
    first appearance. All columns are large_string: strings decoded (half a surrogate pair, which
    no text can hold, reads as U+FFFD), numbers, true and false as written; null and an absent key
    are null. A column that holds an object or array anywhere is in `nested_columns`, and its
    values are the raw JSON text, quotes of strings included.

    One pass at opening finds the columns, checks the whole file and counts the rows. Memory:
    a block of 4 MiB or the longest line, plus its located cells.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        "jsonl".
    name : str
        Short display name.

    Raises
    ------
    DecodeError
        A line that is no JSON object (with line, byte and what was expected), NaN or Infinity,
        a key twice in one object, nesting deeper than 64, a line above 64 MiB, 10,000 keys or
        more, not UTF-8, no rows, no columns, damaged compression.
    """

    def __init__(self, path: Path, format: str, name: str) -> None:  # noqa: A002 - the word of the protocol
        self.path: Path | None = path
        self.name = name
        self.format = format
        self._file = path
        self.compression = compression_of(path)
        self._keys = KeyTable(str(path))
        with self.open_text() as file:
            scanner = LineScanner(self._keys, file)
            density = Density()
            for chunk in scanner.chunks(check_text=True, store=False):
                density.add(chunk.rows, chunk.end - chunk.begin)
        self._rows = scanner.rows
        self.column_names: tuple[str, ...] = tuple(self._keys.names)
        # Without the keys, which stand in every row and are read once; half of it at least, where they do not.
        size, keys = density.densest(), sum(len(name.encode()) + 4 for name in self.column_names)
        self.densest = max(size - keys, size // 2)
        self._nested = scanner.nested
        self.nested_columns: tuple[str, ...] = tuple(
            column
            for column, nested in zip(self.column_names, scanner.nested.tolist(), strict=False)
            if nested
        )
        if not self._rows or not self.column_names:
            what = "no rows" if not self._rows else "no columns: every object is empty"
            raise DecodeError(what, where=str(path), remedy="one JSON object per line is needed")

    def open_text(self) -> AbstractContextManager[ByteStream]:
        """Open the text, decompressed."""
        return open_bytes(self._file, self.compression)

    def chunks(self, *, check_text: bool = True) -> Iterator[Chunk]:
        """Stream the file as located values; -1 is the extent of an absent one.

        Parameters
        ----------
        check_text : bool
            Also check for valid UTF-8; a second pass need not.

        Raises
        ------
        DecodeError
            As at opening, and when the file has changed since.
        """
        with self.open_text() as file:
            scanner = LineScanner(self._keys, file)
            yield from scanner.chunks(check_text=check_text, store=True)
        if scanner.rows != self._rows or np.any(scanner.nested > self._nested):
            raise changed_error(str(self._file))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream record batches of large_string columns, at most 4 MiB of text or one row each.

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
        raw = [name in self.nested_columns for name in names]
        width = len(self.column_names)
        for chunk in self.chunks():
            arrays = [_text_array(chunk, width, *pair) for pair in zip(positions, raw, strict=True)]
            if chunk.rows:
                yield pa.record_batch(arrays, schema=schema)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Collect `batches`."""
        return pa.Table.from_batches(list(self.batches(columns)))

    def rows(self) -> int:
        """Return the number of rows, counted at opening."""
        return self._rows

    def sha256(self) -> str:
        """Digest of the file as it lies on disk (compressed if it is), hex."""
        with reading(self._file), self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def stamp(self) -> tuple[int, int]:
        """Size in bytes and time of the last change (ns) of the file on disk."""
        with reading(self._file):
            status = self._file.stat()
            return status.st_size, status.st_mtime_ns

    def preamble(self) -> bytes:
        """Return the raw bytes before the first line: a BOM or nothing."""
        with self.open_text() as file:
            return BOM if file.read(len(BOM)) == BOM else b""


def write_jsonl(
    source: JsonLinesSource, blocks: Iterable[BlockMoves], out: IO[bytes]
) -> tuple[int, tuple[str, ...]]:
    """Write the (uncompressed) text of `source` to `out` with values moved.

    Raw tokens change places; every other byte (order of keys, blanks, newlines, escapes, BOM)
    stays. A missing key is no token: it can neither move nor be overwritten.

    Parameters
    ----------
    source : JsonLinesSource
        Read twice.
    blocks : iterable of BlockMoves
        Ascending.
    out : IO[bytes]
        Receives the text.

    Returns
    -------
    (int, tuple of str)
        Values whose bytes changed; traits that could not be kept, always none.

    Raises
    ------
    UsageError
        See `merge_moves`; a move of or onto an absent value.
    DecodeError
        See `JsonLinesSource.chunks`.
    """
    return splice_text(source, blocks, out), ()


def _text_array(chunk: Chunk, width: int, column: int, raw: bool) -> pa.Array:
    """Decode one column of a chunk, shape (rows,), large_string."""
    from dataguard.formats import _json_text

    starts, ends = chunk.starts[column::width], chunk.ends[column::width]
    text = np.empty(int((ends - starts).sum(dtype=np.int64)), np.uint8)
    offsets = np.empty(chunk.rows + 1, np.int64)
    validity = np.zeros((chunk.rows + 7) // 8, np.uint8)
    escaped = np.zeros(chunk.rows, np.uint8)
    nulls = _json_text.json_text(
        chunk.data, chunk.starts, chunk.ends, width, column, chunk.rows, raw, offsets, text, validity, escaped
    )
    buffers = [pa.py_buffer(validity) if nulls else None, pa.py_buffer(offsets), pa.py_buffer(text)]
    array = pa.Array.from_buffers(pa.large_string(), chunk.rows, buffers, null_count=int(nulls))
    if not escaped.any():
        return array
    mask = pa.array(escaped.astype(bool))
    found = array.filter(mask).dictionary_encode()
    # One call of the json module for all distinct cells of the block that hold a backslash.
    texts = json.loads(b'["' + b'","'.join(found.dictionary.cast(pa.large_binary()).to_pylist()) + b'"]')
    decoded = pa.array([without_surrogates(one) for one in texts], pa.large_string())
    return pc.replace_with_mask(array, mask, decoded.take(found.indices))
