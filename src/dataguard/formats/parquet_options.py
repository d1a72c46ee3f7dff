"""Options that make pyarrow write a Parquet file like a given one.

Library defaults would turn integer decimals into byte arrays, INT96 into INT64, and every
codec, encoding and page version into their own.
"""

from __future__ import annotations

import io
import itertools
import json
from typing import Any

import pyarrow.parquet as pq

from dataguard.formats.parquet_footer import Footer, LeafChunk

__all__ = ["writer_options"]

_DICTIONARY = {"RLE_DICTIONARY", "PLAIN_DICTIONARY"}


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
        # pyarrow writes LZ4_RAW under the name LZ4, the older LZ4 not at all.
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
    lost = _fit_schema(file, options)
    if any(c.codec == "LZ4" for c in chunks):
        lost = (*lost, "codec LZ4 (becomes LZ4_RAW)")
    if any(c.bloom_filter for c in chunks):
        lost = (*lost, "bloom filters")
    return options, lost


def _fit_schema(file: Any, options: dict[str, Any]) -> tuple[str, ...]:
    """Try the writer's global switches on an empty file; set the best, return the columns that differ."""
    wanted = _leaf_types(file.schema)
    versions = ["2.6", "2.4"] if file.metadata.format_version != "1.0" else ["1.0", "2.6", "2.4"]
    best: tuple[int, dict[str, Any], tuple[str, ...]] | None = None
    for compliant, adjusted, version in itertools.product((True, False), (False, True), versions):
        tried = {
            "version": version,
            "use_compliant_nested_type": compliant,
            "write_time_adjusted_to_utc": adjusted,
        }
        sink = io.BytesIO()
        pq.ParquetWriter(sink, file.schema_arrow, **{**options, **tried}).close()
        with pq.ParquetFile(sink) as written:
            got = _leaf_types(written.schema)
        differing = tuple(sorted(path for path in wanted if got.get(path) != wanted[path]))
        if best is None or len(differing) < best[0]:
            best = (len(differing), tried, differing)
        if not differing:
            break
    assert best is not None
    options.update(best[1])
    return tuple(f"physical type of {path}" for path in best[2])


def _leaf_types(schema: Any) -> dict[str, tuple[Any, ...]]:
    """Path -> what a reader sees of the type, without marks of how the writer came to it."""
    types = {}
    for i in range(len(schema)):
        c = schema.column(i)
        logical = json.loads(c.logical_type.to_json())
        logical = {k: v for k, v in logical.items() if "converted" not in k}
        levels = (c.max_definition_level, c.max_repetition_level)
        types[c.path] = (c.physical_type, c.length, c.precision, c.scale, c.converted_type, levels, logical)
    return types


def _names(leaf: str) -> tuple[str, str]:
    """Top-level columns a leaf path may belong to: a flat name may hold dots itself."""
    return leaf, leaf.split(".", maxsplit=1)[0]


def _special_encoding(chunk: LeafChunk) -> str | None:
    """Return the encoding to name explicitly, if any: neither plain nor a helper of pages."""
    if not _DICTIONARY.isdisjoint(chunk.encodings):
        return None
    named = (e for e in chunk.encodings if e.startswith("DELTA_") or e == "BYTE_STREAM_SPLIT")
    return next(named, None)
