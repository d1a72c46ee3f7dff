"""What must be known of a large table before a block of it can be planned."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Large
from dataguard.constraints.combine import combine
from dataguard.constraints.facts import Facts
from dataguard.constraints.mine import mine
from dataguard.formats.blocks import spread
from dataguard.values import CanonicalTable, mix64

__all__ = ["study_table"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_WINDOWS = 4
"""Blocks of neighbouring rows that are mined as they stand."""

_BY_VALUE = 4
"""Columns of which all rows of some values are mined, at most."""

_SPARSE = 4.0
"""Rows per distinct value in the spread sample below which a column cannot show there what it determines."""


def study_table(
    original: Large[CanonicalTable],
    *,
    protect: frozenset[str] = frozenset(),
    tolerance: Mapping[str, float] = MappingProxyType({}),
) -> Facts:
    """Return the facts of a table too large to be mined whole; two to six passes.

    Mined are rows spread over the whole, some blocks of neighbouring rows, and, for columns that
    hardly repeat in the spread rows, all rows of some of their values.

    Parameters
    ----------
    original : Large of CanonicalTable
    protect, tolerance
        As in :func:`dataguard.constraints.mine.mine`.
    """
    sample = original.take(spread(original.units, original.room))
    parts = [mine(sample, protect=protect, tolerance=tolerance)]
    sparse = _sparse_columns(sample)
    rows_each = original.room // max(1, len(sparse))
    del sample
    chosen: dict[str, list[I64]] = {name: [] for name in sparse}
    limit = np.uint64(min(2**64 - 1, int(2.0**64 * min(1.0, 0.8 * rows_each / max(1, original.units)))))
    windows = _windows(original)
    extremes: dict[str, tuple[float, float]] = {}
    first = 0
    for number, block in enumerate(original.blocks()):
        if number in windows:
            parts.append(mine(block, protect=protect, tolerance=tolerance))
        for name in sparse:
            key = block.column(name).key
            chosen[name].append(first + np.flatnonzero((mix64(key) < limit) & (key != 0)))
        _widen(extremes, block)
        first += block.rows
        del block
    for name in sparse:
        rows = np.concatenate(chosen[name])[: original.room]
        if len(rows) > 1:
            parts.append(mine(original.take(rows), protect=protect, tolerance=tolerance))
    return combine(parts, extremes)


def _sparse_columns(sample: CanonicalTable) -> list[str]:
    """Return the columns that hardly repeat here, those with the fewest repeats last."""
    distinct = {
        name: len(np.unique(column.key))
        for name, column in zip(sample.names, sample.columns, strict=True)
        if column.kind != "empty"
    }
    sparse = [name for name, count in distinct.items() if sample.rows < _SPARSE * count]
    # Columns that repeat somewhat are likelier to stand for something than measures that never do.
    return sorted(sparse, key=lambda name: (distinct[name], name))[:_BY_VALUE]


def _windows(original: Large[CanonicalTable]) -> set[int]:
    blocks = -(-original.units // max(1, original.room))
    return set(spread(blocks, _WINDOWS).tolist()) | {blocks - 1}


def _widen(extremes: dict[str, tuple[float, float]], block: CanonicalTable) -> None:
    """Note the least and greatest number of each column."""
    for name, column in zip(block.names, block.columns, strict=True):
        if column.kind in ("number", "time"):
            known = column.number
            known = known[np.isfinite(known)]
            low, high = extremes.get(name, (np.inf, -np.inf))
            extremes[name] = min(low, float(known.min())), max(high, float(known.max()))
