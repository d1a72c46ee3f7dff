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
from dataguard.fingerprints.alignment.columns import propose_columns, refine_columns
from dataguard.fingerprints.alignment.linkage import FIT_ROWS, fit_linkage, match_rows
from dataguard.fingerprints.alignment.profiles import ColumnProfile, profile_column
from dataguard.fingerprints.alignment.sides import distinct_rows, make_sides
from dataguard.values import CanonicalTable

__all__ = ["align"]

I64 = NDArray[np.int64]

_PROBE_ROWS, _PROBE_LOOKUPS = 512, 32
"""Suspect rows, and look-ups for each, of the first look that settles the columns."""


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
    profiles = [profile_column(c) for c in original.columns]
    proposal = propose_columns(original, suspect, profiles)
    columns = proposal.columns
    empty = np.empty(0, np.int64)
    if not (original.rows and suspect.rows and columns):
        return Alignment(columns, empty, empty, empty, suspect.rows, original.rows, 0)
    start = proposal.sure if _identify(proposal.sure, profiles, original.rows) else columns
    columns = _settle(original, suspect, profiles, start, columns)
    first, which = distinct_rows(suspect, columns)
    sides = replace(make_sides(profiles, suspect, columns), pool=pool).take(first)
    linkage, found = fit_linkage(sides)
    if sides.rows > FIT_ROWS:
        found = match_rows(sides, linkage)
    target = found.original[which]
    hit = np.flatnonzero(target >= 0)
    return Alignment(
        columns, hit, target[hit], found.equal[which][hit], suspect.rows, original.rows,
        int(found.ambiguous[which].sum()),
    )  # fmt: skip


def _identify(columns: Sequence[ColumnMatch], profiles: Sequence[ColumnProfile], rows: int) -> bool:
    """Whether some columns hold twice the bits that tell `rows` rows apart."""
    bits = sum(profiles[c.original].entropy for c in columns)
    return len(columns) >= 2 and bits >= 2 * math.log2(max(2, rows))


def _settle(
    original: CanonicalTable,
    suspect: CanonicalTable,
    profiles: Sequence[ColumnProfile],
    start: Sequence[ColumnMatch],
    columns: tuple[ColumnMatch, ...],
) -> tuple[ColumnMatch, ...]:
    """Correct and complete the columns by the rows that those of `start` align."""
    first, _ = distinct_rows(suspect, start)
    probe = first[np.linspace(0, len(first) - 1, min(_PROBE_ROWS, len(first))).astype(np.int64)]
    sides = make_sides(profiles, suspect, start).take(probe)
    _, match = fit_linkage(sides, _PROBE_LOOKUPS)
    hit = match.original >= 0
    return refine_columns(original, suspect, columns, probe[hit], match.original[hit])
