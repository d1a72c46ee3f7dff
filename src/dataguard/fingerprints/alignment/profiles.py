"""Columns as dense value ids with their frequencies.

Row alignment asks three things of a cell, millions of times: is it equal, is it near,
how rare is it. With ids given to the original's distinct values, all three are array
look-ups, and 4 bytes a cell are streamed instead of 16.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.cells import BIG, NULL, NUMBER, TIME
from dataguard.values import Canonical

__all__ = ["NEAR_SD", "ColumnProfile", "near_shares", "profile_column"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

NEAR_SD = 0.2
"""Two numbers are near within this share of the original column's standard deviation:
pair swaps stay within it (0.1 to 0.2 sd), and unrelated values seldom do."""


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """The distinct values of one column, numbered.

    Attributes
    ----------
    ids : (n,) uint32
        Id of each cell's value.
    values : (d,) uint64
        Cell key of each id; 0 is the missing cell.
    counts : (d,) int64
        Rows that hold it.
    numbers : (d,) float64
        The value as a number (times in seconds); nan for texts and missing cells.
    slots : (power of two,) uint32
        Open-addressing table over `values`: id + 1, 0 where empty.
    tau : float
        Largest distance of near values; -1 where only equality counts (texts, and numbers
        so coarse that no two distinct values are that close).
    """

    ids: U32
    values: U64
    counts: I64
    numbers: F64
    slots: U32
    tau: float

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @property
    def share(self) -> F64:
        """(d,) float64: frequency of each value."""
        return self.counts / max(1, self.rows)

    @property
    def entropy(self) -> float:
        """Shannon entropy of the column in bits."""
        p = self.share
        return float(-(p * np.log2(p)).sum()) if len(p) else 0.0

    def find(self, keys: U64) -> U32:
        """Return the ids of some cell keys, `UNSEEN` where the column has no such value."""
        from dataguard.fingerprints.alignment._kernels import find_values

        ids = np.empty(len(keys), np.uint32)
        find_values(np.ascontiguousarray(keys), self.slots, self.values, ids)
        return ids


def profile_column(column: Canonical) -> ColumnProfile:
    """Return the profile of one column."""
    keys = np.ascontiguousarray(column.key)
    slots, ids, values, counts, first = _number(keys)
    tag, word = column.tag[first], column.word[first]
    numbers = Canonical(tag, word, values, column.texts, column.source).number
    numeric = bool(np.isin(tag[tag != NULL], (NUMBER, BIG, TIME)).all()) and bool((tag != NULL).any())
    return ColumnProfile(ids, values, counts, numbers, slots, _tau(numbers, counts) if numeric else -1.0)


def _number(keys: U64) -> tuple[U32, U32, U64, I64, I64]:
    from dataguard.fingerprints.alignment._kernels import number_values

    ids = np.empty(len(keys), np.uint32)
    size = 4096
    while True:
        slots = np.zeros(size, np.uint32)
        values, counts, first = (
            np.empty(size // 2, np.uint64),
            np.empty(size // 2, np.int64),
            np.empty(size // 2, np.int64),
        )
        found = number_values(keys, slots, ids, values, counts, first)
        if found >= 0:
            return slots, ids, values[:found].copy(), counts[:found].copy(), first[:found].copy()
        size *= 8  # most columns fit the first table; the others pay one or two restarts


def _tau(numbers: F64, counts: I64) -> float:
    present = np.isfinite(numbers)
    x, weight = numbers[present], counts[present].astype(np.float64)
    if len(x) < 2:
        return -1.0
    mean = np.average(x, weights=weight)
    tau = NEAR_SD * float(np.sqrt(np.average((x - mean) ** 2, weights=weight))) * (1 + 1e-9)
    return tau if float(np.diff(np.sort(x)).min()) <= tau else -1.0


def near_shares(profile: ColumnProfile, numbers: F64) -> F64:
    """Return the shares of rows whose value is close or near, but not equal, to some numbers.

    Parameters
    ----------
    profile : ColumnProfile
    numbers : (m,) float64

    Returns
    -------
    (2, m) float64
        Within half of tau; beyond that and within tau. 0 where undefined.
    """
    if profile.tau < 0:
        return np.zeros((2, len(numbers)))
    order = np.argsort(profile.numbers)  # nan last
    x = profile.numbers[order]
    total = np.concatenate([[0], np.cumsum(profile.counts[order])])
    known = np.isfinite(numbers)
    y = np.where(known, numbers, 0.0)
    within = [
        total[np.searchsorted(x, y + reach, "right")] - total[np.searchsorted(x, y - reach, "left")]
        for reach in (0.0, profile.tau / 2, profile.tau)
    ]
    return np.where(known, np.diff(within, axis=0) / max(1, profile.rows), 0.0)
