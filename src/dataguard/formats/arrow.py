"""Tables handed over in memory: pandas, polars, DuckDB, pyarrow, anything with an Arrow C stream."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.edits import take_rows

__all__ = ["ArrowSource"]

_BATCH = 1 << 16
_PLAIN = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
"""View types, which polars hands out and few Arrow functions know, and what they are read as."""


class ArrowSource:
    """A table in memory.

    A stream can be read once only, so it is collected here.

    Parameters
    ----------
    data : object
        Anything with ``__arrow_c_stream__`` that yields record batches.
    name : str
        Short display name.

    Raises
    ------
    UsageError
        `data` is not a table.
    DecodeError
        Duplicate column names, no columns, no rows.
    """

    format = "arrow"
    path: Path | None = None

    def __init__(self, data: object, name: str) -> None:
        self.name = name
        try:
            table = data if isinstance(data, pa.Table) else pa.table(data)
        except (pa.ArrowException, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(f"is not a table ({reason})", where=name) from error
        twice = sorted({c for c in table.column_names if table.column_names.count(c) > 1})
        if twice:
            listed = ", ".join(map(repr, twice))
            raise DecodeError(f"duplicate column names {listed}", where=name, remedy="rename them")
        if not table.column_names or not table.num_rows:
            raise DecodeError("no rows" if table.column_names else "no columns", where=name)
        for position, field in enumerate(table.schema):
            if field.type in _PLAIN:
                plain = field.with_type(_PLAIN[field.type])
                table = table.set_column(position, plain, table.column(position).cast(plain.type))
        self._table = table
        self.column_names: tuple[str, ...] = tuple(table.column_names)
        self.nested_columns: tuple[str, ...] = tuple(
            field.name for field in table.schema if pa.types.is_nested(field.type)
        )

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield slices of at most 65,536 rows; `columns` selects and orders.

        Raises
        ------
        UsageError
            Unknown column.
        """
        yield from self.table(columns).to_batches(max_chunksize=_BATCH)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the table, or the columns wanted; see `batches`."""
        for column in columns or ():
            if column not in self.column_names:
                raise UsageError(f"no column {column!r}", where=self.name)
        return self._table if columns is None else self._table.select(list(columns))

    def rows(self) -> int:
        """Return the number of rows."""
        return int(self._table.num_rows)

    def sha256(self) -> str:
        """Digest, hex, of the table as an Arrow IPC stream in batches of 65,536 rows.

        Chunking, slicing and dictionaries split over chunks do not matter; schema metadata,
        types and dictionary order do. There is no file, so this says "the same table in
        memory", not "the same content in any format".
        """
        table = self._table.unify_dictionaries()
        digest = _Digest()
        with pa.ipc.new_stream(digest, table.schema) as stream:
            for first in range(0, table.num_rows, _BATCH):
                index = np.arange(first, min(first + _BATCH, table.num_rows))
                # Taking rows builds fresh buffers without offsets or leftovers of other rows.
                arrays = [take_rows(column, index) for column in table.columns]
                piece = pa.table(arrays, schema=table.schema).combine_chunks()
                stream.write_table(piece)
        return digest.hash.hexdigest()


class _Digest(io.RawIOBase):
    """A file that only hashes what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        self.hash.update(data)
        return len(data)
