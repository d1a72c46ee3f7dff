"""What a category goes together with: guards against rows that no honest table holds.

Categories have no near values. Exchanged at random, "cash" may land on a row with a card's
tip. So a category may move only where it goes together with nothing that stays behind.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataguard.constraints.columns import Codes, Column
from dataguard.constraints.roles import MOST_LEVELS

__all__ = ["binned", "cramers_v", "is_tied"]

F64 = NDArray[np.float64]

_BINS = 8
_OFTEN = 0.02
_TIED = 0.15
"""Cramer's V from which two columns count as going together. Independent columns of 1,000 rows stay
below 0.1; in the taxi trips payment and tip have 0.9, in the diamonds cut and table 0.3."""
_LEAST_ROWS = 30
_NEARLY_ALL = 0.99
_NOT_ALL = 0.9


def binned(column: Column) -> Codes | None:
    """Return a column in few classes: its levels, or octiles, with frequent values and the missing apart.

    None for texts of many levels, which have no order to put into classes.
    """
    missing = column.coded.codes < 0
    if column.coded.levels <= MOST_LEVELS:
        codes = column.coded.codes.copy()
        levels = column.coded.levels
    elif np.isfinite(column.value).any():
        codes, levels = _octiles(column)
    else:
        return None
    codes[missing] = levels
    return Codes(codes, levels + 1, np.bincount(codes, minlength=levels + 1).astype(np.int64))


def _octiles(column: Column) -> tuple[NDArray[np.int64], int]:
    value = column.value
    present = value[np.isfinite(value)]
    edges = np.unique(np.quantile(present, np.arange(1, _BINS) / _BINS))
    codes = np.searchsorted(edges, np.where(np.isfinite(value), value, edges[0]), side="right").astype(
        np.int64
    )
    levels = len(edges) + 1
    distinct, counts = np.unique(present, return_counts=True)
    for atom in distinct[counts > _OFTEN * len(value)]:
        codes[value == atom] = levels
        levels += 1
    return codes, levels


def _table(x: Codes, y: Codes) -> F64:
    both = (x.codes >= 0) & (y.codes >= 0)
    pair = np.bincount(x.codes[both] * y.levels + y.codes[both], minlength=x.levels * y.levels)
    table = pair.reshape(x.levels, y.levels).astype(np.float64)
    kept: F64 = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    return kept


def cramers_v(x: Codes, y: Codes) -> float:
    """Return Cramer's V of two code columns, corrected for its bias (Bergsma 2013)."""
    table = _table(x, y)
    n = table.sum()
    r, k = table.shape
    if n < 2 or min(r, k) < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi = float(((table - expected) ** 2 / expected).sum() / n) - (r - 1) * (k - 1) / (n - 1)
    least = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(max(phi, 0.0) / least)) if least > 0 else 0.0


def is_tied(category: Codes, other: Codes) -> bool:
    """Return whether a category goes together with another column, in general or in one level.

    In one level: nearly all rows of it fall into one class of the other column that by far
    not all rows fall into (paid in cash: tip 0).
    """
    table = _table(category, other)
    if min(table.shape) < 2:
        return False
    rows = table.sum(axis=1)
    overall = table.sum(axis=0) / table.sum()
    share = table / rows[:, None]
    fixed = (share >= _NEARLY_ALL) & (overall[None, :] <= _NOT_ALL) & (rows[:, None] >= _LEAST_ROWS)
    return bool(fixed.any()) or cramers_v(category, other) >= _TIED
