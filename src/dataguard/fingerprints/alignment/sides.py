"""The two sides of an alignment: matched columns only, as value ids of the original.

Whatever aligns rows, of a suspect or of control rows taken from the original itself,
sees this and nothing else, so that suspects and controls are treated alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import ColumnMatch
from dataguard.fingerprints.alignment.profiles import ColumnProfile, seen_through
from dataguard.values import CanonicalTable, mix64

__all__ = ["Sides", "distinct_rows", "held_out", "join_sides", "make_sides"]

_SMALL = 1024
"""Rows below which none are held out: half of a small leak would be too few to learn from."""

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Sides:
    """C matched columns of n original and m suspect rows.

    Attributes
    ----------
    profiles : tuple of ColumnProfile
        The original's columns.
    original : (C, n) uint32
        Value ids.
    suspect : (C, m) uint32
        Ids of the original's values, `UNSEEN` where it has no such value.
    numbers : (C, m) float64
        The suspect's numbers, nan where there is none.
    table : (t,) float64
        The original's numbers: ``table[offsets[c] + id]``.
    offsets : (C,) int64
    tau : (C,) float64
        Largest distance of near values, -1 where only equality counts.
    by_row : (n, C) uint32
        `original` with rows first, for what looks at few rows but all of their columns.
    lent : (m,) bool
        Which suspect rows are rows of the original itself (controls): their own cells do not count as frequent.
    pool : (k,) int64 or None
        The original rows that serve as controls, where not every row will do: in candidates gathered
        from a large table these are the rows whose own candidates were gathered too.
    """

    profiles: tuple[ColumnProfile, ...]
    original: U32
    suspect: U32
    numbers: F64
    table: F64
    offsets: I64
    tau: F64
    by_row: U32
    lent: B
    pool: I64 | None = None

    @property
    def rows(self) -> int:
        """Rows of the suspect."""
        return int(self.suspect.shape[1])

    @property
    def entropy(self) -> F64:
        """(C,) float64: bits per original column."""
        return np.array([p.entropy for p in self.profiles])

    def take(self, rows: I64) -> Sides:
        """Return the sides restricted to some suspect rows."""
        return replace(
            self,
            suspect=np.ascontiguousarray(self.suspect[:, rows]),
            numbers=np.ascontiguousarray(self.numbers[:, rows]),
            lent=self.lent[rows],
        )

    def without(self, rows: I64) -> Sides:
        """Return the sides with some rows of the original taken away, out of its frequencies as well."""
        keep = np.ones(self.original.shape[1], np.bool_)
        keep[rows] = False
        original = np.ascontiguousarray(self.original[:, keep])
        profiles = tuple(
            replace(p, ids=ids, counts=np.bincount(ids, minlength=len(p.values)).astype(np.int64))
            for p, ids in zip(self.profiles, original, strict=True)
        )
        pool = None
        if self.pool is not None:
            place = np.cumsum(keep) - 1
            pool = place[self.pool[keep[self.pool]]]
        by_row = np.ascontiguousarray(self.by_row[keep])
        return replace(self, profiles=profiles, original=original, by_row=by_row, pool=pool)

    def controls(self, rows: I64) -> Sides:
        """Return the sides with rows of the original in the suspect's place."""
        ids = np.ascontiguousarray(self.original[:, rows])
        numbers = self.table[self.offsets[:, None] + ids.astype(np.int64)]
        return replace(self, suspect=ids, numbers=numbers, lent=np.ones(len(rows), np.bool_))


def join_sides(left: Sides, right: Sides) -> Sides:
    """Return the sides with the suspect rows of both, `left` first; the columns are the same."""
    return replace(
        left,
        suspect=np.concatenate([left.suspect, right.suspect], axis=1),
        numbers=np.concatenate([left.numbers, right.numbers], axis=1),
        lent=np.concatenate([left.lent, right.lent]),
    )


def make_sides(
    profiles: Sequence[ColumnProfile], suspect: CanonicalTable, columns: Sequence[ColumnMatch]
) -> Sides:
    """Return the sides for some matched columns.

    Parameters
    ----------
    profiles : sequence of ColumnProfile
        Of all columns of the original.
    suspect : CanonicalTable
    columns : sequence of ColumnMatch
    """
    used = tuple(seen_through(profiles[c.original], c.through) for c in columns)
    cells = [suspect.columns[c.suspect] for c in columns]
    n, m = (used[0].rows if used else 0), suspect.rows
    sizes = np.array([len(p.values) for p in used], np.int64)
    original = np.stack([p.ids for p in used]) if used else np.empty((0, n), np.uint32)
    return Sides(
        used,
        original,
        np.stack([p.find_cells(c) for p, c in zip(used, cells, strict=True)])
        if used
        else np.empty((0, m), np.uint32),
        np.stack([c.number for c in cells]) if used else np.empty((0, m)),
        np.concatenate([p.numbers for p in used]) if used else np.empty(0),
        np.cumsum(sizes) - sizes,
        np.array([p.tau for p in used]),
        np.ascontiguousarray(original.T),
        np.zeros(m, np.bool_),
    )


def distinct_rows(suspect: CanonicalTable, columns: Sequence[ColumnMatch]) -> tuple[I64, I64]:
    """Return the first position of each distinct suspect row, and for every row which one it equals.

    Rows are compared in the matched columns only.
    """
    h = np.zeros(suspect.rows, np.uint64)
    for c in columns:
        h = mix64(h ^ suspect.columns[c.suspect].key)
    _, first, which = np.unique(h, return_index=True, return_inverse=True)
    return first.astype(np.int64), which.reshape(-1).astype(np.int64)


def held_out(suspect: CanonicalTable) -> B:
    """Return which suspect rows columns and maps must not be learnt from, so that they can test them.

    About half of the rows of a table of 1,024 rows or more, by a public hash of all their cells; none of
    fewer. The same rows in any order of rows, and equal rows are on one side.

    Parameters
    ----------
    suspect : CanonicalTable
        Folded.

    Returns
    -------
    (rows,) bool
    """
    h = np.zeros(suspect.rows, np.uint64)
    if suspect.rows < _SMALL:
        return h > 0
    for c in suspect.columns:
        h = mix64(h ^ c.key)
    return (h & np.uint64(1)).astype(np.bool_)
