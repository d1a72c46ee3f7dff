"""Row alignment without a key: which suspect row is which original row.

Candidates come from looking rows up by many small column subsets; every candidate is
then compared in all columns and weighed as in record linkage (Fellegi and Sunter,
"A theory for record linkage", JASA 1969) with levels per column: equal, near (in two bands), far.
The original and the suspect are all it sees: no key, no recipient, no slot plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Alignment, ColumnMatch
from dataguard.fingerprints.alignment.columns import propose_columns
from dataguard.fingerprints.alignment.contents import assign_in_order, join_contents
from dataguard.fingerprints.alignment.learning import complete_columns, learn_columns
from dataguard.fingerprints.alignment.linkage import accepts_equal, fit_linkage, match_rows
from dataguard.fingerprints.alignment.profiles import ColumnProfile, profile_column
from dataguard.fingerprints.alignment.shapes import guess_columns, with_noise
from dataguard.fingerprints.alignment.sides import Sides, distinct_rows, held_out, make_sides
from dataguard.folding.columns import fold_table
from dataguard.values import CanonicalTable

__all__ = ["align", "settle_columns"]

I64 = NDArray[np.int64]

_PROBE_ROWS, _PROBE_LOOKUPS, _PROBE_CONTROLS = 512, 32, 256
"""Suspect rows, look-ups for each, and control rows of the first look that settles the columns."""

_ENOUGH_ROWS = 16
"""Rows aligned from which on they say what the columns are."""

_ROUNDS = 3
"""Times that rows and maps are found from each other where only shapes are known."""


def align(original: CanonicalTable, suspect: CanonicalTable, pool: I64 | None = None) -> Alignment:
    """Return which suspect column and row is which original column and row.

    Parameters
    ----------
    original, suspect : CanonicalTable
        Up to 2**31 - 1 rows each.
    pool : (k,) int64, optional
        Original rows that serve as controls; any by default.

    Returns
    -------
    Alignment
        Rows that nothing tells apart are left out and counted as ambiguous.
    """
    a, b = fold_table(original), fold_table(suspect)
    profiles = [profile_column(c) for c in a.columns]
    columns = settle_columns(a, b, profiles)
    empty = np.empty(0, np.int64)
    if not (original.rows and suspect.rows and columns):
        return Alignment(columns, empty, empty, empty, suspect.rows, original.rows, 0)
    found = _aligned(replace(make_sides(profiles, b, columns), pool=pool), b, columns)
    return _completed(a, b, found)


def _completed(original: CanonicalTable, suspect: CanonicalTable, found: Alignment) -> Alignment:
    """Add the columns that all aligned rows together settle."""
    learning = ~held_out(suspect)[found.suspect_row]
    rows, own = found.suspect_row, found.original_row
    more = complete_columns(original, suspect, found.columns, rows[learning], own[learning])
    if not more:
        return found
    equal = found.equal.copy()
    for c in more:
        equal += original.columns[c.original].key[own] == suspect.columns[c.suspect].key[rows]
    columns = tuple(sorted((*found.columns, *more), key=lambda c: c.suspect))
    return replace(found, columns=columns, equal=equal)


def _aligned(sides: Sides, suspect: CanonicalTable, columns: tuple[ColumnMatch, ...]) -> Alignment:
    """Match all rows: by content where it is there, else by search."""
    first, which = distinct_rows(suspect, columns)
    linkage, _ = fit_linkage(sides.take(first))
    contents = join_contents(sides)
    there, accepted = contents.group >= 0, accepts_equal(sides, linkage)
    once = contents.count == 1
    target = np.where(once & accepted, contents.first, -1)
    equal = np.where(once & accepted, len(columns), 0)
    ambiguous = there & ~once & accepted
    search = np.flatnonzero(~there[first])
    if len(search):
        found = match_rows(sides.take(first[search]), linkage)
        at = np.full(len(first), len(search))
        at[search] = np.arange(len(search))
        at = at[which]
        target = np.maximum(target, np.append(found.original, -1)[at])
        equal = np.maximum(equal, np.append(found.equal, 0)[at])
        ambiguous |= np.append(found.ambiguous, False)[at]
    hit, open_ = np.flatnonzero(target >= 0), np.flatnonzero(there & (target < 0))
    tied = assign_in_order(contents, open_, hit, target[hit])
    return Alignment(
        columns, hit, target[hit], equal[hit], sides.rows, sides.original.shape[1], int(ambiguous.sum()),
        open_[tied >= 0], tied[tied >= 0],
    )  # fmt: skip


def settle_columns(
    original: CanonicalTable, suspect: CanonicalTable, profiles: Sequence[ColumnProfile]
) -> tuple[ColumnMatch, ...]:
    """Return which column is which and through which map, as values, names and some aligned rows show it.

    Parameters
    ----------
    original, suspect : CanonicalTable
        Folded.
    profiles : sequence of ColumnProfile
        Of all columns of the original.
    """
    proposal = propose_columns(original, suspect, profiles)
    columns = proposal.columns
    if not (original.rows and suspect.rows):
        return columns
    learning = np.flatnonzero(~held_out(suspect))
    hits = np.empty(0, np.int64)
    if columns:
        start = proposal.sure if _identify(proposal.sure, profiles, original.rows) else columns
        hits, own = _probe(suspect, profiles, start, learning)
        columns = learn_columns(original, suspect, columns, hits, own)
    if len(hits) >= _ENOUGH_ROWS:
        return columns
    guess = guess_columns(original, suspect, columns, learning)
    if not guess:
        return columns
    tried = [_backed(original, suspect, profiles, columns, g, learning) for g in with_noise(suspect, guess)]
    best = max(tried, key=len)
    return best or columns


def _backed(
    original: CanonicalTable,
    suspect: CanonicalTable,
    profiles: Sequence[ColumnProfile],
    columns: tuple[ColumnMatch, ...],
    guess: tuple[ColumnMatch, ...],
    learning: I64,
) -> tuple[ColumnMatch, ...]:
    """Find rows and maps from each other, from matched and guessed columns; nothing if rows do not back them."""
    learnt, count = (*columns, *guess), 0
    for _ in range(_ROUNDS):
        hits, own = _probe(suspect, profiles, learnt, learning)
        if len(hits) < _ENOUGH_ROWS:
            return ()
        if len(hits) <= count:
            break
        learnt, count = learn_columns(original, suspect, learnt, hits, own), len(hits)
    return learnt


def _probe(
    suspect: CanonicalTable, profiles: Sequence[ColumnProfile], columns: Sequence[ColumnMatch], learning: I64
) -> tuple[I64, I64]:
    """Align a few hundred of the rows to learn from by some columns: suspect rows and original rows."""
    if not columns:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    first, _ = distinct_rows(suspect, columns)
    first = first[np.isin(first, learning, assume_unique=True)] if len(learning) < suspect.rows else first
    probe = first[np.linspace(0, len(first) - 1, min(_PROBE_ROWS, len(first))).astype(np.int64)]
    sides = make_sides(profiles, suspect, columns).take(probe)
    _, match = fit_linkage(sides, _PROBE_LOOKUPS, _PROBE_CONTROLS)
    hit = match.original >= 0
    return probe[hit], match.original[hit]


def _identify(columns: Sequence[ColumnMatch], profiles: Sequence[ColumnProfile], rows: int) -> bool:
    """Whether some columns hold twice the bits that tell `rows` rows apart."""
    bits = sum(profiles[c.original].entropy for c in columns)
    return len(columns) >= 2 and bits >= 2 * math.log2(max(2, rows))
