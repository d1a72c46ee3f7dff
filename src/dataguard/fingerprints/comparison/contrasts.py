"""Two contrasts that a claim of copied rows must survive.

Data of the same source resemble each other without being copied, in two ways: their rows
fall near each other, and their columns go together. Each contrast removes one of the
two and nothing else; the worse of them counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Alignment, ColumnMatch
from dataguard.fingerprints.alignment.linkage import (
    CONTROLS,
    control_rows,
    fit_linkage,
    match_rows,
    nearest_rows,
    plain_linkage,
)
from dataguard.fingerprints.alignment.profiles import ColumnProfile, seen_through
from dataguard.fingerprints.alignment.sides import Sides, distinct_rows, held_out, join_sides, make_sides
from dataguard.fingerprints.comparison.nulls import log10_more_hits, log10_pairing
from dataguard.model import Finding
from dataguard.stats import round_up
from dataguard.values import CanonicalTable, mix64

__all__ = ["PAIRED", "TESTED", "Halves", "by_hash", "halves", "other_rows", "random_pairing", "standing_out"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

TESTED = 2000
"""Suspect rows and control rows of the first contrast, at most."""

_HELD = 0.25
"""Share of a suspect column's cells that must be the original's for the column to be tested."""

_NEIGHBOURS, _NEARER = 500, 4.0
"""Matched rows whose nearest other original row is looked for, and how much nearer a copied row must be."""

_TEST_BITS, _FEW_TEST_BITS, _FEW = 6.0, 16.0, 256
"""Entropy of the columns that are tested; more with fewer rows than 256, of which each must count for more. The
rest of the columns finds the more rows."""

PAIRED = 1500
"""Suspect rows of the second contrast, at most: all pairs are compared."""


Halves = tuple[list[ColumnMatch], list[ColumnMatch]]
"""The columns by which rows are looked up, and those whose agreement is counted."""


def other_rows(
    profiles: Sequence[ColumnProfile],
    suspect: CanonicalTable,
    columns: Sequence[ColumnMatch],
    pool: I64 | None = None,
) -> Finding | None:
    """Test the suspect's rows against "same source, other rows".

    Under the null hypothesis the suspect's rows are exchangeable with the original's own. Some of these, the
    controls, are taken out of the original; half of all contents, by a public hash, fit the linkage, and rows of the
    other half, the suspect's and the controls, are looked up in what is left of the original: whether a row is found
    then depends on its content alone. Fisher's exact test compares how many are, for rows as they come and for
    distinct ones (a suspect that repeats one row is not found a thousand times); the worse counts.

    Parameters
    ----------
    profiles : sequence of ColumnProfile
        Of all columns of the original.
    suspect : CanonicalTable
    columns : sequence of ColumnMatch
    pool : (k,) int64, optional
        Control rows, where not every original row will do (see :class:`Sides`).

    Returns
    -------
    Finding or None
        None with fewer than two columns or two rows.
    """
    first = _tested(suspect, distinct_rows(suspect, columns)[0])
    if len(columns) < 2 or len(first) < 2 or profiles[0].rows < 2:
        return None
    sides = replace(make_sides(profiles, suspect, columns), pool=pool)
    rows = profiles[0].rows if pool is None else len(pool)
    controls = control_rows(sides, min(TESTED, rows // 4), 0 if pool is None else min(CONTROLS, rows // 2))
    lent = replace(sides.controls(controls), lent=np.zeros(len(controls), np.bool_))
    searched = sides.without(controls)
    allowed = _tested(suspect, np.arange(suspect.rows))
    fitted, tested = (allowed[_for_fit(sides, allowed) == k] for k in (True, False))
    tested = tested[np.argsort(mix64(tested.astype(np.uint64)), kind="stable")][:TESTED]
    compared = np.flatnonzero(~_for_fit(lent, np.arange(len(controls))))
    if not (len(fitted) and len(tested) and len(compared)):
        return None
    linkage, _ = fit_linkage(searched.take(_distinct(sides, fitted)[:TESTED]))
    linkage = replace(linkage, cutoff=max(linkage.cutoff, linkage.strict), searched=-math.inf)
    both = join_sides(searched.take(tested), lent.take(compared))
    both = replace(searched, suspect=both.suspect, numbers=both.numbers, lent=both.lent)
    hit = match_rows(both, linkage).original >= 0
    mine, theirs = np.arange(len(tested)), np.arange(len(tested), both.rows)
    levels = [(mine, theirs), (_distinct(both, mine), _distinct(both, theirs))]
    counted = [(int(hit[a].sum()), len(a), int(hit[b].sum()), len(b)) for a, b in levels]
    log10_p, (found, count, control_found, control_count) = max((log10_more_hits(*c), c) for c in counted)
    return Finding(
        subject="rows of the suspect found in the original",
        method="controls taken out of the original, Fisher's exact test/2",
        null_hypothesis="the suspect's rows come from the same source as the original's, but are other rows",
        counts={
            "rows": count,
            "found": found,
            "controls": control_count,
            "controls_found": control_found,
        },
        log10_p=round_up(log10_p),
    )


def _contents(sides: Sides, rows: I64) -> U64:
    """Return public hashes of the contents of some rows: ids, and numbers where the original has no such value.

    By ids alone all rows of a copy with noise on every cell would be one: none of their values is known.
    """
    h = np.zeros(len(rows), np.uint64)
    for profile, ids, numbers in zip(sides.profiles, sides.suspect, sides.numbers, strict=True):
        unseen = ids[rows] >= len(profile.values)
        number = np.where(np.isfinite(numbers[rows]), numbers[rows], 0.0)
        h = mix64(h ^ np.where(unseen, number.view(np.uint64), ids[rows].astype(np.uint64)))
    return h


def _for_fit(sides: Sides, rows: I64) -> NDArray[np.bool_]:
    """Return which rows fit the linkage, by their content: equal rows are on one side."""
    return ((_contents(sides, rows) >> np.uint64(7)) & np.uint64(1)).astype(np.bool_)


def _distinct(sides: Sides, rows: I64) -> I64:
    """Return some rows without those whose content came before, in the order of their contents' hashes."""
    _, first = np.unique(_contents(sides, rows), return_index=True)
    return rows[first]


def standing_out(
    profiles: Sequence[ColumnProfile], suspect: CanonicalTable, alignment: Alignment
) -> Finding | None:
    """Count matched rows that agree with their original row far better than its nearest neighbour does.

    Two observers of the same hours, or every second row of a series, give rows that are near each other without
    any having been copied; leave-one-out controls have no such neighbours. A copied row equals its original where
    that differs from its nearest other row, or is four times nearer. Where half of the
    matched rows do not stand out so, no relation of rows is stated.

    Parameters
    ----------
    profiles : sequence of ColumnProfile
        Of all columns of the original.
    suspect : CanonicalTable
    alignment : Alignment

    Returns
    -------
    Finding or None
        Without a probability: a condition, not a test. None without matched rows.
    """
    if not len(alignment.suspect_row):
        return None
    order = np.argsort(mix64(alignment.suspect_row.astype(np.uint64)), kind="stable")[:_NEIGHBOURS]
    sides = make_sides(profiles, suspect, alignment.columns)
    mine, own = sides.take(alignment.suspect_row[order]), alignment.original_row[order]
    linkage = plain_linkage(sides)
    other = nearest_rows(sides.controls(own), linkage, own)
    wins, differs = np.zeros(len(own), np.int64), np.zeros(len(own), np.int64)
    for c in range(len(sides.tau)):
        mine_id, own_id, other_id = mine.suspect[c], sides.original[c][own], sides.original[c][other]
        apart = (own_id != other_id) | (other < 0)
        with np.errstate(invalid="ignore", over="ignore"):
            value, neighbour = (
                sides.table[sides.offsets[c] + x.astype(np.int64)] for x in (own_id, other_id)
            )
            near = _NEARER * np.abs(mine.numbers[c] - value) <= np.abs(neighbour - value)  # nan is not near
        wins += apart & ((mine_id == own_id) | near)
        differs += apart
    outstanding = int(((2 * wins >= differs) & (differs > 0)).sum())
    return Finding(
        subject="matched rows nearer to their original row than its nearest other row is",
        method="nearest other row, four times nearer in half of the differing columns/1",
        null_hypothesis="a condition for stating a relation of rows, not a test",
        counts={"rows": len(own), "standing_out": outstanding},
    )


def random_pairing(
    profiles: Sequence[ColumnProfile],
    suspect: CanonicalTable,
    columns: Sequence[ColumnMatch],
    split: Halves | None = None,
) -> Finding | None:
    """Test the suspect's rows against "the two halves of its columns are paired at random".

    The columns are split in two. Rows are looked up by the first half alone; then it
    is counted how often the second half agrees with the row found, and how often it
    would if the halves were paired anew, over all pairs.

    Parameters
    ----------
    profiles : sequence of ColumnProfile
        Of all columns of the original.
    suspect : CanonicalTable
    columns : sequence of ColumnMatch
        Those that were settled by aligned rows are left out: they have seen the pairing.
    split : Halves, optional
        The two halves, where they were chosen before the original's rows were gathered.

    Returns
    -------
    Finding or None
        None with fewer than two columns that vary, or without rows.
    """
    fresh = bool(held_out(suspect).any())
    left, right = halves(profiles, columns, suspect, fresh=fresh) if split is None else split
    if not right or suspect.rows == 0:
        return None
    # Chosen by the first half alone, so that the second stays free to be paired anew.
    first = _tested(suspect, distinct_rows(suspect, left)[0])
    first = by_hash(suspect, left, first)[:PAIRED]
    keys = make_sides(profiles, suspect, left).take(first)
    _, found = fit_linkage(keys)
    own = np.flatnonzero(found.original >= 0)
    hits, agreeing = _count(make_sides(profiles, suspect, right).take(first), found.original[own], own)
    return Finding(
        subject="agreement of the other columns in rows found by half of the columns",
        method="random re-pairing, Chatterjee 2007 and factorial moments/1",
        null_hypothesis="the two halves of the suspect's columns are paired at random",
        counts={"rows": len(first), "found": len(own), "agreeing": hits, "agreeing_pairs": agreeing},
        log10_p=round_up(log10_pairing(hits, agreeing, len(first))),
    )


def _count(values: Sides, original: I64, own: I64) -> tuple[int, int]:
    from dataguard.fingerprints.alignment._kernels import count_agreements

    totals = np.zeros(2, np.int64)
    count_agreements(
        values.suspect, np.ascontiguousarray(values.original[:, original]), own, values.numbers, values.table,
        values.offsets, values.tau, totals,
    )  # fmt: skip
    return int(totals[0]), int(totals[1])


def _tested(suspect: CanonicalTable, rows: I64) -> I64:
    """Return those of some rows that no column or map was learnt from, where there are such."""
    kept = held_out(suspect)
    return rows[kept[rows]] if kept.any() else rows


def halves(
    profiles: Sequence[ColumnProfile],
    columns: Sequence[ColumnMatch],
    suspect: CanonicalTable,
    *,
    fresh: bool,
) -> Halves:
    """Deal the columns out in order of information: most look rows up, a few informative ones are tested.

    A column informs as far as the suspect's cells vary and are the original's: one that was emptied or overwritten
    says nothing, and must not be what is tested. Columns settled by aligned rows, and maps learnt from them, have
    seen the pairing: they take part only where it is tested on `fresh` rows, that nothing was learnt from.
    Columns of less than a bit are used only where there are few others: rows agree in most of forty dummies anyway.
    """
    bits = {c.suspect: _bits(profiles[c.original], suspect, c) for c in columns}
    free = [c for c in columns if (fresh or (c.by != "rows" and c.through is None)) and bits[c.suspect] > 0]
    informative = [c for c in free if bits[c.suspect] >= 1]
    free = informative if len(informative) >= 4 else free
    free.sort(key=lambda c: (-bits[c.suspect], c.original))
    left: list[ColumnMatch] = list(free[::2])
    right: list[ColumnMatch] = []
    total, enough = 0.0, _FEW_TEST_BITS if suspect.rows < _FEW else _TEST_BITS
    for c in free[1::2]:
        (right if total < enough else left).append(c)
        total += bits[c.suspect]
    return left, right


def _bits(profile: ColumnProfile, suspect: CanonicalTable, match: ColumnMatch) -> float:
    """Entropy of the suspect's cells that the original column holds, or may hold within its reach; at most its own."""
    rows = np.linspace(0, suspect.rows - 1, min(suspect.rows, 4096)).astype(np.int64)
    seen = seen_through(profile, match.through)
    cells = suspect.columns[match.suspect].take_cells(rows)
    ids = seen.find_cells(cells)
    held = (ids < len(seen.values)) & (cells.key != 0)
    if seen.tau >= 0 and match.through is not None:
        held |= np.isfinite(cells.number)
    if not held.any() or held.mean() < _HELD:
        return 0.0
    _, counts = np.unique(cells.key[held], return_counts=True)
    share = counts / counts.sum()
    return min(seen.entropy, float(-(share * np.log2(share)).sum()))


def by_hash(suspect: CanonicalTable, columns: Sequence[ColumnMatch], rows: I64) -> I64:
    """Order some rows by a public hash of their cells: the same rows in any file order."""
    h = np.zeros(len(rows), np.uint64)
    for c in columns:
        h = mix64(h ^ suspect.columns[c.suspect].key[rows])
    return rows[np.argsort(mix64(h), kind="stable")]
