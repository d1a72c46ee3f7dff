"""Candidate rows: original rows that share the values of some columns with a suspect row.

Each look-up hashes the small side, the suspect, into a table and streams the original
past it; nothing is sorted, and values that too many rows share are dropped, with their
number kept, so that what was not looked at still counts as a rival.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.alignment.sides import Sides
from dataguard.fingerprints.alignment.subsets import draw_subsets, sample_rows

__all__ = ["Candidates", "Lookups", "plan_lookups"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

_RIVALS = 8.0
"""Original rows that share the values of a subset with a suspect row, on average."""

_MOST_RIVALS, _MOST_TWINS = 64, 512
"""At most: in an ordinary look-up; in the look-up by all columns that hardly change."""

_STEADY = 0.9
"""Share of equal cells from which on a column hardly changes."""

_NOWHERE = np.uint32(0xFFFFFFFE)
"""Grid cell of a missing value on the original's side: meets nothing."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the look-ups found for m suspect rows.

    Attributes
    ----------
    pairs : (p, 2) int64
        Suspect row and original row, distinct and in ascending order.
    dropped : tuple of (columns, (m,) int64)
        For the first look-up and every other that dropped values: its columns, and how many
        original rows share those values with each suspect row (0 where nothing was dropped).
    """

    pairs: I64
    dropped: tuple[tuple[I64, I64], ...]


@dataclass(frozen=True, slots=True)
class Lookups:
    """The look-ups for one original, one set of columns and one expectation of change.

    Attributes
    ----------
    original : (K, n) uint32
        The value ids of the C columns, then the grid cells of the numeric ones: two grids
        of width 2 tau, half a cell apart, so that near values share a cell of one of them.
    fine : (f,) int64
        The numeric columns.
    subsets : tuple of (k,) int64
        Columns of each look-up; the first is the one by all columns that hardly change.
    """

    original: U32
    fine: I64
    subsets: tuple[I64, ...]

    def over(self, sides: Sides) -> Lookups:
        """Return the same look-ups over other rows of the original."""
        return replace(self, original=_with_grids(sides, self.fine))

    def search(self, sides: Sides, exclude: I64 | None = None) -> Candidates:
        """Return the candidates for the suspect rows of `sides`.

        Parameters
        ----------
        sides : Sides
        exclude : (m,) int64, optional
            One original row per suspect row that does not count.
        """
        n = sides.original.shape[1]
        suspect = np.concatenate([sides.suspect, *(_suspect_grid(sides, int(c)) for c in self.fine)])
        codes, dropped = [np.empty(0, np.int64)], []
        for i, subset in enumerate(self.subsets):
            code, lost = _look_up(self.original, suspect, subset, _MOST_RIVALS if i else _MOST_TWINS)
            codes.append(code)
            plain = subset[subset < len(sides.tau)]
            if i == 0 or (lost.any() and len(plain)):
                dropped.append((plain, lost))
        merged = np.concatenate(codes)
        merged.sort()  # numpy's own unique is hash-based and was five times slower here
        merged = merged[np.concatenate([[True], merged[1:] != merged[:-1]])[: len(merged)]]
        pairs = np.stack([merged // n, merged % n], axis=1)
        if exclude is not None:
            pairs = pairs[exclude[pairs[:, 0]] != pairs[:, 1]]
        return Candidates(np.ascontiguousarray(pairs), tuple(dropped))


def plan_lookups(sides: Sides, shares: F64, limit: int, rows: int | None = None) -> Lookups:
    """Return the look-ups that find most true rows.

    Parameters
    ----------
    sides : Sides
        Only the original's side matters.
    shares : (C, 4) float64
        Expected shares of equal, close, near and far cells.
    limit : int
        Look-ups at most.
    rows : int, optional
        Rows of the original, where `sides` holds a sample of them.
    """
    fine = np.flatnonzero(sides.tau >= 0)
    original = _with_grids(sides, fine)
    sample = np.ascontiguousarray(original[:, sample_rows(original.shape[1])])
    # A distance d keeps both values in one grid cell with probability 1 - d / (2 tau).
    kept = shares[fine] @ np.array([1.0, 0.87, 0.62, 0.0])
    survive = np.clip(np.concatenate([shares[:, 0], np.repeat(kept, 2)]), 0.02, 0.999)
    entropy = np.concatenate([sides.entropy, [_sample_entropy(r) for r in sample[len(sides.tau) :]]])
    steady = np.flatnonzero((shares[:, 0] >= _STEADY) & (sides.entropy > 0))
    subsets = draw_subsets(sample, entropy, survive, rows or original.shape[1], _RIVALS, limit)
    return Lookups(original, fine, (steady, *subsets))


def _with_grids(sides: Sides, fine: I64) -> U32:
    return np.concatenate([sides.original, *(_original_grid(sides, int(c)) for c in fine)])


def _sample_entropy(ids: U32) -> float:
    _, counts = np.unique(ids, return_counts=True)
    p = counts / max(1, len(ids))
    return float(-(p * np.log2(p)).sum())


def _cells(numbers: F64, tau: float, missing: np.uint32) -> U32:
    """(2, k) uint32 grid cells of some numbers."""
    with np.errstate(over="ignore"):
        scaled = numbers / (2 * tau)
    known = np.isfinite(scaled)
    scaled = np.where(known, scaled, 0.0)
    # Outliers wrap around: two far values in one cell only make one candidate more.
    cells = np.stack([np.floor(np.fmod(scaled + shift, 2.0**30)) + 2.0**30 for shift in (0.0, 0.5)])
    return np.where(known, cells.astype(np.uint32), missing).astype(np.uint32)


def _original_grid(sides: Sides, c: int) -> U32:
    of_value = _cells(sides.profiles[c].numbers, float(sides.tau[c]), _NOWHERE)
    return np.ascontiguousarray(of_value[:, sides.original[c]])


def _suspect_grid(sides: Sides, c: int) -> U32:
    from dataguard.fingerprints.alignment._kernels import UNSEEN

    return _cells(sides.numbers[c], float(sides.tau[c]), UNSEEN)


def _look_up(original: U32, suspect: U32, subset: I64, limit: int) -> tuple[I64, I64]:
    """Return the pairs that share the values of `subset`, as suspect row * n + original row.

    Values shared by more than `limit` original rows, or as many suspect rows, are dropped;
    the second array counts, per suspect row, the original rows not looked at for that.
    """
    from dataguard.fingerprints.alignment._kernels import bucket_rows, probe_rows

    m, n = suspect.shape[1], original.shape[1]
    slots = np.zeros(1 << max(6, (4 * m - 1).bit_length()), np.int32)
    hashes, bucket = np.empty(m, np.uint64), np.empty(m, np.int32)
    buckets = bucket_rows(suspect, subset, slots, hashes, bucket)
    if buckets == 0:
        return np.empty(0, np.int64), np.zeros(m, np.int64)
    counts, found = np.zeros(buckets, np.int64), np.empty((buckets * limit, 2), np.int32)
    found = found[: probe_rows(original, subset, slots, hashes, counts, found)]
    known = np.flatnonzero(bucket >= 0)
    size = np.bincount(bucket[known], minlength=buckets)
    start = np.cumsum(size) - size
    members = known[np.argsort(bucket[known], kind="stable")]
    heavy = (counts > limit) | (size > limit)
    lost = np.where(bucket >= 0, (counts * heavy)[bucket], 0)
    found = found[~heavy[found[:, 0]]]
    one, row = found[:, 0], found[:, 1].astype(np.int64)
    repeat = size[one]
    within = np.arange(int(repeat.sum())) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    return members[np.repeat(start[one], repeat) + within] * n + np.repeat(row, repeat), lost
