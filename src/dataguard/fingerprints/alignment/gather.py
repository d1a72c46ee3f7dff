"""The few rows of a large table that a few rows of another may correspond to.

A table that does not fit in memory is searched block by block: the columns are matched by
how often the suspect's values occur in the whole, then every block is looked up like a
small original, and of each suspect row the best candidates are kept. What is aligned in
the end are these candidates and a plain sample of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import ColumnMatch, Large
from dataguard.fingerprints.alignment.columns import propose_columns, sampled_values
from dataguard.fingerprints.alignment.linkage import (
    FEW_LOOKUPS,
    FIT_ROWS,
    LOOKUPS,
    compare_pairs,
    plain_linkage,
    weigh,
)
from dataguard.fingerprints.alignment.lookups import Lookups, plan_lookups
from dataguard.fingerprints.alignment.profiles import ColumnProfile, profile_column
from dataguard.fingerprints.alignment.sides import Sides, make_sides
from dataguard.folding.columns import fold_column, fold_table
from dataguard.values import CanonicalTable

__all__ = ["Query", "candidates", "fold_large", "gather_rows", "propose_over_blocks"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_KEPT = 8
"""Candidates kept of each suspect row: the true one, and those it must be told from."""

_CHUNK = 8192
"""Suspect rows looked up at a time."""


def propose_over_blocks(
    original: Large[CanonicalTable], sample: CanonicalTable, suspect: CanonicalTable
) -> tuple[ColumnMatch, ...]:
    """Return the columns matched by values and names; one pass.

    Parameters
    ----------
    original : Large
    sample : CanonicalTable
        Some of its rows.
    suspect : CanonicalTable
    """
    wanted = np.unique(np.concatenate([sampled_values(c.key)[0] for c in suspect.columns]))
    ids = _numbered(wanted)
    counts = np.zeros((len(sample.columns), len(wanted) + 1), np.int64)
    for block in original.blocks():
        for i, column in enumerate(block.columns):
            found = ids.find(column.key)
            at = np.minimum(found, np.uint32(len(wanted)))  # what is not wanted is counted in the last place
            counts[i] += np.bincount(at, minlength=len(wanted) + 1)
            del column
        del block
    profiles = [_counted(ids, row[:-1], original.units) for row in counts]
    return propose_columns(sample, suspect, profiles).columns


def candidates(original: Large[CanonicalTable], sample: CanonicalTable, suspect: CanonicalTable) -> I64:
    """Return the positions of original rows that suspect rows may have been copied from; two passes.

    Parameters
    ----------
    original : Large
    sample : CanonicalTable
        Some of its rows, evenly spread.
    suspect : CanonicalTable
    """
    typical, wanted, whole = fold_table(sample), fold_table(suspect), fold_large(original, sample)
    columns = propose_over_blocks(whole, typical, wanted)
    return gather_rows(whole, typical, [Query(wanted, columns)])[0]


def fold_large(original: Large[CanonicalTable], sample: CanonicalTable) -> Large[CanonicalTable]:
    """Return a large table folded block by block, every column read as a sample of it decides."""
    ways = [fold_column(c).ways for c in sample.columns]

    def folded(block: CanonicalTable) -> CanonicalTable:
        columns = tuple(fold_column(c, w).column for c, w in zip(block.columns, ways, strict=True))
        return CanonicalTable(block.names, columns)

    def blocks() -> Iterator[CanonicalTable]:
        for block in original.blocks():
            yield folded(block)
            del block  # or it would live on while the next one is read

    return Large(original.units, original.room, blocks, lambda rows: folded(original.take(rows)))


def _numbered(values: U64) -> ColumnProfile:
    from dataguard.fingerprints.alignment._kernels import number_values

    size = 1 << max(6, (4 * len(values)).bit_length())
    slots, ids = np.zeros(size, np.uint32), np.empty(len(values), np.uint32)
    known, (counts, first) = np.empty(size // 2, np.uint64), np.empty((2, size // 2), np.int64)
    number_values(np.ascontiguousarray(values), slots, ids, known, counts, first)
    n = len(values)
    return ColumnProfile(ids, known[:n].copy(), counts[:n], np.full(n, np.nan), slots, -1.0)


def _counted(ids: ColumnProfile, counts: I64, rows: int) -> ColumnProfile:
    """Return the profile of a column of which only some values were counted; it knows no row."""
    no_rows = np.broadcast_to(np.uint32(0), rows)  # takes no memory, but has the right length
    return replace(ids, ids=no_rows, counts=counts)


@dataclass(frozen=True, slots=True)
class Query:
    """Rows that are looked for.

    Attributes
    ----------
    suspect : CanonicalTable
    columns : sequence of ColumnMatch
        The columns to look them up by.
    """

    suspect: CanonicalTable
    columns: Sequence[ColumnMatch]


def gather_rows(
    original: Large[CanonicalTable], sample: CanonicalTable, queries: Sequence[Query]
) -> list[I64]:
    """Return, for each query, the positions of original rows its rows may have been copied from; one pass.

    Parameters
    ----------
    original : Large
    sample : CanonicalTable
        Some of its rows, evenly spread: which values are frequent is learnt from them.
    queries : sequence of Query

    Returns
    -------
    list of (k,) int64
        Ascending; at most eight per row of the query.
    """
    profiles = [profile_column(c) for c in sample.columns]
    searches = [_Search(query, profiles, original.units) for query in queries]
    first = 0
    for block in original.blocks():
        for search in searches:
            search.add(block, first)
        first += block.rows
        del block
    return [search.found() for search in searches]


class _Search:
    """One query, while the original passes by."""

    def __init__(self, query: Query, profiles: Sequence[ColumnProfile], rows: int) -> None:
        self._query = query
        self._best: list[_Best] = []
        if not query.columns or not query.suspect.rows:
            return
        self._typical = make_sides(profiles, query.suspect, query.columns)
        shares = plain_linkage(self._typical).shares
        m = query.suspect.rows
        self._plan = plan_lookups(self._typical, shares, LOOKUPS if m <= FIT_ROWS else FEW_LOOKUPS, rows)
        for start in range(0, m, _CHUNK):
            chunk = np.arange(start, min(start + _CHUNK, m))
            self._best.append(_Best(chunk, weigh(self._typical.take(chunk), shares)))

    def add(self, block: CanonicalTable, first: int) -> None:
        """Look all rows up in one block whose first row is number `first`."""
        if not self._best:
            return
        # What is near is the same in all blocks.
        sides = replace(_block_sides(block, self._query), tau=self._typical.tau)
        lookups = self._plan.over(sides)
        for kept in self._best:
            kept.add(sides.take(kept.rows), lookups, first)

    def found(self) -> I64:
        """Return the positions of all candidates."""
        parts = [np.empty(0, np.int64), *(kept.found() for kept in self._best)]
        return np.unique(np.concatenate(parts))


def _block_sides(block: CanonicalTable, query: Query) -> Sides:
    profiles = {c.original: profile_column(block.columns[c.original]) for c in query.columns}
    none = next(iter(profiles.values()))
    every = [profiles.get(i, none) for i in range(len(block.columns))]
    return make_sides(every, query.suspect, query.columns)


class _Best:
    """The best candidates of some suspect rows so far."""

    def __init__(self, rows: I64, weights: NDArray[np.int32]) -> None:
        self.rows = rows
        self._weights = weights
        self._pairs: I64 = np.empty((0, 2), np.int64)
        self._score: I64 = np.empty(0, np.int64)

    def add(self, sides: Sides, lookups: Lookups, first: int) -> None:
        """Look the rows up in one block whose first row is number `first`."""
        from dataguard.fingerprints.alignment._kernels import pair_scores

        found = lookups.search(sides)
        if len(found.pairs) == 0:
            return
        score = np.empty(len(found.pairs), np.int64)
        pair_scores(found.pairs, compare_pairs(sides, found), self._weights, score)
        pairs = np.concatenate([self._pairs, found.pairs + np.array([0, first])])
        score = np.concatenate([self._score, score])
        order = np.lexsort((pairs[:, 1], -score, pairs[:, 0]))
        row = pairs[order, 0]
        starts = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
        rank = np.arange(len(row)) - np.repeat(starts, np.diff(np.append(starts, len(row))))
        keep = order[rank < _KEPT]
        self._pairs, self._score = pairs[keep], score[keep]

    def found(self) -> I64:
        """Return the positions of the candidates."""
        return self._pairs[:, 1]
