"""Two tables measured: do they share rows, how many, and what was done to them.

Schemas, names and value ranges prove nothing: sibling data share them all. A relation
of rows is claimed only when both contrasts of :mod:`dataguard.fingerprints.comparison.contrasts`
are beyond chance, or every cell is the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Alignment, ColumnMatch
from dataguard.fingerprints.alignment.profiles import ColumnProfile, profile_column
from dataguard.fingerprints.changes.change import Change
from dataguard.fingerprints.changes.naming import name_changes
from dataguard.fingerprints.comparison.contrasts import other_rows, random_pairing, standing_out
from dataguard.fingerprints.comparison.parts import further_parts
from dataguard.fingerprints.comparison.summary import summary_html
from dataguard.folding.columns import fold_table
from dataguard.model import Finding, Relation, Shown, plain
from dataguard.values import CanonicalTable

__all__ = [
    "WITHIN",
    "Basis",
    "ColumnComparison",
    "Comparison",
    "Containment",
    "RowCounts",
    "column_changes",
    "compare",
    "containments",
    "is_altered",
    "relation_of",
    "stands_out",
    "summed_up",
    "table_changes",
    "worse",
]

I64 = NDArray[np.int64]

SCHEMA = "dataguard.compare/1"

_ALTERING = {"near-values", "far-values", "noise"}

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
    """Rows of both tables, suspect rows that were looked for, and those matched to an original row.

    `tied` rows have the content of several original rows, or content that chance would give; they were
    matched one to one in order and are not among the `matched`.
    """

    original: int
    suspect: int
    examined: int
    matched: int
    tied: int = 0


@dataclass(frozen=True, slots=True)
class ColumnComparison:
    """One matched pair of columns.

    Attributes
    ----------
    original, suspect : str
        Column names.
    by : str
        What the match rests on: ``name``, ``values`` or ``rows``.
    changes : tuple of Change
    agreement : float or None
        Share of matched rows whose cells are equal; None when no row is matched.
    explained : float or None
        Share of matched rows whose cells are equal after undoing the changes.
    """

    original: str
    suspect: str
    by: str
    changes: tuple[Change, ...]
    agreement: float | None
    explained: float | None


@dataclass(frozen=True, slots=True)
class Basis:
    """Two tables as they were compared (samples, where they were sampled), and their alignment."""

    original: CanonicalTable
    suspect: CanonicalTable
    alignment: Alignment


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
    parts : mapping
        Further measurements by name, JSON-ready: ``derived``, ``evidence`` (``rarity``, ``errors``),
        ``direction``, ``public``; absent where there is nothing to say.
    basis : Basis or None
        What was compared, for those who show rows of it; not part of the document.
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
    parts: Mapping[str, Any] = field(default_factory=dict)
    basis: Basis | None = field(default=None, repr=False, compare=False)

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
                    "by": c.by,
                    "changes": [x.to_dict() for x in c.changes],
                    "agreement": c.agreement,
                    "explained": c.explained,
                }
                for c in self.columns
            ],
            "log10_p": self.log10_p,
            "null_hypothesis": self.null_hypothesis,
            "findings": plain(self.findings),
            **self.parts,
        }

    def _repr_html_(self) -> str:
        return summary_html(self.to_dict())


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
        Half of it is spent on a relation of rows, which is stated only when `log10_p` is at most log10 of that,
        and half on a derivation by groups, which is looked for only where no relation of rows is.
    """
    a, b = fold_table(original), fold_table(suspect)
    profiles = [profile_column(c) for c in a.columns]
    findings = _findings(profiles, b, alignment)
    worst = worse(findings)
    columns = column_changes(original, suspect, alignment)
    in_original, in_suspect = containments(alignment, altered=is_altered(columns))
    if _identical(original, suspect):
        relation = Relation.IDENTICAL
        in_original = in_suspect = Containment(1.0, 1.0, 1.0, exact=True)
    elif _same_contents(original, suspect, alignment):
        relation = Relation.SAME_ROWS
    else:
        # For the relation a row that was not found counts as foreign: nothing is claimed for it.
        strict = containments(alignment, altered=False)
        relation = relation_of(original, suspect, alignment, *strict, findings, alpha / 2)
    parts, more = further_parts(original, suspect, (a, b), alignment, relation, alpha)
    if "derived" in parts:
        relation = Relation.DERIVED
    if relation in {Relation.DERIVED, Relation.SAME_SCHEMA, Relation.UNRELATED}:
        # Contents that chance would give are no rows found: ids both sides count from 1, days of one calendar.
        in_original, in_suspect = (replace(c, estimate=c.low) for c in (in_original, in_suspect))
    return Comparison(
        relation,
        (*table_changes(original, suspect, alignment, relation, in_suspect), *more.changes),
        in_original,
        in_suspect,
        RowCounts(
            original.rows, suspect.rows, suspect.rows, len(alignment.suspect_row), len(alignment.tied_suspect)
        ),
        columns,
        *(summed_up(worst) if more.finding is None else summed_up(more.finding)),
        (*findings, *([] if more.finding is None else [more.finding])),
        parts,
        Basis(original, suspect, alignment),
    )


def worse(findings: Sequence[Finding]) -> Finding | None:
    """Return the finding with the larger probability; conditions without one do not count."""
    tests = [f for f in findings if f.log10_p is not None]
    return max(tests, key=lambda f: f.log10_p or 0.0, default=None)


def summed_up(worst: Finding | None) -> tuple[float | None, str]:
    """Return log10 p and null hypothesis of the worse finding."""
    if worst is None:
        return None, "not computed: fewer than two columns that vary, or no rows, in common"
    return worst.log10_p, worst.null_hypothesis


def _findings(
    profiles: Sequence[ColumnProfile], suspect: CanonicalTable, alignment: Alignment
) -> tuple[Finding, ...]:
    """Both contrasts and the condition, or nothing: one alone is no ground for a claim."""
    if len(alignment.suspect_row) == 0:
        return ()
    found = (
        other_rows(profiles, suspect, alignment.columns),
        random_pairing(profiles, suspect, alignment.columns),
        standing_out(profiles, suspect, alignment),
    )
    known = tuple(f for f in found if f is not None)
    return known if len(known) == len(found) else ()


def stands_out(findings: Sequence[Finding]) -> bool:
    """Whether at least half of the matched rows looked at stand out against their neighbours."""
    counts = [f.counts for f in findings if "standing_out" in f.counts]
    return all(2 * c["standing_out"] >= c["rows"] for c in counts)


def _identical(original: CanonicalTable, suspect: CanonicalTable) -> bool:
    return (
        original.names == suspect.names
        and original.rows == suspect.rows
        and all(np.array_equal(a.key, b.key) for a, b in zip(original.columns, suspect.columns, strict=True))
    )


def _same_contents(original: CanonicalTable, suspect: CanonicalTable, alignment: Alignment) -> bool:
    """Whether both tables hold the same rows in every column, in whatever order: a fact, whatever its chance."""
    every = len(original.columns) == len(suspect.columns) == len(alignment.columns)
    found = len(alignment.suspect_row) + len(alignment.tied_suspect)
    if not every or not original.rows == suspect.rows == found:
        return False
    rows = np.concatenate([alignment.suspect_row, alignment.tied_suspect])
    own = np.concatenate([alignment.original_row, alignment.tied_original])
    return len(np.unique(own)) == found and all(
        np.array_equal(original.columns[c.original].key[own], suspect.columns[c.suspect].key[rows])
        for c in alignment.columns
    )


def relation_of(
    original: CanonicalTable,
    suspect: CanonicalTable,
    alignment: Alignment,
    in_original: Containment,
    in_suspect: Containment,
    findings: Sequence[Finding],
    alpha: float,
) -> Relation:
    """Return the relation that the containments and the worse finding allow to state."""
    worst = worse(findings) if stands_out(findings) else None
    if worst is not None and worst.log10_p is not None and worst.log10_p <= math.log10(alpha):
        within, covers = in_suspect.is_whole, in_original.is_whole
        if within:
            return Relation.SAME_ROWS if covers else Relation.SUBSET
        return Relation.SUPERSET if covers else Relation.OVERLAP
    shared = len(alignment.columns)
    enough = shared > 0 and 2 * shared >= min(len(original.columns), len(suspect.columns))
    return Relation.SAME_SCHEMA if enough else Relation.UNRELATED


# --- how much --------------------------------------------------------------------------------------


def containments(alignment: Alignment, *, altered: bool) -> tuple[Containment, Containment]:
    """Share of the original's rows found in the suspect, and of the suspect's in the original.

    In an altered copy a row that was not found may still be a row of the original, altered
    in too many cells: the upper limits leave that open.
    """
    found, tied = len(alignment.suspect_row), len(alignment.tied_suspect)
    own = len(np.unique(alignment.original_row))
    open_ = alignment.n_suspect - found
    # What is ambiguous in near values has no content in common: it is not among the tied.
    unsure = open_ if altered else min(open_, max(tied, alignment.ambiguous))
    return (
        _containment(own, len(alignment.tied_original), unsure, alignment.n_original),
        _containment(found, tied, unsure, alignment.n_suspect),
    )


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
    original: CanonicalTable, suspect: CanonicalTable, alignment: Alignment
) -> tuple[ColumnComparison, ...]:
    """Return what was done to each matched column, from the cells of matched rows."""
    out = []
    for match in alignment.columns:
        names = original.names[match.original], suspect.names[match.suspect]
        if len(alignment.suspect_row) == 0:
            out.append(ColumnComparison(*names, match.by, (), None, None))
            continue
        done = name_changes(
            original.columns[match.original], suspect.columns[match.suspect],
            alignment.original_row, alignment.suspect_row,
        )  # fmt: skip
        out.append(ColumnComparison(*names, match.by, done.changes, done.equal, done.explained))
    return tuple(out)


def is_altered(columns: Sequence[ColumnComparison]) -> bool:
    """Whether cells were moved or shaken, so that a row may have become too different to be found."""
    return any(change.kind in _ALTERING for c in columns for change in c.changes)
