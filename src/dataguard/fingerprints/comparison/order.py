"""By what a suspect's rows are sorted, where that is not the order of the original.

An order is named only if rows in random order would hardly stand so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.cells import NULL
from dataguard.values import Canonical, CanonicalTable

__all__ = ["name_order"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_LEVELS = 3
_ENOUGH = 9.0
"""log10 of how many orders of the rows there must be for each that is sorted so."""


def name_order(
    suspect: CanonicalTable, columns: Sequence[int], original_row: I64 | None = None
) -> tuple[tuple[int, bool], ...]:
    """Return the columns that the suspect's rows are sorted by, the first key first.

    Parameters
    ----------
    suspect : CanonicalTable
    columns : sequence of int
        Column positions that may be keys.
    original_row : (rows,) int64, optional
        The original's row of each suspect row, -1 where unknown. An order that the original had is not named,
        and neither is a further key where rows stand in the original's order.

    Returns
    -------
    tuple of (int, bool)
        Column position, and whether ascending; at most three keys, none where no order is beyond chance.

    Notes
    -----
    Of n rows whose key takes values c times each, n! / prod c! arrangements of values are equally likely
    in random order, and one is sorted. Of columns sorted throughout, the one with the most distinct values is the
    key. Missing cells may stand first or last.
    """
    n = suspect.rows
    if n < 2 or _kept(original_row, np.zeros(n, np.int64)):
        return ()
    runs = np.zeros(n, np.int64)
    keys: list[tuple[int, bool]] = []
    tries = math.log10(4 * max(1, len(columns)) * _LEVELS)
    for _ in range(_LEVELS):
        best: tuple[float, int, bool] | None = None
        after = runs
        for c in columns:
            if any(c == key for key, _ in keys):
                continue
            codes = _codes(suspect.columns[c])
            for ascending in (True, False):
                said, ties = _sorted_within(codes if ascending else -codes, runs)
                if said >= _ENOUGH + tries and (best is None or said > best[0]):
                    best, after = (said, c, ascending), ties
        if best is None:
            break
        keys.append(best[1:])
        runs = after
        if _kept(original_row, runs) or runs[-1] == n - 1:
            break
    return tuple(keys)


def _kept(original_row: I64 | None, runs: I64) -> bool:
    """Return whether rows of one run stand in the original's order, in every run."""
    if original_row is None:
        return False
    known = np.flatnonzero(original_row >= 0)
    within = np.diff(runs[known]) == 0
    return bool((np.diff(original_row[known])[within] >= 0).all())


def _codes(column: Canonical) -> F64:
    """Return cells as numbers in the order of their values; nan where missing; empty where kinds are mixed."""
    kind = column.kind
    if kind in ("number", "time"):
        return column.number
    if kind != "text" or (np.unique(column.tag[column.tag != NULL]).size > 1):
        return np.empty(0)
    # By bytes, as databases do without a locale.
    order = pc.sort_indices(column.texts.cast(pa.binary())).to_numpy()
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order))
    out = np.full(len(column), np.nan)
    present = column.tag != NULL
    out[present] = rank[column.word[present].astype(np.int64)]
    return out


def _sorted_within(codes: F64, runs: I64) -> tuple[float, I64]:
    """Return log10 of the arrangements per sorted one, and the runs of ties; 0 where some run is not sorted."""
    if not len(codes):
        return 0.0, runs
    same = np.diff(runs) == 0
    for missing in (np.inf, -np.inf):
        x = np.where(np.isnan(codes), missing, codes)
        if (x[1:] >= x[:-1])[same].all():
            new = np.concatenate([[True], ~same | (x[1:] != x[:-1])])
            ties = np.cumsum(new) - 1
            return _log10_arrangements(runs) - _log10_arrangements(ties), ties
    return 0.0, runs


def _log10_arrangements(runs: I64) -> float:
    from scipy.special import gammaln

    return float(gammaln(np.bincount(runs) + 1.0).sum()) / math.log(10)
