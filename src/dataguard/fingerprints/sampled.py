"""Two tables too large to be held in memory, compared by samples.

Rows of each side are drawn evenly and looked for in all of the other; shares come with
Clopper-Pearson intervals. The two contrasts hold as they do for whole tables: controls are
looked for like suspect rows, and for the pairing contrast rows are gathered by the first
half of the columns alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Alignment, ColumnMatch, Large
from dataguard.fingerprints.compare import (
    Comparison,
    Containment,
    RowCounts,
    column_changes,
    containments,
    relation_of,
    summed_up,
    table_changes,
)
from dataguard.fingerprints.contrasts import PAIRED, TESTED, by_hash, halves, other_rows, random_pairing
from dataguard.fingerprints.gather import Query, candidates, gather_rows, propose_over_blocks
from dataguard.fingerprints.linkage import CONTROLS
from dataguard.fingerprints.profiles import profile_column
from dataguard.fingerprints.rows import align
from dataguard.fingerprints.sides import distinct_rows
from dataguard.model import Finding
from dataguard.values import CanonicalTable

__all__ = ["SAMPLED", "clopper_pearson", "compare_sampled"]

I64 = NDArray[np.int64]

SAMPLED = 20_000
"""Rows of each table that are looked for in the other, at most."""

BACKGROUND = 1 << 16
"""Rows of a table that tell what is frequent in it."""

_MISS = 1e-3
"""Chance that a share lies outside its interval, on each side."""


def compare_sampled(
    original: Large[CanonicalTable], suspect: Large[CanonicalTable], alpha: float = 1e-6
) -> Comparison:
    """Return how a suspect relates to an original.

    Parameters
    ----------
    original, suspect : Large of CanonicalTable
    alpha : float
        A relation of rows is claimed only when `log10_p` is at most log10 of this.
    """
    background = _spread(original.units, min(BACKGROUND, original.room // 4))
    typical = original.take(background)
    drawn = suspect.take(_spread(suspect.units, _looked_for(original)))
    columns = propose_over_blocks(original, typical, drawn)
    # The control rows are part of the background, evenly spread over it.
    pool = _spread(len(background), CONTROLS + TESTED)
    own = [ColumnMatch(c.original, c.original, c.by, 1.0) for c in columns]
    split = halves([profile_column(c) for c in typical.columns], columns)
    by_left = _rows(drawn, by_hash(drawn, split[0], distinct_rows(drawn, split[0])[0])[:PAIRED])
    queries = [Query(drawn, columns), Query(_rows(typical, pool), own), Query(by_left, split[0])]
    of_drawn, of_controls, of_left = gather_rows(original, typical, queries)
    positions = np.union1d(background, np.concatenate([of_drawn, of_controls]))
    narrow = original.take(positions)
    controls = np.searchsorted(positions, background[pool])
    aligned = align(narrow, drawn, controls)
    findings = _findings(
        narrow, drawn, aligned, controls, original.take(np.union1d(background, of_left)), by_left, split
    )
    worst = max(findings, key=lambda f: f.log10_p or 0.0, default=None)
    profiles = [profile_column(c) for c in narrow.columns]
    changed = tuple(column_changes(narrow, drawn, profiles, aligned, c) for c in aligned.columns)
    altered = any(change.kind == "near-values" for c in changed for change in c.changes)
    in_suspect = [_share(narrow, drawn, aligned, altered=a) for a in (altered, False)]
    back = _backwards(original, suspect)
    in_original = [_share(*back, altered=a) for a in (altered, False)]
    relation = relation_of(narrow, drawn, aligned, in_original[1], in_suspect[1], worst, alpha)
    return Comparison(
        relation,
        table_changes(narrow, drawn, aligned, relation, in_suspect[0]),
        in_original[0],
        in_suspect[0],
        RowCounts(original.units, suspect.units, drawn.rows, len(aligned.suspect_row)),
        changed,
        *summed_up(worst),
        findings,
    )


def _findings(
    narrow: CanonicalTable,
    drawn: CanonicalTable,
    aligned: Alignment,
    controls: I64,
    by_half: CanonicalTable,
    left: CanonicalTable,
    split: tuple[list[ColumnMatch], list[ColumnMatch]],
) -> tuple[Finding, ...]:
    """Both contrasts, or nothing: one alone is no ground for a claim."""
    if len(aligned.suspect_row) == 0:
        return ()
    first = other_rows([profile_column(c) for c in narrow.columns], drawn, aligned.columns, controls)
    second = random_pairing([profile_column(c) for c in by_half.columns], left, aligned.columns, split)
    return (first, second) if first is not None and second is not None else ()


def _backwards(
    original: Large[CanonicalTable], suspect: Large[CanonicalTable]
) -> tuple[CanonicalTable, CanonicalTable, Alignment]:
    """Look for rows of the original in the suspect; return what was gathered of it, the rows, and the alignment."""
    background = _spread(suspect.units, min(BACKGROUND, suspect.room // 4))
    typical = suspect.take(background)
    drawn = original.take(_spread(original.units, _looked_for(suspect)))
    positions = np.union1d(background, candidates(suspect, typical, drawn))
    narrow = suspect.take(positions)
    return narrow, drawn, align(narrow, drawn)


def _looked_for(other: Large[CanonicalTable]) -> int:
    """Return how many rows to look for in a table: eight candidates of each must fit in memory."""
    return min(SAMPLED, max(1, other.room // 12))


def _share(whole: CanonicalTable, drawn: CanonicalTable, aligned: Alignment, *, altered: bool) -> Containment:
    """Return the share of drawn rows that are found, with the limits of the drawing added to its own."""
    found = containments(whole, drawn, aligned, altered=altered)[1]
    low, _ = clopper_pearson(round(found.low * drawn.rows), drawn.rows)
    _, high = clopper_pearson(round(found.high * drawn.rows), drawn.rows)
    return Containment(found.estimate, low, high, exact=False)


def clopper_pearson(hits: int, rows: int) -> tuple[float, float]:
    """Return the exact binomial interval for a share, each side missed with a chance of at most 0.1 %.

    Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934; rows drawn
    from a finite table lie nearer to its share than binomial ones.
    """
    from scipy.special import betaincinv

    if rows == 0:
        return 0.0, 1.0
    low = float(betaincinv(hits, rows - hits + 1, _MISS)) if hits else 0.0
    high = float(betaincinv(hits + 1, rows - hits, 1 - _MISS)) if hits < rows else 1.0
    return low, high


def _spread(rows: int, count: int) -> I64:
    """Return `count` row numbers, evenly spread."""
    if rows <= count:
        return np.arange(rows, dtype=np.int64)
    return (np.arange(count, dtype=np.int64) * rows) // count


def _rows(table: CanonicalTable, rows: Sequence[int] | I64) -> CanonicalTable:
    return CanonicalTable(table.names, tuple(c.take(np.asarray(rows, np.int64)) for c in table.columns))
