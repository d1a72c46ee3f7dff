"""Two tables too large to be held in memory, compared by samples.

Rows of each side are drawn evenly and looked for in all of the other; shares come with
Clopper-Pearson intervals. The two contrasts hold as they do for whole tables: controls are
looked for like suspect rows, and for the pairing contrast rows are gathered by the first
half of the columns alone.

One row from each stretch of a file lies nearer to its share than binomial rows do. The rows drawn are known
to whoever knows the number of rows: an interval is no promise against a file made to mislead it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Alignment, ColumnMatch, Large
from dataguard.fingerprints.alignment.gather import (
    Query,
    fold_large,
    gather_rows,
    propose_over_blocks,
)
from dataguard.fingerprints.alignment.linkage import CONTROLS
from dataguard.fingerprints.alignment.profiles import profile_column
from dataguard.fingerprints.alignment.rows import align
from dataguard.fingerprints.alignment.sides import distinct_rows
from dataguard.fingerprints.comparison.contrasts import (
    PAIRED,
    TESTED,
    by_hash,
    halves,
    other_rows,
    random_pairing,
    standing_out,
)
from dataguard.fingerprints.comparison.parts import further_parts
from dataguard.fingerprints.comparison.tables import (
    Basis,
    Comparison,
    Containment,
    RowCounts,
    column_changes,
    containments,
    is_altered,
    relation_of,
    summed_up,
    table_changes,
    worse,
)
from dataguard.fingerprints.sketches.estimate import binomial_limits
from dataguard.folding.columns import fold_table
from dataguard.formats.blocks import spread
from dataguard.model import Finding
from dataguard.values import CanonicalTable, mix64

__all__ = ["SAMPLED", "compare_sampled"]

I64 = NDArray[np.int64]

SAMPLED = 20_000
"""Rows of each table that are looked for in the other, at most."""

BACKGROUND = 1 << 16
"""Rows of a table that tell what is frequent in it."""


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
    background = spread(original.units, min(BACKGROUND, original.room // 4))
    sample = original.take(background)
    raw = suspect.take(spread(suspect.units, _looked_for(original)))
    typical, drawn, whole = fold_table(sample), fold_table(raw), fold_large(original, sample)
    columns = propose_over_blocks(whole, typical, drawn)
    # The control rows are part of the background, in an order of their own: some of them fit the linkage
    # and the others are tested, and a file may hold other rows at its beginning than at its end.
    pool = spread(len(background), CONTROLS + TESTED)
    pool = pool[np.argsort(mix64(pool.astype(np.uint64)), kind="stable")]
    own = [ColumnMatch(c.original, c.original, c.by, 1.0) for c in columns]
    split = halves([profile_column(c) for c in typical.columns], columns, drawn, fresh=False)
    by_left = drawn.take(by_hash(drawn, split[0], distinct_rows(drawn, split[0])[0])[:PAIRED])
    queries = [Query(drawn, columns), Query(typical.take(pool), own), Query(by_left, split[0])]
    of_drawn, of_controls, of_left = gather_rows(whole, typical, queries)
    positions = np.union1d(background, np.concatenate([of_drawn, of_controls]))
    narrow = original.take(positions)
    controls = np.searchsorted(positions, background[pool])
    aligned = align(narrow, raw, controls)
    by_half = whole.take(np.union1d(background, of_left))
    folded = fold_table(narrow), drawn
    findings = _findings(*folded, aligned, controls, by_half, by_left, split)
    changed = column_changes(narrow, raw, aligned)
    altered = is_altered(changed)
    back = _backwards(original, suspect)
    in_suspect, in_original = _share(aligned, altered=altered), _share(back, altered=altered)
    strict = _strict(back), _strict(aligned)
    relation = relation_of(narrow, raw, aligned, *strict, findings, alpha / 2)
    parts, more = further_parts(narrow, raw, folded, aligned, relation, alpha, sampled=True)
    return Comparison(
        relation,
        (*table_changes(narrow, raw, aligned, relation, in_suspect), *more.changes),
        in_original,
        in_suspect,
        RowCounts(
            original.units, suspect.units, drawn.rows, len(aligned.suspect_row), len(aligned.tied_suspect)
        ),
        changed,
        *summed_up(worse(findings)),
        findings,
        parts,
        Basis(narrow, raw, aligned),
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
    """Both contrasts and the condition, or nothing: one alone is no ground for a claim."""
    if len(aligned.suspect_row) == 0:
        return ()
    profiles = [profile_column(c) for c in narrow.columns]
    first = other_rows(profiles, drawn, aligned.columns, controls)
    second = random_pairing([profile_column(c) for c in by_half.columns], left, aligned.columns, split)
    third = standing_out(profiles, drawn, aligned)
    return () if first is None or second is None or third is None else (first, second, third)


def _backwards(original: Large[CanonicalTable], suspect: Large[CanonicalTable]) -> Alignment:
    """Look for rows of the original in the suspect; return the alignment with what was gathered of it."""
    background = spread(suspect.units, min(BACKGROUND, suspect.room // 4))
    sample = suspect.take(background)
    drawn = original.take(spread(original.units, _looked_for(suspect)))
    typical, wanted, whole = fold_table(sample), fold_table(drawn), fold_large(suspect, sample)
    columns = propose_over_blocks(whole, typical, wanted)
    # Controls are rows whose own candidates are gathered too, or they would seem never to be found.
    pool = spread(len(background), CONTROLS)
    pool = pool[np.argsort(mix64(pool.astype(np.uint64)), kind="stable")]
    own = [ColumnMatch(c.original, c.original, c.by, 1.0) for c in columns]
    queries = [Query(wanted, columns), Query(typical.take(pool), own)]
    positions = np.union1d(background, np.concatenate(gather_rows(whole, typical, queries)))
    return align(suspect.take(positions), drawn, np.searchsorted(positions, background[pool]))


def _strict(aligned: Alignment) -> Containment:
    """Return the share on which a relation rests: what the drawing leaves open counts as not found."""
    found, rows = containments(aligned, altered=False)[1], aligned.n_suspect
    low, _ = binomial_limits(round(found.low * rows), rows)
    return Containment(found.estimate, low, min(1.0, low + found.high - found.low), exact=False)


def _looked_for(other: Large[CanonicalTable]) -> int:
    """Return how many rows to look for in a table: eight candidates of each must fit in memory."""
    return min(SAMPLED, max(1, other.room // 12))


def _share(aligned: Alignment, *, altered: bool) -> Containment:
    """Return the share of drawn rows that are found, with the limits of the drawing added to its own."""
    found, rows = containments(aligned, altered=altered)[1], aligned.n_suspect
    low, _ = binomial_limits(round(found.low * rows), rows)
    _, high = binomial_limits(round(found.high * rows), rows)
    return Containment(found.estimate, low, high, exact=False)
