"""Means, spreads and correlations of a table that comes block by block.

Sums of shifted values and of their products, over the rows where both are present: enough
for Pearson correlations in which a missing cell counts as the column's mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataguard.values import CanonicalTable

__all__ = ["NUMERIC", "Moments", "correlation_change"]

F64 = NDArray[np.float64]

NUMERIC = ("number", "time")
"""Kinds of column that have a mean."""


class Moments:
    """Second moments of all columns; those that are text in any block drop out in the end."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._numeric: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._seen: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._shift: F64 = np.empty((0, 1))
        self._both: F64 = np.empty((0, 0))
        self._sum: F64 = np.empty((0, 0))
        self._product: F64 = np.empty((0, 0))

    def add(self, table: CanonicalTable) -> None:
        """Add one block of rows."""
        kinds = [c.kind for c in table.columns]
        matrix = np.stack([c.number for c in table.columns])
        if not self.names:
            size = len(kinds)
            self.names = table.names
            self._numeric, self._seen = np.ones(size, np.bool_), np.zeros(size, np.bool_)
            self._both, self._sum, self._product = (np.zeros((size, size)) for _ in range(3))
            # Shifted by a value of their own size, sums of squares keep their digits.
            known = np.isfinite(matrix)
            count = np.maximum(known.sum(1, keepdims=True), 1)
            self._shift = np.where(known, matrix, 0.0).sum(1, keepdims=True) / count
        self._numeric &= np.array([k in (*NUMERIC, "empty") for k in kinds])
        self._seen |= np.array([k in NUMERIC for k in kinds])
        present = np.isfinite(matrix)
        shifted = np.where(present, matrix - self._shift, 0.0)
        there = present.astype(np.float64)
        self._both += there @ there.T
        self._sum += shifted @ there.T  # [i, j]: sum of column i where j is present too
        self._product += shifted @ shifted.T

    @property
    def numeric(self) -> list[int]:
        """Columns of numbers or times only."""
        return np.flatnonzero(self._numeric & self._seen).tolist()

    def spread(self) -> dict[str, float]:
        """Return the standard deviation of each numeric column."""
        count = np.maximum(np.diag(self._both), 1.0)
        mean = np.diag(self._sum) / count
        variance = np.maximum(np.diag(self._product) / count - mean**2, 0.0)
        return {self.names[i]: float(np.sqrt(variance[i])) for i in self.numeric}

    def correlations(self, columns: list[int]) -> F64:
        """Return the Pearson correlations of some columns; missing cells count as the mean."""
        at = np.ix_(columns, columns)
        both, total, product = self._both[at], self._sum[at], self._product[at]
        mean = np.diag(total) / np.maximum(np.diag(both), 1.0)
        cross = product - mean * total - mean[:, None] * total.T + both * np.outer(mean, mean)
        norm = np.sqrt(np.maximum(np.diag(cross), 0.0))
        norm[norm == 0] = 1.0
        result: F64 = cross / np.outer(norm, norm)
        return result


def correlation_change(before: Moments, after: Moments, marked: set[str]) -> tuple[float, tuple[str, str]]:
    """Return the largest change of a Pearson correlation between numeric columns, and whose it is.

    Parameters
    ----------
    before, after : Moments
        Of the same columns.
    marked : set of str
        Columns that were changed; 0 when none of them is numeric.
    """
    columns = before.numeric
    names = [before.names[i] for i in columns]
    if len(columns) < 2 or not marked & set(names):
        return 0.0, ("", "")
    change = np.abs(before.correlations(columns) - after.correlations(columns))
    row, column = np.unravel_index(int(change.argmax()), change.shape)
    return float(change.max()), (names[int(row)], names[int(column)])
