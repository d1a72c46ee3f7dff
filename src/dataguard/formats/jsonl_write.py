"""Any Arrow data as JSON Lines: the plain conversion, column by column instead of cell by cell.

Each column becomes an array of JSON texts by Arrow's own kernels, nested ones from the inside
out, and the texts are joined to lines; no Python object is made per cell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataguard.errors import UsageError

__all__ = ["write_json_lines"]

_CELLS = 1 << 18
"""Cells converted at a time."""
_TEXT = pa.large_string()
_UNSAFE = r'[\x00-\x1f"\\]'
"""Characters that RFC 8259 section 7 wants escaped."""
_VIEWS = {pa.string_view(): _TEXT, pa.binary_view(): pa.large_binary()}
_REMEDY = "choose another format, such as .parquet"


def write_json_lines(batches: Iterator[pa.RecordBatch], out: IO[bytes]) -> None:
    """Write record batches as one JSON object per row.

    UTF-8 is not escaped. Decimals are numbers with all their digits, floats the shortest text
    that reads back the same (``1.0`` keeps its point), dates and times ISO 8601 with a ``T``,
    times with a zone as the instant in UTC with a ``Z``, durations a number in their unit, null
    is null, lists are arrays, structs are objects, maps are arrays of {"key", "value"} objects,
    dictionary columns their values. Memory: one batch and about 262,144 cells of text.

    Parameters
    ----------
    batches : iterator of pa.RecordBatch
        All of one schema; none gives an empty file.
    out : IO[bytes]
        Receives the text.

    Raises
    ------
    UsageError
        Naming the column: binary content, a type without a JSON form (unions, calendar
        intervals), NaN or infinity, a time beyond the years that can be printed, the same name twice.
    """
    for batch in batches:
        names = batch.schema.names
        for name in names:
            if names.count(name) > 1:
                raise UsageError("is there twice", where=f"column {name!r}", remedy="rename one of the two")
        step = max(1, _CELLS // max(1, len(names)))
        for first in range(0, batch.num_rows, step):
            piece = batch.slice(first, step)
            texts = [_json_texts(column, name) for name, column in zip(names, piece.columns, strict=True)]
            lines = _objects(names, texts, piece.num_rows, "\n")
            out.write(_bytes(lines))


def _bytes(lines: Any) -> memoryview:
    """Text of a large_string array without nulls, cell behind cell."""
    _, offsets, data = lines.buffers()
    ends = np.frombuffer(offsets, np.int64)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(data if data is not None else b"")[int(ends[0]) : int(ends[-1])]


def _objects(names: list[str], texts: list[pa.Array], rows: int, end: str) -> pa.Array:
    """Join the members of objects, shape (rows,), large_string; `end` stands behind each object."""
    if not names:
        return pa.array(["{}" + end] * rows, _TEXT)
    parts: list[Any] = []
    for name, column in zip(names, texts, strict=True):
        opening = ("," if parts else "{") + json.dumps(name, ensure_ascii=False) + ":"
        parts += [pa.scalar(opening, _TEXT), column]
    return pc.binary_join_element_wise(*parts, pa.scalar("}" + end, _TEXT), pa.scalar("", _TEXT))


def _json_texts(column: Any, name: str) -> Any:
    """JSON text of every value, shape (rows,), large_string without nulls; `name` is for errors."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _json_texts(column.storage, name)
    if pa.types.is_dictionary(kind):
        return _json_texts(column.dictionary.take(column.indices), name)
    if pa.types.is_run_end_encoded(kind):
        return _json_texts(pc.run_end_decode(column), name)
    if kind in _VIEWS:
        return _json_texts(column.cast(_VIEWS[kind]), name)
    if pa.types.is_struct(kind):
        texts = _struct_texts(column, name)
    elif pa.types.is_nested(kind) and not pa.types.is_union(kind):
        texts = _list_texts(column, name)
    else:
        texts = _scalar_texts(column, name)
    return pc.if_else(column.is_null(), pa.scalar("null", _TEXT), texts) if column.null_count else texts


def _struct_texts(column: Any, name: str) -> Any:
    names = [column.type.field(i).name for i in range(column.type.num_fields)]
    if len(set(names)) < len(names):
        raise UsageError("holds a struct with the same name twice", where=f"column {name!r}", remedy=_REMEDY)
    texts = [
        _json_texts(field, name) for field in column.flatten()
    ]  # nulls of the struct applied to its fields
    return _objects(names, texts, len(column), "")


def _list_texts(column: Any, name: str) -> Any:
    """Arrays from the texts of their elements; lists of all kinds, and maps as lists of structs."""
    if pa.types.is_map(column.type):
        entry = pa.struct([("key", column.type.key_type), ("value", column.type.item_type)])
        entries = pa.StructArray.from_arrays([column.keys, column.items], fields=list(entry))
        ends = column.offsets.to_numpy()
        lengths = np.diff(ends)  # null maps may have entries, too: they are kept in step, and overwritten
        inside = _json_texts(entries, name).slice(int(ends[0]), int(ends[-1] - ends[0]))
    else:
        lengths = pc.fill_null(pc.list_value_length(column).cast(pa.int64()), 0).to_numpy()
        inside = _json_texts(pc.list_flatten(column), name)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    lists = pa.LargeListArray.from_arrays(offsets, inside)
    joined = pc.binary_join(lists, pa.scalar(",", _TEXT))
    return pc.binary_join_element_wise(
        pa.scalar("[", _TEXT), joined, pa.scalar("]", _TEXT), pa.scalar("", _TEXT)
    )


def _scalar_texts(column: Any, name: str) -> Any:
    """Texts of values that are no containers; those of nulls are arbitrary."""
    kind, where = column.type, f"column {name!r}"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _string_texts(column.cast(_TEXT))
    if pa.types.is_floating(kind):
        wide = column.cast(pa.float32()) if pa.types.is_float16(kind) else column
        if not pc.all(pc.is_finite(wide).fill_null(True)).as_py():
            raise UsageError("holds NaN or infinity, which JSON has not", where=where, remedy=_REMEDY)
        whole = pc.replace_substring_regex(wide.cast(_TEXT), r"^(-?\d+)$", r"\1.0")
        return whole.fill_null("")
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind) and kind != pa.month_day_nano_interval():
        return _time_texts(column, where)
    numeric = pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_duration(kind)
    if numeric or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column.cast(_TEXT).fill_null("")
    what = "bytes" if "binary" in str(kind) else f"the type {kind}"
    raise UsageError(f"cannot be written as JSON: {what}", where=where, remedy=_REMEDY)


def _time_texts(column: Any, where: str) -> Any:
    """ISO 8601 in quotes."""
    zone = "Z" if pa.types.is_timestamp(column.type) and column.type.tz else ""
    if zone:
        column = column.cast(pa.timestamp(column.type.unit))  # the instant in UTC
    text = column.cast(_TEXT).fill_null("")
    if pc.any(pc.starts_with(text, "<")).as_py():
        raise UsageError("holds a time that cannot be printed", where=where, remedy=_REMEDY)
    text = pc.replace_substring(text, " ", "T", max_replacements=1)
    quote = pa.scalar('"', _TEXT)
    return pc.binary_join_element_wise(quote, text, pa.scalar(zone + '"', _TEXT), pa.scalar("", _TEXT))


def _string_texts(column: Any) -> Any:
    """Strings in quotes; only distinct ones with something to escape pass through the json module."""
    text = column.fill_null("")
    quote = pa.scalar('"', _TEXT)
    quoted = pc.binary_join_element_wise(quote, text, quote, pa.scalar("", _TEXT))
    unsafe = pc.match_substring_regex(text, _UNSAFE)
    if not pc.any(unsafe).as_py():
        return quoted
    found = text.filter(unsafe).dictionary_encode()
    escaped = pa.array([json.dumps(one, ensure_ascii=False) for one in found.dictionary.to_pylist()], _TEXT)
    return pc.replace_with_mask(quoted, unsafe, escaped.take(found.indices))
