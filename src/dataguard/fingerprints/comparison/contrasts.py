"""Two contrasts that a claim of copied rows must survive.

Data of the same source resemble each other without being copied, in two ways: their rows
fall near each other, and their columns go together. Each contrast removes one of the
two and nothing else; the worse of them counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import ColumnMatch
from dataguard.fingerprints.alignment.linkage import CONTROLS, control_rows, fit_linkage, match_rows
from dataguard.fingerprints.alignment.profiles import ColumnProfile
from dataguard.fingerprints.alignment.sides import Sides, distinct_rows, join_sides, make_sides
from dataguard.fingerprints.comparison.nulls import log10_more_hits, log10_pairing
from dataguard.model import Finding
from dataguard.stats import round_up
from dataguard.values import CanonicalTable, mix64

__all__ = ["PAIRED", "TESTED", "Halves", "by_hash", "halves", "other_rows", "random_pairing"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

TESTED = 2000
"""Suspect rows and control rows of the first contrast, at most."""

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

    Under the null hypothesis the suspect's distinct rows are exchangeable with the
    original's own. One half of them fits the linkage, the other half is looked up with it,
    and so are control rows of the original, each with itself left out; Fisher's
    exact test compares how many are found.

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
    first, _ = distinct_rows(suspect, columns)
    if len(columns) < 2 or len(first) < 2 or profiles[0].rows < 2:
        return None
    first = by_hash(suspect, columns, first)[: 2 * TESTED]
    sides = replace(make_sides(profiles, suspect, columns), pool=pool)
    linkage, _ = fit_linkage(sides.take(first[1::2]))
    linkage = replace(linkage, cutoff=max(linkage.cutoff, linkage.strict))
    tested = sides.take(first[::2])
    rows = profiles[0].rows if pool is None else len(pool)
    controls = control_rows(sides, TESTED, min(CONTROLS, rows // 2))
    both = join_sides(tested, sides.controls(controls))
    found = match_rows(both, linkage, np.concatenate([np.full(tested.rows, -1, np.int64), controls]))
    hit = found.original >= 0
    hits, control_hits = int(hit[: tested.rows].sum()), int(hit[tested.rows :].sum())
    return Finding(
        subject="rows of the suspect found in the original",
        method="leave-one-out controls, Fisher's exact test/1",
        null_hypothesis="the suspect's rows come from the same source as the original's, but are other rows",
        counts={
            "rows": tested.rows,
            "found": hits,
            "controls": len(controls),
            "controls_found": control_hits,
        },
        log10_p=round_up(log10_more_hits(hits, tested.rows, control_hits, len(controls))),
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
    left, right = halves(profiles, columns) if split is None else split
    if not right or suspect.rows == 0:
        return None
    # Chosen by the first half alone, so that the second stays free to be paired anew.
    first, _ = distinct_rows(suspect, left)
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


def halves(profiles: Sequence[ColumnProfile], columns: Sequence[ColumnMatch]) -> Halves:
    """Deal the columns out in order of entropy, so that both halves are informative.

    Columns of less than a bit are used only where there are few others: rows agree in most
    of forty dummies anyway.
    """
    free = [c for c in columns if c.by != "rows" and profiles[c.original].entropy > 0]
    informative = [c for c in free if profiles[c.original].entropy >= 1]
    free = informative if len(informative) >= 4 else free
    free.sort(key=lambda c: (-profiles[c.original].entropy, c.original))
    return free[::2], free[1::2]


def by_hash(suspect: CanonicalTable, columns: Sequence[ColumnMatch], rows: I64) -> I64:
    """Order some rows by a public hash of their cells: the same rows in any file order."""
    h = np.zeros(len(rows), np.uint64)
    for c in columns:
        h = mix64(h ^ suspect.columns[c.suspect].key[rows])
    return rows[np.argsort(mix64(h), kind="stable")]
