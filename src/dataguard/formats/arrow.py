"""Tables handed over in memory: pandas, polars, DuckDB, pyarrow, anything with an Arrow C stream."""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dataguard.errors import DecodeError, UsageError
from dataguard.formats.edits import take_rows
from dataguard.formats.selection import selected

__all__ = ["ArrowSource", "nested_names"]

_BATCH = 1 << 16
_PLAIN = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
"""View types, which polars hands out and few Arrow functions know, and what they are read as."""
_COLLECT = {
    "LazyFrame": "call .collect() on it first",
    "DuckDBPyConnection": "pass a relation, such as connection.sql(...)",
    "Series": "make it a frame with a named column",
}


class ArrowSource:
    """A table in memory.

    A stream can be read once only, so it is collected here, and has to fit into memory; what
    does not is better written to a Parquet file and opened from there. Frames are not copied
    where Arrow can share their memory: leave them unchanged while the source is in use.

    Parameters
    ----------
    data : object
        Anything with ``__arrow_c_stream__`` or ``__arrow_c_array__`` that yields record batches,
        such as frames of pandas and polars, DuckDB relations, pyarrow tables, batches and readers;
        a pyarrow dataset or scanner.
    name : str
        Short display name.
    empty : bool
        Accept a table without rows, as a part of a larger one.

    Raises
    ------
    UsageError
        `data` is not a table, or holds columns of no Arrow type.
    DecodeError
        Duplicate column names, no columns, no rows.
    """

    format = "arrow"
    path: Path | None = None

    def __init__(self, data: object, name: str, *, empty: bool = False) -> None:
        self.name = name
        table = _collected(data, name)
        twice = sorted({c for c in table.column_names if table.column_names.count(c) > 1})
        if twice:
            listed = ", ".join(map(repr, twice))
            raise DecodeError(f"duplicate column names {listed}", where=name, remedy="rename them")
        if not table.column_names or not (table.num_rows or empty):
            once = "a stream that was read before is empty" if isinstance(data, pa.RecordBatchReader) else ""
            raise DecodeError("no rows" if table.column_names else "no columns", where=name, remedy=once)
        for position, field in enumerate(table.schema):
            plain = _without_views(table.column(position))
            if plain.type != field.type:
                table = table.set_column(position, field.with_type(plain.type), plain)
        self._table = table
        self.column_names: tuple[str, ...] = tuple(table.column_names)
        self.nested_columns: tuple[str, ...] = nested_names(table.schema)

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
        wanted = selected(self.column_names, columns, self.name)
        return self._table if columns is None else self._table.select(wanted)

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


def nested_names(schema: pa.Schema) -> tuple[str, ...]:
    """Names of the columns that hold lists, structs, maps or unions, under whatever name of their own."""
    return tuple(field.name for field in schema if _is_nested(field.type))


def _is_nested(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _is_nested(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _is_nested(kind.value_type)
    return bool(pa.types.is_nested(kind))


def _collected(data: Any, name: str) -> pa.Table:
    """Read an object as a table; whatever it raises instead becomes one line."""
    if isinstance(data, pa.Table):
        return data
    reader = getattr(data, "scanner", None) if not hasattr(data, "__arrow_c_stream__") else None
    try:
        if reader is not None:  # a pyarrow dataset
            return reader().to_table()
        if hasattr(data, "to_table") and hasattr(data, "to_reader"):  # a pyarrow scanner
            return data.to_table()
        if not hasattr(data, "__arrow_c_stream__") and not hasattr(data, "__arrow_c_array__"):
            raise UsageError(
                f"cannot read a table from a {type(data).__name__}",
                where=name,
                remedy=_COLLECT.get(type(data).__name__, "pass a path or an object with __arrow_c_stream__"),
            )
        _refuse_pointers(data, name)
        return pa.table(data)
    except (pa.ArrowException, TypeError, ValueError, *_errors_of(data)) as error:
        raise _refusal(data, name, error) from error


def _errors_of(data: object) -> tuple[type[Exception], ...]:
    """Exceptions that the library of an object has of its own; a lazy object meets its errors only here."""
    library = type(data).__module__.partition(".")[0].removeprefix("_")
    module = sys.modules.get(library)
    found = getattr(module, "Error", None) or getattr(
        getattr(module, "exceptions", None), "PolarsError", None
    )
    return (found,) if isinstance(found, type) and issubclass(found, Exception) else ()


def _refusal(data: object, name: str, error: Exception) -> UsageError:
    what = str(error.args[0]) if error.args and isinstance(error.args[0], str) else str(error)
    reason = (what.strip() or type(error).__name__).splitlines()[0]
    column = re.search(r"Conversion failed for column (.+) with type", " ".join(map(str, error.args)))
    if column:
        return UsageError(
            f"column {column[1]!r} holds values that have no common type ({reason})",
            where=name,
            remedy="give it one type",
        )
    if "uplicate column" in reason:
        return UsageError(reason, where=name, remedy="rename them")
    return UsageError(f"is not a table ({reason})", where=name, remedy=_COLLECT.get(type(data).__name__, ""))


def _refuse_pointers(data: Any, name: str) -> None:
    """Refuse the Object columns of polars, which hands out addresses for them."""
    if type(data).__module__.partition(".")[0] != "polars":
        return
    for column, kind in dict(getattr(data, "schema", {})).items():
        if str(kind) == "Object":
            raise UsageError(f"column {column!r} holds Python objects", where=name, remedy="give it one type")


def _without_views(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if kind in _PLAIN:
        return column.cast(_PLAIN[kind])
    if not pa.types.is_dictionary(kind) or kind.value_type not in _PLAIN:
        return column
    plain = _PLAIN[kind.value_type]
    chunks = [
        pa.DictionaryArray.from_arrays(c.indices, c.dictionary.cast(plain), ordered=kind.ordered)
        for c in column.chunks
    ]
    return pa.chunked_array(chunks, pa.dictionary(kind.index_type, plain, kind.ordered))


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
