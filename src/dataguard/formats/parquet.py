"""Parquet: streaming reader, and a rewrite that changes the moved columns and nothing else.

A rewrite with library defaults silently changes decimals, old timestamps, codecs, page
versions and row groups; every trait that a file shows is therefore copied from it, and
those that cannot be kept are named in the result.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.edits import Moves, merge_moves, move_column
from dataguard.formats.parquet_footer import read_footer
from dataguard.formats.parquet_options import writer_options

__all__ = ["ParquetSource", "rewrite_parquet"]

_NS_YEARS = (-9_223_372_036_854_775, 9_223_372_036_854_775)
"""Microseconds since 1970 that still fit int64 nanoseconds: years 1677 to 2262."""


class ParquetSource:
    """A Parquet file.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Short display name.

    Raises
    ------
    DecodeError
        Truncated or damaged file, duplicate column names, no rows, no columns.
    """

    format = "parquet"

    def __init__(self, path: Path, name: str) -> None:
        self.path: Path | None = path
        self.name = name
        self._file = path
        self._int96_unit: str | None = None
        with self.open() as file, self.decoding():
            schema, self._rows = file.schema_arrow, file.metadata.num_rows
            leaves = [file.schema.column(i) for i in range(len(file.schema))]
        self.column_names: tuple[str, ...] = tuple(schema.names)
        self.nested_columns: tuple[str, ...] = tuple(f.name for f in schema if pa.types.is_nested(f.type))
        twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if twice:
            listed = ", ".join(map(repr, twice))
            raise DecodeError(f"duplicate column names {listed}", where=str(path), remedy="rename them")
        if not schema.names or not self._rows:
            raise DecodeError("no rows" if schema.names else "no columns", where=str(path))
        old = [c.name for c in leaves if c.physical_type == "INT96" and c.path == c.name]
        if old:
            self._int96_unit = self._widest_unit(old)

    def open(self) -> Any:
        """Open the file as a `pyarrow.parquet.ParquetFile`, to be closed by the caller."""
        with self.decoding():
            return pq.ParquetFile(self._file, coerce_int96_timestamp_unit=self._int96_unit)

    @contextlib.contextmanager
    def decoding(self) -> Iterator[None]:
        """Turn what goes wrong in the block, which reads this file, into one line."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DecodeError(
                f"damaged or truncated Parquet ({reason})", where=str(self._file), remedy="fetch it again"
            ) from error

    def _widest_unit(self, columns: list[str]) -> str:
        """Return a unit in which INT96 timestamps fit: Spark's year 9999 would wrap around in nanoseconds."""
        self._int96_unit = "us"
        for batch in self.batches(columns):
            for column in batch.columns:
                micros = (
                    column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).drop_null().to_numpy()
                )
                if micros.size and (micros.min() < _NS_YEARS[0] or micros.max() > _NS_YEARS[1]):
                    return "us"
        return "ns"

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream record batches of at most 65,536 rows, types as in the file.

        Parameters
        ----------
        columns : sequence of str, optional
            Columns wanted, in this order; all by default.

        Raises
        ------
        UsageError
            Unknown column.
        DecodeError
            Damaged data.
        """
        wanted = self._wanted(columns)
        with self.open() as file, self.decoding():
            for batch in file.iter_batches(columns=wanted):
                yield batch.select(wanted)  # the reader keeps file order, and takes "a" for "a.b" too

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read whole columns; see `batches`."""
        wanted = self._wanted(columns)
        with self.open() as file, self.decoding():
            return file.read(columns=wanted).select(wanted)

    def _wanted(self, columns: Sequence[str] | None) -> list[str]:
        for column in columns or ():
            if column not in self.column_names:
                raise UsageError(f"no column {column!r}", where=str(self._file))
        return list(self.column_names if columns is None else columns)

    def rows(self) -> int:
        """Return the number of rows, from the footer."""
        return int(self._rows)

    def sha256(self) -> str:
        """Digest of the file, hex."""
        with self.decoding(), self._file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def rewrite_parquet(
    source: ParquetSource, moves: Sequence[Moves], out: IO[bytes]
) -> tuple[int, tuple[str, ...]]:
    """Write the file again, row group by row group, with cells moved.

    Schema, key-value metadata, row groups, codecs, encodings and physical types stay. Column
    chunks without moved cells come out byte for byte when this pyarrow wrote the source with
    its default page sizes; from another writer the values are equal, the bytes are not.
    Memory: the moved columns plus one row group.

    Parameters
    ----------
    source : ParquetSource
        The original.
    moves : sequence of Moves
        May cross row groups.
    out : IO[bytes]
        Receives the file.

    Returns
    -------
    (int, tuple of str)
        Cells that took another cell's content; traits of the file that could not be kept.
    """
    path = source.path
    assert path is not None
    merged = merge_moves(moves, source.column_names, source.rows())
    moved = {
        name: move_column(source.table([name]).column(0), rows, from_rows)
        for name, (rows, from_rows) in merged.items()
    }
    with source.open() as file:
        with source.decoding():
            footer = read_footer(path)
            options, lost = writer_options(file, footer, frozenset(merged))
        with pq.ParquetWriter(out, file.schema_arrow, **options) as writer:
            if file.metadata.metadata:
                writer.add_key_value_metadata(file.metadata.metadata)
            first = 0
            for group in range(file.num_row_groups):
                with source.decoding():
                    table = file.read_row_group(group)
                for name, column in moved.items():
                    position = table.column_names.index(name)
                    cells = _compacted(column.slice(first, table.num_rows))
                    table = table.set_column(position, table.schema.field(position), cells)
                writer.write_table(table, row_group_size=max(table.num_rows, 1))
                first += table.num_rows
    return sum(rows.size for rows, _ in merged.values()), lost


def _compacted(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Drop unused entries of a dictionary column, which the writer would store in each row group."""
    if not pa.types.is_dictionary(column.type):
        return column
    chunks = []
    for chunk in column.chunks:
        used, codes = np.unique(chunk.indices.drop_null().to_numpy(), return_inverse=True)
        indices = np.zeros(len(chunk), np.int64)
        valid = chunk.indices.is_valid().to_numpy(zero_copy_only=False)
        indices[valid] = codes
        chunks.append(
            pa.DictionaryArray.from_arrays(
                pa.array(indices, mask=~valid).cast(column.type.index_type),
                chunk.dictionary.take(pa.array(used)),
                ordered=column.type.ordered,
            )
        )
    return pa.chunked_array(chunks, column.type)
