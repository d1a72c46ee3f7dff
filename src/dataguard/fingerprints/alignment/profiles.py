"""Columns as dense value ids with their frequencies.

Row alignment asks three things of a cell, millions of times: is it equal, is it near,
how rare is it. With ids given to the original's distinct values, all three are array
look-ups, and 4 bytes a cell are streamed instead of 16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dataguard.cells import BIG, NULL, NUMBER, TIME
from dataguard.maps import Recoding, ValueMap
from dataguard.values import Canonical, mix64

__all__ = ["NEAR_SD", "ColumnProfile", "near_shares", "profile_column", "seen_through"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

NEAR_SD = 0.2
"""Two numbers are near within this share of the original column's standard deviation:
pair swaps stay within it (0.1 to 0.2 sd), and unrelated values seldom do."""

_NOISE_SD = 4.0
"""Where noise was added, two numbers are near within this many of its standard deviations (1 in 16,000 is not)."""

_SLACK = 1e-9
"""Relative difference of numbers that are equal but for the arithmetic of a conversion."""


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
    mapped : bool
        Whether `numbers` are values as seen through a map: then equal means equal but for arithmetic.
    """

    ids: U32
    values: U64
    counts: I64
    numbers: F64
    slots: U32
    tau: float
    mapped: bool = False

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
        p = self.share[self.counts > 0]
        return float(-(p * np.log2(p)).sum()) if len(p) else 0.0

    def find(self, keys: U64) -> U32:
        """Return the ids of some cell keys, `UNSEEN` where the column has no such value."""
        from dataguard.fingerprints.alignment._kernels import find_values

        ids = np.empty(len(keys), np.uint32)
        find_values(np.ascontiguousarray(keys), self.slots, self.values, ids)
        return ids

    def find_cells(self, column: Canonical) -> U32:
        """Return the ids of some cells, `UNSEEN` where the column has no such value."""
        from dataguard.fingerprints.alignment._kernels import UNSEEN

        ids = self.find(column.key)
        if not self.mapped:
            return ids
        open_ = np.flatnonzero(ids == UNSEEN)
        y = column.number[open_]
        order = np.argsort(self.numbers)
        order = order[: int(np.isfinite(self.numbers).sum())]
        if not len(order):
            return ids
        x = self.numbers[order]
        right = np.minimum(np.searchsorted(x, y), len(x) - 1)  # nan is put at the end
        left = np.maximum(right - 1, 0)
        at = np.where(np.abs(x[left] - y) <= np.abs(x[right] - y), left, right)
        # A difference of nan is not small: missing cells stay unseen.
        # Nor is one from infinity.
        near = np.isfinite(y) & (np.abs(x[at] - y) <= _SLACK * np.maximum(np.abs(y), np.abs(x[at])))
        ids[open_[near]] = order[at[near]].astype(np.uint32)
        return ids


def profile_column(column: Canonical) -> ColumnProfile:
    """Return the profile of one column."""
    keys = np.ascontiguousarray(column.key)
    slots, ids, values, counts, first = _number(keys)
    tag, word = column.tag[first], column.word[first]
    numbers = Canonical(tag, word, values, column.texts, column.source).number
    numeric = bool(np.isin(tag[tag != NULL], (NUMBER, BIG, TIME)).all()) and bool((tag != NULL).any())
    return ColumnProfile(ids, values, counts, numbers, slots, _tau(numbers, counts) if numeric else -1.0)


def seen_through(profile: ColumnProfile, through: ValueMap | Recoding | None) -> ColumnProfile:
    """Return the profile of a column as a suspect would show it.

    Values that the map makes equal share an id. What the map says nothing of keeps an id that no suspect
    cell can have.
    """
    if through is None or (isinstance(through, ValueMap) and through.is_plain and not through.noise):
        return profile
    if isinstance(through, Recoding):
        keys, numbers = through.apply(profile.values), np.full(len(profile.values), np.nan)
        unknown = (keys == 0) & (profile.values != 0)
        keys = np.where(unknown, mix64(profile.values ^ np.uint64(0x5EE)), keys)
        return _merged(profile, keys, numbers, -1.0)
    numbers = through.apply(profile.numbers)
    known = np.isfinite(numbers)
    bits = mix64((np.where(known, numbers, 0.0) + 0.0).view(np.uint64))
    lost = ~known & np.isfinite(profile.numbers)
    kept = np.where(lost, mix64(profile.values ^ np.uint64(0x5EE)), profile.values)
    seen = _merged(profile, np.where(known, bits, kept), numbers, None)
    return replace(seen, tau=_NOISE_SD * through.noise) if through.noise else seen


def _merged(profile: ColumnProfile, keys: U64, numbers: F64, tau: float | None) -> ColumnProfile:
    slots, ids, values, _, first = _number(np.ascontiguousarray(keys))
    counts = np.bincount(ids, profile.counts, len(values)).astype(np.int64)
    of_value = numbers[first]
    return ColumnProfile(
        ids[profile.ids] if len(ids) else profile.ids, values, counts, of_value, slots,
        _tau(of_value, counts) if tau is None else tau, mapped=True,
    )  # fmt: skip


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
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.average(x, weights=weight)
        tau = NEAR_SD * float(np.sqrt(np.average((x - mean) ** 2, weights=weight))) * (1 + 1e-9)
    if not np.isfinite(tau):
        return -1.0
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
