"""How much rare content matched rows share.

A value that nearly every row has is shared by any two tables; one that a single row holds is not. The
weight is a description, in bits, of what was found: sources that are observed twice share rare values
too, and rows were matched because they agree, so no probability of chance follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Alignment
from dataguard.constraints.columns import spread
from dataguard.fingerprints.alignment.profiles import ColumnProfile
from dataguard.fingerprints.comparison.seen import SeenColumn, cell_text, see_columns
from dataguard.model import Finding
from dataguard.values import CanonicalTable

__all__ = ["MOST_ROWS", "ColumnWeight", "RareCell", "Rarity", "weigh_rarity"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MOST_ROWS = 20_000
"""Matched rows that are weighed, at most; chosen by a public hash of their rank."""

_MOST_COLUMNS = 64
"""Columns that are weighed, those of the highest entropy; the others add nothing."""

_PREDICTORS = 3
"""Columns counted before that a column is held against, cell by cell."""

_LOOK = 4096
"""Original rows from which the best predictors are chosen."""

_SHOWN, _SHOWN_OF_COLUMN = 20, 4
_RARE = 20
"""A value is shown as rare when at most so many original rows hold it."""


@dataclass(frozen=True, slots=True)
class RareCell:
    """A rare value that a matched row shows as well.

    Attributes
    ----------
    original_row, suspect_row : int
        Row numbers from 0.
    column : str
        Name in the original.
    value : str
        The original's, at most 80 characters.
    held : int
        Original rows that hold it (as far as the suspect's rounding or recoding tells).
    """

    original_row: int
    suspect_row: int
    column: str
    value: str
    held: int


@dataclass(frozen=True, slots=True)
class ColumnWeight:
    """What one column adds.

    Attributes
    ----------
    column : str
        Name in the original.
    given : tuple of str
        Columns counted before that its values are held against.
    equal : int
        Weighed rows with equal cells.
    unique : int
        Of these, cells whose value occurs in one original row only.
    bits : float
        Added in all weighed rows together.
    """

    column: str
    given: tuple[str, ...]
    equal: int
    unique: int
    bits: float


@dataclass(frozen=True, slots=True)
class Rarity:
    """The weight of the rare values that matched rows share.

    Attributes
    ----------
    matched, weighed : int
        Matched rows, and those that were weighed.
    total_bits, median_bits : float
        Over the weighed rows: the sum, and the middle row.
    unique_cells, unique_rows : int
        Equal cells whose value occurs exactly once in the original's column, and rows with such a cell.
    columns : tuple of ColumnWeight
        In the order in which they were counted.
    rarest : tuple of RareCell
        At most 20, the rarest first, at most four per column.
    finding : Finding
        The counts; without a probability.
    """

    matched: int
    weighed: int
    total_bits: float
    median_bits: float
    unique_cells: int
    unique_rows: int
    columns: tuple[ColumnWeight, ...]
    rarest: tuple[RareCell, ...]
    finding: Finding


def weigh_rarity(
    original: CanonicalTable,
    suspect: CanonicalTable,
    alignment: Alignment,
    profiles: Sequence[ColumnProfile] | None = None,
) -> Rarity:
    """Return the weight of the values that matched rows share.

    Parameters
    ----------
    original, suspect : CanonicalTable
        The tables that were aligned (folded, if they were folded for it).
    alignment : Alignment
    profiles : sequence of ColumnProfile, optional
        Of all columns of the original.

    Notes
    -----
    A cell that agrees adds -log2 of the frequency of its value (the agreement weight of Fellegi and Sunter,
    JASA 1969, with m = 1). Columns depend on each other, so they are counted from the highest
    entropy down, each given what was counted before: its frequency is taken among the original rows that
    are equal in one earlier column, by the one of three that leaves the least (a tree of dependence as in Chow and Liu,
    IEEE Trans. Inf. Theory 14, 1968, but by the least instead of a fixed parent). Where an earlier
    column names the row (a key, a time stamp), nothing is added any more: whether the others depend on
    it cannot be seen in single rows, so that they are taken to depend on it wholly. An earlier column
    counts as known even where its own cells disagree. All this lowers the weight; what may raise it is
    dependence on two earlier columns together (a sum) that neither shows alone.
    """
    rank = spread(len(alignment.suspect_row), MOST_ROWS)
    mine, theirs = alignment.original_row[rank], alignment.suspect_row[rank]
    known = dict(enumerate(profiles)) if profiles is not None else None
    seen = see_columns(original, suspect, alignment.columns, mine, theirs, known)
    seen.sort(key=lambda c: (-c.entropy, c.match.original))
    weighed = seen[:_MOST_COLUMNS] if len(rank) else []
    bits, columns = np.zeros(len(rank)), []
    sample = [c.codes[spread(original.rows, _LOOK)] for c in weighed]
    entropy = [_entropy(codes) for codes in sample]
    for i, column in enumerate(weighed):
        parents = _best_predictors(i, weighed, sample, entropy)
        added = np.where(column.equal, _bits(column, parents, mine), 0.0)
        bits += added
        unique = column.equal & _held_once(column, mine)
        columns.append(
            ColumnWeight(
                original.names[column.match.original],
                tuple(original.names[p.match.original] for p in parents),
                int(column.equal.sum()), int(unique.sum()), round(float(added.sum()), 3),
            )
        )  # fmt: skip
    once = [c.equal & _held_once(c, mine) for c in seen]
    unique_cells = int(sum(u.sum() for u in once))
    unique_rows = int(np.logical_or.reduce(once).sum()) if once else 0
    total, median = float(bits.sum()), float(np.median(bits)) if len(bits) else 0.0
    return Rarity(
        len(alignment.suspect_row), len(rank), round(total, 3), round(median, 3), unique_cells, unique_rows,
        tuple(columns), _rarest(original, seen, mine, theirs),
        _finding(len(alignment.suspect_row), len(rank), unique_cells, unique_rows, int(total)),
    )  # fmt: skip


def _finding(matched: int, weighed: int, cells: int, rows: int, bits: int) -> Finding:
    return Finding(
        subject="rare values shared by matched rows",
        method="conditional frequencies by the best single predictor/1",
        null_hypothesis="none: rows are matched because they agree, and a source observed twice shares rare values; "
        "no model of two observations is assumed",
        counts={
            "matched": matched,
            "weighed": weighed,
            "unique_cells": cells,
            "unique_rows": rows,
            "bits": bits,
        },
    )


def _held_once(column: SeenColumn, rows: I64) -> B:
    codes = column.codes[rows]
    once: B = (
        (codes >= 0) & (column.counts[codes] == 1) if len(column.counts) else np.zeros(len(rows), np.bool_)
    )
    return once


# --- dependence ------------------------------------------------------------------------------------


def _best_predictors(
    at: int, weighed: Sequence[SeenColumn], sample: Sequence[I64], entropy: Sequence[float]
) -> list[SeenColumn]:
    """Return the earlier columns that leave the least entropy of a column, in a sample of rows.

    Parameters
    ----------
    at : int
    weighed : sequence of SeenColumn
        In the order in which they are counted.
    sample, entropy : sequence
        Their codes in some rows, and the bits of these.
    """
    if at <= _PREDICTORS:
        return list(weighed[:at])
    width = int(sample[at].max(initial=0)) + 2
    left = [_entropy((sample[i] + 1) * width + sample[at] + 1) - entropy[i] for i in range(at)]
    return [weighed[i] for i in np.argsort(np.array(left), kind="stable")[:_PREDICTORS]]


def _entropy(codes: I64) -> float:
    _, count = np.unique(codes, return_counts=True)
    share = count / max(1, len(codes))
    return float(-(share * np.log2(share)).sum())


def _bits(column: SeenColumn, parents: Sequence[SeenColumn], rows: I64) -> F64:
    """(k,) bits per row if its cell agrees: the least over the parents, and over none."""
    own = column.codes[rows]
    total = max(1, int(column.counts.sum()))
    held = np.maximum(column.counts[own], 1) if len(column.counts) else np.ones(len(rows))
    bits = np.log2(total / held)
    for parent in parents:
        bits = np.minimum(bits, _given(column, parent, rows))
    return np.where(own >= 0, np.maximum(bits, 0.0), 0.0)


def _given(column: SeenColumn, parent: SeenColumn, rows: I64) -> F64:
    """-log2 of the share of original rows equal in the parent that are equal in the column, too.

    Missing cells of the parent are a group like any other. Pairs of values are counted in buckets: two
    pairs that meet in one count for more rows than they have, which only lowers the weight.
    """
    groups = np.bincount(parent.codes + 1, minlength=len(parent.counts) + 1)
    width, n = len(column.counts) + 1, len(column.codes)
    pair = (parent.codes + 1) * width + column.codes + 1
    size = 1 << min(23, max(16, (4 * n).bit_length()))
    if len(groups) * width > size:
        with np.errstate(over="ignore"):
            mixed = pair.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        pair = (mixed >> np.uint64(65 - size.bit_length())).astype(np.int64)
    joint = np.minimum(np.bincount(pair)[pair[rows]], groups[parent.codes[rows] + 1])
    bits: F64 = np.log2(groups[parent.codes[rows] + 1] / joint)
    return bits


# --- what is shown ---------------------------------------------------------------------------------


def _rarest(
    original: CanonicalTable, seen: Sequence[SeenColumn], mine: I64, theirs: I64
) -> tuple[RareCell, ...]:
    """Return the rarest agreeing cells; at equal rarity those of the column with the fewest bits first.

    In a column of few values a value that one row holds is odd; in a key it is the rule.
    """
    found: list[tuple[int, float, int, SeenColumn]] = []
    for column in seen:
        held = column.counts[column.codes[mine]] if len(column.counts) else np.zeros(len(mine), np.int64)
        held = np.where(column.equal, held, np.iinfo(np.int64).max)
        best = np.argsort(held, kind="stable")[: 4 * _SHOWN_OF_COLUMN]
        codes = column.codes[mine[best]]
        # One line per value.
        _, first = np.unique(codes, return_index=True)
        rare = [i for i in best[np.sort(first)][:_SHOWN_OF_COLUMN].tolist() if held[i] <= _RARE]
        found += [(int(held[i]), column.entropy, i, column) for i in rare]
    found.sort(key=lambda f: (f[0], f[1], f[2], f[3].match.original))
    out = []
    for held_by, _, i, column in found[:_SHOWN]:
        at = column.match.original
        cell = original.columns[at].cells([int(mine[i])])[0]
        out.append(RareCell(int(mine[i]), int(theirs[i]), original.names[at], cell_text(cell), held_by))
    return tuple(out)
