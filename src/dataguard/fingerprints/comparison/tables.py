"""Two tables measured: do they share rows, how many, and what was done to them.

Schemas, names and value ranges prove nothing: sibling data share them all. A relation
of rows is claimed only when both contrasts of :mod:`dataguard.fingerprints.comparison.contrasts`
are beyond chance, or every cell is the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Alignment, ColumnMatch
from dataguard.fingerprints.alignment.profiles import ColumnProfile, profile_column
from dataguard.fingerprints.changes.change import Change
from dataguard.fingerprints.comparison.contrasts import other_rows, random_pairing
from dataguard.model import Finding, Relation, Shown, plain
from dataguard.values import CanonicalTable, mix64

__all__ = [
    "WITHIN",
    "ColumnComparison",
    "Comparison",
    "Containment",
    "RowCounts",
    "column_changes",
    "compare",
    "containments",
    "relation_of",
    "summed_up",
    "table_changes",
]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

SCHEMA = "dataguard.compare/1"

WITHIN = 0.98
"""Share of a table's decided rows that must be found in the other for it to lie within the other."""


@dataclass(frozen=True, slots=True)
class Containment:
    """Share of one table's rows that are found in the other.

    Attributes
    ----------
    estimate, low, high : float
        Between 0 and 1. Rows that several rows of the other table fit count as not found
        in `low`, as found in `high`, and as found in `estimate` if their content is there.
    exact : bool
        Whether every row was decided.
    """

    estimate: float
    low: float
    high: float
    exact: bool

    @property
    def is_whole(self) -> bool:
        """Whether the rows that were decided are found, nearly all of them."""
        undecided = self.high - self.low
        return self.estimate > 0 and self.low >= WITHIN * (1 - undecided)


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Rows of both tables, suspect rows that were looked for, and those matched to an original row."""

    original: int
    suspect: int
    examined: int
    matched: int


@dataclass(frozen=True, slots=True)
class ColumnComparison:
    """One matched pair of columns.

    Attributes
    ----------
    original, suspect : str
        Column names.
    changes : tuple of Change
    agreement : float or None
        Share of matched rows whose cells are equal; None when no row is matched.
    """

    original: str
    suspect: str
    changes: tuple[Change, ...]
    agreement: float | None


@dataclass(frozen=True, slots=True)
class Comparison(Shown):
    """The outcome of comparing a suspect with an original.

    Attributes
    ----------
    relation : Relation
    changes : tuple of Change
        Of the table as a whole.
    containment_original, containment_suspect : Containment
        Share of the original's rows found in the suspect, and the reverse.
    rows : RowCounts
    columns : tuple of ColumnComparison
    log10_p : float or None
        The worse of the findings; None where they were not computed.
    null_hypothesis : str
        What is assumed in `log10_p`.
    findings : tuple of Finding
    """

    relation: Relation
    changes: tuple[Change, ...]
    containment_original: Containment
    containment_suspect: Containment
    rows: RowCounts
    columns: tuple[ColumnComparison, ...]
    log10_p: float | None
    null_hypothesis: str
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON types, as the command prints it."""
        return {
            "schema": SCHEMA,
            "relation": str(self.relation),
            "changes": [c.to_dict() for c in self.changes],
            "containment_original": plain(self.containment_original),
            "containment_suspect": plain(self.containment_suspect),
            "rows": plain(self.rows),
            "columns": [
                {
                    "original": c.original,
                    "suspect": c.suspect,
                    "changes": [x.to_dict() for x in c.changes],
                    "agreement": c.agreement,
                }
                for c in self.columns
            ],
            "log10_p": self.log10_p,
            "null_hypothesis": self.null_hypothesis,
            "findings": plain(self.findings),
        }


def compare(
    original: CanonicalTable, suspect: CanonicalTable, alignment: Alignment, alpha: float = 1e-6
) -> Comparison:
    """Return how a suspect relates to an original.

    Parameters
    ----------
    original, suspect : CanonicalTable
    alignment : Alignment
        Of these two tables.
    alpha : float
        A relation of rows is claimed only when `log10_p` is at most log10 of this.
    """
    profiles = [profile_column(c) for c in original.columns]
    findings = _findings(profiles, suspect, alignment)
    worst = max(findings, key=lambda f: f.log10_p or 0.0, default=None)
    columns = tuple(column_changes(original, suspect, profiles, alignment, c) for c in alignment.columns)
    altered = any(change.kind == "near-values" for c in columns for change in c.changes)
    in_original, in_suspect = containments(original, suspect, alignment, altered=altered)
    same = _identical(original, suspect)
    if same:
        relation = Relation.IDENTICAL
        in_original = in_suspect = Containment(1.0, 1.0, 1.0, exact=True)
    else:
        # For the relation a row that was not found counts as foreign: nothing is claimed for it.
        strict = containments(original, suspect, alignment, altered=False)
        relation = relation_of(original, suspect, alignment, *strict, worst, alpha)
    return Comparison(
        relation,
        table_changes(original, suspect, alignment, relation, in_suspect),
        in_original,
        in_suspect,
        RowCounts(original.rows, suspect.rows, suspect.rows, len(alignment.suspect_row)),
        columns,
        *summed_up(worst),
        findings,
    )


def summed_up(worst: Finding | None) -> tuple[float | None, str]:
    """Return log10 p and null hypothesis of the worse finding."""
    if worst is None:
        return None, "not computed: fewer than two columns that vary, or no rows, in common"
    return worst.log10_p, worst.null_hypothesis


def _findings(
    profiles: Sequence[ColumnProfile], suspect: CanonicalTable, alignment: Alignment
) -> tuple[Finding, ...]:
    """Both contrasts, or nothing: one alone is no ground for a claim."""
    if len(alignment.suspect_row) == 0:
        return ()
    both = (
        other_rows(profiles, suspect, alignment.columns),
        random_pairing(profiles, suspect, alignment.columns),
    )
    found = tuple(f for f in both if f is not None)
    return found if len(found) == len(both) else ()


def _identical(original: CanonicalTable, suspect: CanonicalTable) -> bool:
    return (
        original.names == suspect.names
        and original.rows == suspect.rows
        and all(np.array_equal(a.key, b.key) for a, b in zip(original.columns, suspect.columns, strict=True))
    )


def relation_of(
    original: CanonicalTable,
    suspect: CanonicalTable,
    alignment: Alignment,
    in_original: Containment,
    in_suspect: Containment,
    worst: Finding | None,
    alpha: float,
) -> Relation:
    """Return the relation that the containments and the worse finding allow to state."""
    if worst is not None and worst.log10_p is not None and worst.log10_p <= math.log10(alpha):
        within, covers = in_suspect.is_whole, in_original.is_whole
        if within:
            return Relation.SAME_ROWS if covers else Relation.SUBSET
        return Relation.SUPERSET if covers else Relation.OVERLAP
    shared = len(alignment.columns)
    enough = shared > 0 and 2 * shared >= min(len(original.columns), len(suspect.columns))
    return Relation.SAME_SCHEMA if enough else Relation.UNRELATED


# --- how much --------------------------------------------------------------------------------------


def _row_hashes(table: CanonicalTable, positions: Sequence[int]) -> U64:
    h = np.zeros(table.rows, np.uint64)
    for c in positions:
        h = mix64(h ^ table.columns[c].key)
    return h


def containments(
    original: CanonicalTable, suspect: CanonicalTable, alignment: Alignment, *, altered: bool
) -> tuple[Containment, Containment]:
    """Share of the original's rows found in the suspect, and of the suspect's in the original.

    In an altered copy a row that was not found may still be a row of the original, altered
    in too many cells: the upper limits leave that open.
    """
    left = _row_hashes(original, [c.original for c in alignment.columns])
    right = _row_hashes(suspect, [c.suspect for c in alignment.columns])
    open_row, open_original = np.ones(len(right), np.bool_), np.ones(len(left), np.bool_)
    open_row[alignment.suspect_row] = False
    open_original[alignment.original_row] = False
    ambiguous = alignment.ambiguous
    twins = int(np.isin(right[open_row], left).sum()) if ambiguous else 0
    # Rows left open on both sides with one content meet as often as the rarer side has it.
    meeting = _meeting(left[open_original], right[open_row]) if ambiguous else 0
    matched = len(np.unique(alignment.original_row))
    unsure = suspect.rows - len(alignment.suspect_row) if altered else ambiguous
    return (
        _containment(matched, min(meeting, ambiguous), unsure, original.rows),
        _containment(len(alignment.suspect_row), min(twins, ambiguous), unsure, suspect.rows),
    )


def _meeting(left: U64, right: U64) -> int:
    a, counts_a = np.unique(left, return_counts=True)
    b, counts_b = np.unique(right, return_counts=True)
    _, i, j = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    return int(np.minimum(counts_a[i], counts_b[j]).sum())


def _containment(found: int, twins: int, unsure: int, rows: int) -> Containment:
    if rows == 0:
        return Containment(0.0, 0.0, 0.0, exact=True)
    low, high = found / rows, min(1.0, (found + unsure) / rows)
    return Containment(min(high, (found + twins) / rows), low, high, exact=unsure == 0)


# --- what was done ---------------------------------------------------------------------------------


def table_changes(
    original: CanonicalTable,
    suspect: CanonicalTable,
    alignment: Alignment,
    relation: Relation,
    in_suspect: Containment,
) -> tuple[Change, ...]:
    """Return what was done to the table as a whole."""
    if relation is Relation.IDENTICAL or not alignment.columns:
        return ()
    changes = []
    if (np.diff(alignment.original_row) < 0).any():
        changes.append(Change("reordered"))
    if any(a.original > b.original for a, b in _neighbours(alignment.columns)):
        changes.append(Change("columns-reordered"))
    kept = {c.original for c in alignment.columns}
    known = {c.suspect for c in alignment.columns}
    dropped = [n for i, n in enumerate(original.names) if i not in kept]
    added = [n for i, n in enumerate(suspect.names) if i not in known]
    changes += [Change("columns-dropped", {"columns": dropped})] if dropped else []
    changes += [Change("columns-added", {"columns": added})] if added else []
    for c in alignment.columns:
        names = original.names[c.original], suspect.names[c.suspect]
        changes += [Change("renamed", {"from": names[0], "to": names[1]})] if names[0] != names[1] else []
    if relation in {Relation.OVERLAP, Relation.SUPERSET}:
        # Only rows that are surely foreign are a mixture.
        foreign = 1 - in_suspect.high
        changes += [Change("mixed", {"share": foreign})] if foreign > 0 else []
    repeated = len(alignment.original_row) - len(np.unique(alignment.original_row))
    changes += [Change("duplicated", {"rows": repeated})] if repeated else []
    return tuple(changes)


def _neighbours(columns: Sequence[ColumnMatch]) -> list[tuple[ColumnMatch, ColumnMatch]]:
    ordered = sorted(columns, key=lambda c: c.suspect)
    return list(itertools.pairwise(ordered))


def column_changes(
    original: CanonicalTable,
    suspect: CanonicalTable,
    profiles: Sequence[ColumnProfile],
    alignment: Alignment,
    match: ColumnMatch,
) -> ColumnComparison:
    """Return what was done to one column."""
    names = original.names[match.original], suspect.names[match.suspect]
    rows = len(alignment.suspect_row)
    if rows == 0:
        return ColumnComparison(*names, (), None)
    a, b = original.columns[match.original], suspect.columns[match.suspect]
    same = a.key[alignment.original_row] == b.key[alignment.suspect_row]
    profile = profiles[match.original]
    value = profile.numbers[profile.ids[alignment.original_row]]
    distance = np.abs(value - b.number[alignment.suspect_row])
    near = ~same & (distance <= profile.tau)
    far = ~same & ~near
    changes = []
    if near.any():
        changes.append(
            Change("near-values", {"share": round(float(near.mean()), 4), "max": float(distance[near].max())})
        )
    if far.any():
        changes.append(Change("far-values", {"share": round(float(far.mean()), 4)}))
    return ColumnComparison(*names, tuple(changes), float(same.mean()))
