"""Cells as printed in the source, cut to what a page can show.

A table read from a suspect may hold times no calendar has, texts of a megabyte and types that have no
text; each is shown as well as it can be, and nothing here fails.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.values import Canonical

__all__ = ["few", "printed"]

I64 = NDArray[np.int64]


def few(column: Canonical, rows: I64) -> Canonical:
    """Return some rows of a column, as `Canonical.take` does.

    Arrow joins all chunks of a column before it takes from it (40 ms for a million short texts, measured);
    here each chunk is asked for its own rows.

    Parameters
    ----------
    column : Canonical
    rows : (k,) int64
        In any order.
    """
    chunks = column.source.chunks
    ends = np.cumsum([len(c) for c in chunks])
    which = np.searchsorted(ends, rows, "right")
    order = np.argsort(which, kind="stable")
    parts = []
    for k in np.unique(which):
        mine = rows[order][which[order] == k]
        parts.append(chunks[k].take(pa.array(mine - (ends[k] - len(chunks[k])))))
    back = np.empty(len(rows), np.int64)
    back[order] = np.arange(len(rows))
    source = pa.chunked_array(parts, column.source.type).combine_chunks().take(pa.array(back))
    whole = source if isinstance(source, pa.ChunkedArray) else pa.chunked_array([source])
    return Canonical(column.tag[rows], column.word[rows], column.key[rows], column.texts, whole)


def printed(column: Canonical, longest: int) -> list[str]:
    """Return the cells of a column as texts of at most `longest` characters; empty where missing.

    Parameters
    ----------
    column : Canonical
        A few rows of a column (see ``Canonical.take``).
    longest : int
        A longer cell ends in an ellipsis.
    """
    try:
        texts = _texts(column.source)
    except (pa.ArrowException, UnicodeDecodeError, ValueError, OverflowError):
        texts = [cell.text for cell in column.cells(range(len(column)))]
    return [t if len(t) <= longest else t[: longest - 1] + "…" for t in texts]


def _texts(source: pa.ChunkedArray) -> list[str]:
    flat = pa.concat_arrays(source.chunks) if source.num_chunks else pa.array([], source.type)
    if pa.types.is_dictionary(flat.type):
        flat = flat.cast(flat.type.value_type)
    kind = flat.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return ["" if v is None else v[:100].hex() for v in flat.to_pylist()]
    if pa.types.is_nested(kind):
        return ["" if v is None else str(v) for v in flat.to_pylist()]
    texts = flat.cast(pa.large_string())
    # Only the beginning is made a Python text: a cell may be as long as the file.
    cut = pc.utf8_slice_codeunits(texts, 0, 400)
    held = ["" if t is None else t for t in cut.to_pylist()]
    return [_trimmed(t) for t in held] if pa.types.is_temporal(kind) else held


def _trimmed(text: str) -> str:
    """Leave out a fraction of a second that is zero, as Arrow prints it with the digits of its unit."""
    head, point, fraction = text.partition(".")
    zone = "Z" if fraction.endswith("Z") else ""
    digits = fraction.removesuffix("Z")
    if not point or not digits.isdigit():
        return text
    kept = digits.rstrip("0")
    return f"{head}.{kept}{zone}" if kept else head + zone
