"""Options that make pyarrow write a Parquet file, or one column of it, like a given one.

Library defaults would turn integer decimals into byte arrays, INT96 into INT64, and every
codec, encoding and page version into their own.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataguard.formats.parquet_footer import Footer, LeafChunk

__all__ = ["chunk_options", "column_options", "writer_options"]

_DICTIONARY = {"RLE_DICTIONARY", "PLAIN_DICTIONARY"}


def column_options(file: Any, leaf: int, field: pa.Field) -> tuple[pa.DataType, dict[str, Any]] | None:
    """Find out how to store a flat column in the type that the file stores it in.

    Parameters
    ----------
    file : pyarrow.parquet.ParquetFile
        The model, opened.
    leaf : int
        Number of the column among the leaves of its schema.
    field : pa.Field
        The column as it is read.

    Returns
    -------
    (pa.DataType, dict) or None
        Type to cast the column to, and keyword arguments of `pyarrow.parquet.ParquetWriter`, to be
        completed by `chunk_options`; None when this pyarrow has no way to write that type.
    """
    wanted = _leaf_type(file.schema.column(leaf))
    physical = wanted.storage[0]
    options: dict[str, Any] = {
        "store_schema": False,
        "store_decimal_as_integer": physical in {"INT32", "INT64"},
        "use_deprecated_int96_timestamps": physical == "INT96",
    }
    alike = None
    for kind, switches in itertools.product(_candidates(field.type), _switches(file)):
        with _empty(pa.schema([field.with_type(kind)]), options | switches) as written:
            got = _leaf_type(written.schema.column(0))
            same = written.schema_arrow.field(0).type == kind
        if got == wanted:
            return kind, options | switches
        # Other words for the same storage, such as DuckDB's INT_32 for a plain INT32: the file's stay.
        if alike is None and same and got.storage == wanted.storage:
            alike = kind, options | switches
    return alike


def _candidates(kind: pa.DataType) -> Iterator[pa.DataType]:
    """Yield the type itself, and wider decimals: DuckDB gives all long ones 16 bytes, pyarrow as few as do."""
    yield kind
    if pa.types.is_decimal(kind):
        for precision in range(kind.precision + 1, 39):
            yield pa.decimal128(precision, kind.scale)


def chunk_options(chunk: LeafChunk, page_version: str) -> dict[str, Any]:
    """Read off a column chunk the options to write one like it, as a file of its own."""
    encoding = _special_encoding(chunk)
    return {
        # pyarrow writes LZ4_RAW under the name LZ4, the older LZ4 not at all.
        "compression": "LZ4" if chunk.codec == "LZ4_RAW" else chunk.codec,
        "use_dictionary": not _DICTIONARY.isdisjoint(chunk.encodings),
        "column_encoding": encoding and {chunk.path: encoding},
        "data_page_version": page_version,
        "write_statistics": chunk.statistics,
        "write_page_index": chunk.page_index,
    }


def writer_options(
    file: Any, footer: Footer, moved: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read off a file the options to write one like it.

    Parameters
    ----------
    file : pyarrow.parquet.ParquetFile
        The model, opened.
    footer : Footer
        Of the same file.
    moved : frozenset of str
        Columns that will not keep their order; a declared sort order ends before the first of them.

    Returns
    -------
    (dict, tuple of str)
        Keyword arguments of `pyarrow.parquet.ParquetWriter`; traits that cannot be kept.
    """
    chunks = footer.chunks
    encodings = {c.path: named for c in chunks if (named := _special_encoding(c)) is not None}
    columns = [file.schema.column(i) for i in range(len(file.schema))]
    options: dict[str, Any] = {
        "store_schema": False,  # the metadata, a stored Arrow schema included, is copied as it stands
        "compression": {c.path: "LZ4" if c.codec == "LZ4_RAW" else c.codec for c in chunks},
        "use_dictionary": [c.path for c in chunks if not _DICTIONARY.isdisjoint(c.encodings)] or False,
        "column_encoding": encodings or None,
        "data_page_version": footer.page_version,
        "write_statistics": [c.path for c in chunks if c.statistics] or False,
        "write_page_index": any(c.page_index for c in chunks),
        "store_decimal_as_integer": any(
            c.logical_type.type == "DECIMAL" and c.physical_type in {"INT32", "INT64"} for c in columns
        ),
        "use_deprecated_int96_timestamps": any(c.physical_type == "INT96" for c in chunks),
    }
    kept = itertools.takewhile(lambda s: moved.isdisjoint(_names(chunks[s[0]].path)), footer.sorting)
    sorting = [pq.SortingColumn(*column) for column in kept]
    if sorting:
        options["sorting_columns"] = sorting
    differing = _fit_types(file, options)
    lost = tuple(f"physical type of {path}" for path in differing)
    if any(c.codec == "LZ4" for c in chunks):
        lost = (*lost, "codec LZ4 (becomes LZ4_RAW)")
    if any(c.bloom_filter for c in chunks):
        lost = (*lost, "bloom filters")
    return options, lost


def _fit_types(file: Any, options: dict[str, Any]) -> tuple[str, ...]:
    """Try the writer's global switches on an empty file; set the best, return the columns that differ."""
    wanted = _leaf_types(file.schema)
    best: tuple[int, dict[str, Any], tuple[str, ...]] | None = None
    for switches in _switches(file):
        with _empty(file.schema_arrow, options | switches) as written:
            got = _leaf_types(written.schema)
        differing = tuple(sorted(path for path in wanted if got.get(path) != wanted[path]))
        if best is None or len(differing) < best[0]:
            best = (len(differing), switches, differing)
        if not differing:
            break
    assert best is not None
    options.update(best[1])
    return best[2]


def _switches(file: Any) -> Iterator[dict[str, Any]]:
    versions = ["2.6", "2.4"] if file.metadata.format_version != "1.0" else ["1.0", "2.6", "2.4"]
    for compliant, adjusted, version in itertools.product((True, False), (False, True), versions):
        yield {
            "version": version,
            "use_compliant_nested_type": compliant,
            "write_time_adjusted_to_utc": adjusted,
        }


def _empty(schema: pa.Schema, options: dict[str, Any]) -> Any:
    sink = io.BytesIO()
    pq.ParquetWriter(sink, schema, **options).close()
    return pq.ParquetFile(sink)


@dataclass(frozen=True, slots=True)
class _LeafType:
    """What a reader sees of a leaf's type, without marks of how the writer came to it."""

    storage: tuple[Any, ...]
    meaning: tuple[Any, ...]


def _leaf_types(schema: Any) -> dict[str, _LeafType]:
    columns = [schema.column(i) for i in range(len(schema))]
    return {column.path: _leaf_type(column) for column in columns}


def _leaf_type(column: Any) -> _LeafType:
    logical = json.loads(column.logical_type.to_json())
    logical = {k: v for k, v in logical.items() if "converted" not in k}
    levels = (column.max_definition_level, column.max_repetition_level)
    return _LeafType(
        (column.physical_type, column.length, *levels),
        (column.precision, column.scale, column.converted_type, logical),
    )


def _names(leaf: str) -> tuple[str, str]:
    """Top-level columns a leaf path may belong to: a flat name may hold dots itself."""
    return leaf, leaf.split(".", maxsplit=1)[0]


def _special_encoding(chunk: LeafChunk) -> str | None:
    """Return the encoding to name explicitly, if any: neither plain nor a helper of pages."""
    if not _DICTIONARY.isdisjoint(chunk.encodings):
        return None
    named = (e for e in chunk.encodings if e.startswith("DELTA_") or e == "BYTE_STREAM_SPLIT")
    return next(named, None)
