"""What people look at to see for themselves: rows side by side, and values against values.

Chosen by rules that anybody can repeat: rows by a public hash of the original's row number, so that a
suspect's order or content has no say, some of them so that every changed column shows a difference;
points of a plot evenly over the matched rows. Nothing here is part of a measurement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import Alignment, ColumnMatch
from dataguard.fingerprints.comparison.foreign import LONGEST_CELL
from dataguard.fingerprints.comparison.meeting import EQUAL, State, meet
from dataguard.fingerprints.comparison.personal import covered, personal_kind
from dataguard.fingerprints.comparison.printed import few, printed
from dataguard.fingerprints.comparison.tables import ColumnComparison
from dataguard.formats.blocks import spread
from dataguard.maps import ValueMap
from dataguard.values import Canonical, CanonicalTable, mix64

__all__ = [
    "MOST_PLOTS",
    "ColumnPlot",
    "Exhibits",
    "ShownCell",
    "ShownColumn",
    "ShownRow",
    "make_exhibits",
    "mask_exhibits",
]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MOST_PLOTS = 24
"""Columns that are plotted."""

_POOL = 4096
"""Matched rows from which the shown ones are chosen."""
_UNLIKE = 256
"""Of these, rows of a column that are looked at more closely."""
_LOOKED_AT = 64
"""Columns for which a row that differs is looked for."""
_FOLDED = 256
"""Columns in which other spellings of a value are looked for."""
_COUNTED = 100_000
"""Matched rows over which pairs of texts are counted, evenly spaced."""
_MOST_PAIRS = 12
_LINE = 200
"""Places at which a fitted map is drawn."""


@dataclass(frozen=True, slots=True)
class ShownColumn:
    """One matched pair of columns.

    Attributes
    ----------
    original, suspect : str
        Names.
    personal : str
        What it seems to hold of people (see :func:`personal_kind`); empty: nothing.
    masked : bool
        Whether its cells are covered.
    """

    original: str
    suspect: str
    personal: str = ""
    masked: bool = False


@dataclass(frozen=True, slots=True)
class ShownCell:
    """A cell of the original beside what the suspect shows.

    Attributes
    ----------
    original, suspect : str
        As printed in the source, at most 80 characters; empty where missing.
    state : str
        ``equal``, ``mapped`` (equal after the named change), ``near`` or ``different``.
    """

    original: str
    suspect: str
    state: State


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A matched row.

    Attributes
    ----------
    original, suspect : int
        Row numbers, counted from 0.
    cells : tuple of ShownCell
        One per column of the exhibits.
    tied : bool
        Whether other rows of the original are the same in all columns in common.
    """

    original: int
    suspect: int
    cells: tuple[ShownCell, ...]
    tied: bool = False


@dataclass(frozen=True, slots=True)
class ColumnPlot:
    """Values of a changed column against values.

    Attributes
    ----------
    column : int
        Which of the exhibits' columns.
    x, y : tuple of float
        Original and suspect values of some matched rows: numbers, or seconds since 1970; empty for texts.
    times : tuple of bool
        Whether x, and whether y, are times.
    line : tuple of (x, y)
        The fitted map, ascending in x, or the diagonal; empty for texts.
    fitted : bool
        Whether `line` is a fitted map.
    pairs : tuple of (original, suspect, count)
        For texts: the most frequent pairs of cells.
    others : int
        Rows with other pairs, of those counted.
    """

    column: int
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    times: tuple[bool, bool] = (False, False)
    line: tuple[tuple[float, float], ...] = ()
    fitted: bool = False
    pairs: tuple[tuple[str, str, int], ...] = ()
    others: int = 0


@dataclass(frozen=True, slots=True)
class Exhibits:
    """What is shown beside a comparison.

    Attributes
    ----------
    columns : tuple of ShownColumn
        All matched columns, in the order of the alignment.
    rows : tuple of ShownRow
        Ascending by the original's row number.
    plots : tuple of ColumnPlot
    unplotted : int
        Changed columns without a plot: too many, or covered.
    matched : int
        Matched rows from which rows and points were chosen.
    """

    columns: tuple[ShownColumn, ...] = ()
    rows: tuple[ShownRow, ...] = ()
    plots: tuple[ColumnPlot, ...] = ()
    unplotted: int = 0
    matched: int = 0


def make_exhibits(
    original: CanonicalTable,
    suspect: CanonicalTable,
    alignment: Alignment,
    changed: Sequence[ColumnComparison],
    rows: int = 30,
    points: int = 1500,
) -> Exhibits:
    """Return what is shown of two aligned tables.

    Parameters
    ----------
    original, suspect : CanonicalTable
        As they were aligned.
    alignment : Alignment
    changed : sequence of ColumnComparison
        Columns of which something was named; those without changes are passed over.
    rows : int
        Rows to show.
    points : int
        Points of a plot, at most.
    """
    wanted = Counter((c.original, c.suspect) for c in changed if c.changes)
    columns, altered = [], []
    for at, match in enumerate(alignment.columns):
        names = original.names[match.original], suspect.names[match.suspect]
        held = original.columns[match.original], suspect.columns[match.suspect]
        kind = personal_kind(names[0], held[0]) or personal_kind(names[1], held[1])
        columns.append(ShownColumn(*names, kind))
        if wanted[names] > 0:
            wanted[names] -= 1
            altered.append(at)
    plots = tuple(_plot(original, suspect, alignment, at, points) for at in altered[:MOST_PLOTS])
    return Exhibits(
        tuple(columns),
        _rows(original, suspect, alignment, rows),
        tuple(p for p in plots if p.x or p.pairs),
        len(altered[MOST_PLOTS:]) + sum(not (p.x or p.pairs) for p in plots),
        len(alignment.suspect_row),
    )


# --- rows ------------------------------------------------------------------------------------------


def _rows(
    original: CanonicalTable, suspect: CanonicalTable, alignment: Alignment, rows: int
) -> tuple[ShownRow, ...]:
    first, second = _chosen(original, suspect, alignment, rows)
    tied = len(alignment.tied_original) if len(first) < rows else 0
    # Rows that are matched only among their twins fill up, where there are too few others.
    extra = _by_hash(alignment.tied_original, rows - len(first)) if tied else np.empty(0, np.int64)
    a = np.concatenate([first, alignment.tied_original[extra]]).astype(np.int64)
    b = np.concatenate([second, alignment.tied_suspect[extra]]).astype(np.int64)
    flags = np.arange(len(a)) >= len(first)
    order = np.lexsort((b, a))
    a, b, flags = a[order], b[order], flags[order]
    folding = _FOLDED
    by_column: list[list[ShownCell]] = []
    for c in alignment.columns:
        left, right = original.columns[c.original], suspect.columns[c.suspect]
        unlike = bool((left.key[a] != right.key[b]).any())
        by_column.append(_cells(left, right, c, a, b, folds=unlike and folding > 0))
        folding -= unlike
    return tuple(
        ShownRow(int(a[i]), int(b[i]), tuple(cells[i] for cells in by_column), bool(flags[i]))
        for i in range(len(a))
    )


def _by_hash(rows: I64, count: int) -> I64:
    """Return positions of the `count` rows whose numbers have the smallest hashes."""
    if count <= 0:
        return np.empty(0, np.int64)
    h = mix64(rows.astype(np.uint64))
    at = np.argpartition(h, count)[:count] if count < len(h) else np.arange(len(h))
    return at[np.argsort(h[at], kind="stable")].astype(np.int64)


def _chosen(
    original: CanonicalTable, suspect: CanonicalTable, alignment: Alignment, rows: int
) -> tuple[I64, I64]:
    """Choose matched rows: for each column that differs somewhere one that does, up to half; then by hash."""
    pool = _by_hash(alignment.original_row, _POOL)
    a, b = alignment.original_row[pool], alignment.suspect_row[pool]
    taken: list[int] = []
    looked_at = 0
    for c in alignment.columns:
        left, right = original.columns[c.original], suspect.columns[c.suspect]
        unlike = np.flatnonzero(left.key[a] != right.key[b])[:_UNLIKE]
        if not len(unlike):
            continue
        state = meet(few(left, a[unlike]), few(right, b[unlike]), c.through)
        # The row that is most unlike, and of these the first by hash.
        at = int(unlike[int(np.argmax(state))])
        taken += [] if at in taken else [at]
        looked_at += 1
        if 2 * len(taken) >= rows or looked_at == _LOOKED_AT:
            break
    rest = [i for i in range(min(len(pool), 2 * rows)) if i not in taken]
    at_rows = np.array((taken + rest)[:rows], np.int64)
    return a[at_rows], b[at_rows]


def _cells(
    a: Canonical, b: Canonical, match: ColumnMatch, first: I64, second: I64, *, folds: bool
) -> list[ShownCell]:
    left, right = few(a, first), few(b, second)
    states = meet(left, right, match.through, spread_of=a, folds=folds)
    return [
        ShownCell(x, y, EQUAL[int(s)])
        for x, y, s in zip(printed(left, LONGEST_CELL), printed(right, LONGEST_CELL), states, strict=True)
    ]


# --- plots -----------------------------------------------------------------------------------------


def _plot(
    original: CanonicalTable, suspect: CanonicalTable, alignment: Alignment, at: int, points: int
) -> ColumnPlot:
    match = alignment.columns[at]
    a, b = original.columns[match.original], suspect.columns[match.suspect]
    some = spread(len(alignment.suspect_row), points)
    left, right = few(a, alignment.original_row[some]), few(b, alignment.suspect_row[some])
    x, y = left.number, right.number
    fit = np.isfinite(x) & np.isfinite(y)
    if 2 * int(fit.sum()) < int(((left.tag != 0) & (right.tag != 0)).sum()) or not fit.any():
        return _pairs(a, b, alignment, at)
    x, y = x[fit], y[fit]
    through = match.through
    line = _line(through, x) if isinstance(through, ValueMap) else _diagonal(x, y)
    return ColumnPlot(
        at, tuple(x.tolist()), tuple(y.tolist()), (left.kind == "time", right.kind == "time"), line,
        isinstance(through, ValueMap),
    )  # fmt: skip


def _line(through: ValueMap, x: F64) -> tuple[tuple[float, float], ...]:
    # Halves first: the width of [-1e308, 1e308] is no number.
    at = np.unique(2 * np.linspace(x.min() / 2, x.max() / 2, _LINE))
    with np.errstate(over="ignore", invalid="ignore"):
        y = through.apply(at)
    fine = np.isfinite(y)
    return tuple(zip(at[fine].tolist(), y[fine].tolist(), strict=True))


def _diagonal(x: F64, y: F64) -> tuple[tuple[float, float], ...]:
    low, high = float(max(x.min(), y.min())), float(min(x.max(), y.max()))
    return ((low, low), (high, high)) if low < high else ()


def _pairs(a: Canonical, b: Canonical, alignment: Alignment, at: int) -> ColumnPlot:
    """Count the pairs of cells; those that are equal as they stand are counted too."""
    some = spread(len(alignment.suspect_row), _COUNTED)
    rows, others = alignment.original_row[some], alignment.suspect_row[some]
    if not len(some):
        return ColumnPlot(at)
    both = mix64(a.key[rows]) ^ b.key[others]
    _, first, counts = np.unique(both, return_index=True, return_counts=True)
    top = np.lexsort((first, -counts))[:_MOST_PAIRS]
    left = printed(few(a, rows[first[top]]), LONGEST_CELL)
    right = printed(few(b, others[first[top]]), LONGEST_CELL)
    listed = tuple(zip(left, right, counts[top].tolist(), strict=True))
    return ColumnPlot(at, pairs=listed, others=int(len(some) - counts[top].sum()))


# --- covering --------------------------------------------------------------------------------------


def mask_exhibits(exhibits: Exhibits, columns: Sequence[str] = (), *, auto: bool = True) -> Exhibits:
    """Return exhibits in which the cells of some columns are covered and their plots left out.

    Parameters
    ----------
    exhibits : Exhibits
    columns : sequence of str
        Names, of the original or the suspect, of columns to cover.
    auto : bool
        Also cover every column that looks personal.
    """
    names = set(columns)
    shown = tuple(
        replace(
            c, masked=c.masked or c.original in names or c.suspect in names or (auto and bool(c.personal))
        )
        for c in exhibits.columns
    )
    rows = tuple(
        replace(
            row, cells=tuple(_covered(x) if c.masked else x for x, c in zip(row.cells, shown, strict=True))
        )
        for row in exhibits.rows
    )
    plots = tuple(p for p in exhibits.plots if not shown[p.column].masked)
    unplotted = exhibits.unplotted + len(exhibits.plots) - len(plots)
    return replace(exhibits, columns=shown, rows=rows, plots=plots, unplotted=unplotted)


def _covered(cell: ShownCell) -> ShownCell:
    return ShownCell(covered(cell.original), covered(cell.suspect), cell.state)
