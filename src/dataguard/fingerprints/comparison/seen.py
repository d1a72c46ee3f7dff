"""Aligned cells, side by side: the original's as seen through the column maps, and whether they agree.

Rarity, shared errors and hints of direction all ask which cells of matched rows are equal and how many
original rows hold such a value. A value that was rounded or recoded is as rare as what is left of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import ColumnMatch
from dataguard.cells import NULL, TIME, Cell
from dataguard.constraints.columns import dense
from dataguard.fingerprints.alignment.profiles import ColumnProfile, profile_column, seen_through
from dataguard.maps import ValueMap
from dataguard.values import Canonical, CanonicalTable

__all__ = ["SeenColumn", "cell_text", "see_column", "see_columns"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_TEXT = 80
"""Characters of a cell that are kept for display."""


@dataclass(frozen=True, slots=True)
class SeenColumn:
    """One matched column, for some aligned rows.

    Attributes
    ----------
    match : ColumnMatch
    codes : (n,) int64
        What every original row would show, numbered; -1 where it would show nothing.
    counts : (levels,) int64
        Original rows per code.
    equal : (k,) bool
        Whether both cells of an aligned pair are there and agree, as seen through the map.
    """

    match: ColumnMatch
    codes: I64
    counts: I64
    equal: B

    @property
    def entropy(self) -> float:
        """Shannon entropy of what the original would show, in bits; missing cells are not counted."""
        share = self.counts[self.counts > 0] / max(1, int(self.counts.sum()))
        return float(-(share * np.log2(share)).sum())


def see_columns(
    original: CanonicalTable,
    suspect: CanonicalTable,
    columns: Iterable[ColumnMatch],
    original_row: I64,
    suspect_row: I64,
    profiles: dict[int, ColumnProfile] | None = None,
) -> list[SeenColumn]:
    """Return some matched columns side by side.

    Parameters
    ----------
    original, suspect : CanonicalTable
        The tables that were aligned.
    columns : iterable of ColumnMatch
    original_row, suspect_row : (k,) int64
        Aligned rows.
    profiles : dict of int to ColumnProfile, optional
        Of original columns, by position, where they are known already.
    """
    known = profiles or {}
    out = []
    for match in columns:
        at = match.original
        profile = known[at] if at in known else profile_column(original.columns[at])
        out.append(see_column(profile, suspect.columns[match.suspect], match, original_row, suspect_row))
    return out


def see_column(
    profile: ColumnProfile, column: Canonical, match: ColumnMatch, original_row: I64, suspect_row: I64
) -> SeenColumn:
    """Return one matched column side by side; see :func:`see_columns`.

    Where noise was added, values count by intervals of eight of its standard deviations: two of them
    agree where they fall into the same one. A pair that happens to lie on either side of a limit is not
    counted, which only loses evidence.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a value of 1e308 in another unit
        seen = seen_through(profile, match.through)
        shown = column.take(suspect_row)
        if isinstance(match.through, ValueMap) and match.through.noise > 0:
            bins, values = _intervals(seen, shown.number, 8 * match.through.noise)
            coded = dense(bins, np.isnan(bins))
            return SeenColumn(match, coded.codes, coded.counts, bins[original_row] == values)
        found = seen.find_cells(shown).astype(np.int64)
    present = seen.values != 0
    codes = seen.ids.astype(np.int64)
    codes = np.where(present[seen.ids], codes, -1) if len(present) else codes
    counts = np.where(present, seen.counts, 0).astype(np.int64)
    mine = codes[original_row]
    return SeenColumn(match, codes, counts, (mine >= 0) & (mine == found))


def _intervals(seen: ColumnProfile, values: F64, width: float) -> tuple[F64, F64]:
    of_value = seen.numbers[seen.ids] if len(seen.numbers) else np.full(seen.rows, np.nan)
    finite = np.where(np.isfinite(of_value), of_value, np.nan), np.where(np.isfinite(values), values, np.nan)
    return np.floor(finite[0] / width), np.floor(finite[1] / width)


def cell_text(cell: Cell) -> str:
    """Return a cell for display, at most 80 characters; times without the zone, missing cells as nothing."""
    if cell.tag == NULL:
        return ""
    text = cell.text.removesuffix("Z") if cell.tag == TIME else cell.text
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
