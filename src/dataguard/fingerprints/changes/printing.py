"""What cells look like in print: formats, hashes and cuts are done to texts, not to values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.values import Canonical

__all__ = ["LONGEST_TEXT", "is_typed", "printed", "texts_at"]

I64 = NDArray[np.int64]

LONGEST_TEXT = 4096
"""Characters of a cell that are looked at."""


def _flat(source: pa.ChunkedArray) -> pa.Array:
    flat = pa.concat_arrays(source.chunks) if source.num_chunks else pa.array([], source.type)
    if pa.types.is_dictionary(flat.type):
        flat = flat.cast(flat.type.value_type)
    return flat


def is_typed(source: pa.ChunkedArray) -> bool:
    """Whether a column holds numbers, times or truth values by type: how it is printed is not its own."""
    kind = source.type.value_type if pa.types.is_dictionary(source.type) else source.type
    return not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def printed(column: Canonical) -> pa.Array:
    """Return the texts of a column's cells as read, null where missing by type.

    Whole numbers are printed without a point whatever their type, moments as ``YYYY-MM-DD HH:MM:SS``.

    Returns
    -------
    (n,) pyarrow.Array of large_string
    """
    flat = _flat(column.source)
    kind = flat.type
    if pa.types.is_floating(kind):
        texts = flat.cast(pa.float64()).cast(pa.large_string())
        return pc.replace_substring_regex(texts, r"\.0$", "")
    if pa.types.is_timestamp(kind):
        texts = flat.cast(pa.timestamp("us"), safe=False).cast(pa.large_string())
        return pc.replace_substring_regex(texts, r"\.0*$", "")
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.array([None if v is None else str(v) for v in flat.to_pylist()], pa.large_string())
    if pa.types.is_string_view(kind):
        flat = flat.cast(pa.string())
    try:
        return flat.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return pa.array([None if v is None else str(v) for v in flat.to_pylist()], pa.large_string())


def texts_at(texts: pa.Array, rows: I64) -> list[str]:
    """Return some texts, cut to `LONGEST_TEXT`; the empty text where missing."""
    return [(t or "")[:LONGEST_TEXT] for t in texts.take(pa.array(rows)).to_pylist()]
