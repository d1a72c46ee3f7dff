"""What aligned rows teach about columns: which is which, and through which map.

A few hundred rows that are aligned by the columns that were left alone show what happened to the
others. What is learnt here is learnt from the original and the suspect only, and no column
enters by distribution alone: one that rows do not back is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import ColumnMatch
from dataguard.fingerprints.alignment.columns import refine_columns
from dataguard.fingerprints.alignment.shapes import rank_correlations
from dataguard.fingerprints.changes.fitting import Fit, fit_map
from dataguard.fingerprints.changes.recodings import fit_recoding
from dataguard.maps import ValueMap
from dataguard.values import Canonical, CanonicalTable

__all__ = ["complete_columns", "learn_columns"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_LEAST_ROWS = 16
_AS_IS = 0.9
"""Share of equal cells from which on a column is taken to be as it was."""

_GAIN = 0.15
"""Share of rows that a map must explain beyond plain equality."""

_EXPLAINED = 0.6
"""Share of rows that a map must explain for the column to count as found by rows."""

_MOST_NOISE, _HUGE = 0.2, 1e150
"""Noise of a column that was copied, in its standard deviations, at most; numbers that have no square."""

_CORRELATED = 0.7
"""Rank correlation over aligned rows below which two numeric columns are not tried."""

_TRIED = 3
"""Original columns tried for each suspect column that is open."""

_PROFILE = 16
"""Frequencies of the most frequent values, by which recoded columns are shortlisted."""

_MANY_ROWS, _MANY_CELLS = 20_000, 400_000_000
"""Aligned rows, and cells, by which seldom set flags are told apart."""

_MOST_OPEN = 400
"""Open columns of either side that are looked into, at most."""


def learn_columns(
    original: CanonicalTable,
    suspect: CanonicalTable,
    columns: Sequence[ColumnMatch],
    suspect_row: I64,
    original_row: I64,
) -> tuple[ColumnMatch, ...]:
    """Return the columns as aligned rows show them: corrected, completed, with their maps.

    Parameters
    ----------
    original, suspect : CanonicalTable
    columns : sequence of ColumnMatch
        What values, names and shapes say.
    suspect_row, original_row : (m,) int64
        Aligned rows; with fewer than 16 guesses by shape are dropped and nothing else is changed.
    """
    backed = [c for c in columns if c.by != "shape"]
    if len(suspect_row) < _LEAST_ROWS:
        return tuple(backed)
    plain = [c for c in backed if c.through is None]
    refined = refine_columns(original, suspect, plain, suspect_row, original_row)
    pairs = _Pairs(original, suspect, suspect_row, original_row)
    known = [pairs.through(c) for c in refined]
    taken_s, taken_o = {c.suspect for c in known}, {c.original for c in known}
    for c in columns:
        if (
            (c.by == "shape" or c.through is not None)
            and c.suspect not in taken_s
            and c.original not in taken_o
        ):
            found = pairs.numeric(c.original, c.suspect)
            if found is not None:
                known.append(found if c.by == "shape" else replace(found, by=c.by))
                taken_s.add(c.suspect)
                taken_o.add(c.original)
    known += pairs.open_numbers(taken_s, taken_o)
    taken_s, taken_o = {c.suspect for c in known}, {c.original for c in known}
    known += pairs.open_categories(taken_s, taken_o)
    return tuple(sorted(known, key=lambda c: c.suspect))


def complete_columns(
    original: CanonicalTable,
    suspect: CanonicalTable,
    columns: Sequence[ColumnMatch],
    suspect_row: I64,
    original_row: I64,
) -> tuple[ColumnMatch, ...]:
    """Return columns that only many aligned rows tell apart: flags that are seldom set.

    Parameters
    ----------
    original, suspect : CanonicalTable
    columns : sequence of ColumnMatch
        Those that are matched already.
    suspect_row, original_row : (m,) int64
        Aligned rows to learn from.

    Returns
    -------
    tuple of ColumnMatch
        Further columns only, with ``by="rows"``.
    """
    open_s = [i for i in range(len(suspect.columns)) if i not in {c.suspect for c in columns}]
    open_o = [i for i in range(len(original.columns)) if i not in {c.original for c in columns}]
    if len(suspect_row) < _LEAST_ROWS or not (open_s and open_o):
        return ()
    left, right = (
        CanonicalTable((), tuple(t.columns[i] for i in of))
        for t, of in ((original, open_o), (suspect, open_s))
    )
    count = max(_LEAST_ROWS, min(_MANY_ROWS, _MANY_CELLS // (len(open_s) * len(open_o))))
    found = refine_columns(left, right, (), suspect_row, original_row, count)
    return tuple(replace(c, original=open_o[c.original], suspect=open_s[c.suspect]) for c in found)


class _Pairs:
    """Cells of aligned rows, column by column."""

    def __init__(
        self, original: CanonicalTable, suspect: CanonicalTable, suspect_row: I64, original_row: I64
    ) -> None:
        self._original, self._suspect = original, suspect
        self._rows = suspect_row, original_row
        self._numbers: dict[tuple[int, int], F64] = {}

    def _cells(self, side: int, position: int) -> Canonical:
        table = (self._suspect, self._original)[side]
        return table.columns[position].take_cells(self._rows[side])

    def _number(self, side: int, position: int) -> F64:
        key = side, position
        if key not in self._numbers:
            self._numbers[key] = self._cells(side, position).number
        return self._numbers[key]

    def through(self, match: ColumnMatch) -> ColumnMatch:
        """Return a matched column with the map that its cells went through, if they did."""
        a, b = self._cells(1, match.original), self._cells(0, match.suspect)
        same = float((a.key == b.key).mean())
        if same >= _AS_IS:
            return match
        fit = self._fit(match.original, match.suspect)
        if fit is not None and not (fit.map.is_plain and not fit.map.noise) and fit.explained >= same + _GAIN:
            return replace(match, through=fit.map)
        recoded = fit_recoding(a.key, b.key)
        if recoded is not None and recoded.explained >= max(same + _GAIN, _EXPLAINED):
            return replace(match, through=recoded.map)
        return match

    def _fit(self, o: int, s: int) -> Fit | None:
        """Fit a map; one that leaves most of the column to noise says that two things have one trend."""
        y = self._number(0, s)
        fit = fit_map(self._number(1, o), y)
        small = np.abs(y) <= _HUGE
        if fit is None or not fit.map.noise or not small.any():
            return fit
        return fit if fit.map.noise <= _MOST_NOISE * float(np.std(y[small])) else None

    def numeric(self, o: int, s: int) -> ColumnMatch | None:
        """Return a pair of numeric columns if the rows back it."""
        fit = self._fit(o, s)
        if fit is None or fit.explained < _EXPLAINED:
            return None
        through: ValueMap | None = None if fit.map.is_plain and not fit.map.noise else fit.map
        return ColumnMatch(o, s, "rows", round(fit.explained, 4), through)

    def open_numbers(self, taken_s: set[int], taken_o: set[int]) -> list[ColumnMatch]:
        """Return the pairs of open numeric columns that aligned rows show to be one."""
        open_s, open_o = (self._open(side, taken) for side, taken in ((0, taken_s), (1, taken_o)))
        if not (open_s and open_o):
            return []
        left = np.stack([self._number(0, s) for s in open_s])
        right = np.stack([self._number(1, o) for o in open_o])
        strength = np.abs(rank_correlations(left, right))
        found: list[tuple[float, ColumnMatch]] = []
        for i, s in enumerate(open_s):
            best = np.argsort(-strength[i], kind="stable")[:_TRIED]
            for j in best[strength[i][best] >= _CORRELATED]:
                match = self.numeric(open_o[int(j)], s)
                if match is not None:
                    exact = match.through is None or not getattr(match.through, "noise", 0.0)
                    found.append((match.overlap + exact, match))
        return _one_to_one(found)

    def _open(self, side: int, taken: set[int]) -> list[int]:
        table = (self._suspect, self._original)[side]
        columns: list[int] = []
        for c in range(len(table.columns)):
            if c not in taken and len(columns) < _MOST_OPEN:
                x = self._number(side, c)
                present = x[np.isfinite(x)]
                if len(present) >= _LEAST_ROWS and (present != present[0]).any():
                    columns.append(c)
        return columns

    def open_categories(self, taken_s: set[int], taken_o: set[int]) -> list[ColumnMatch]:
        """Return the pairs of open columns whose values correspond one to one under other names."""
        sides = []
        for side, taken in ((0, taken_s), (1, taken_o)):
            table = (self._suspect, self._original)[side]
            cells = {c: self._cells(side, c).key for c in range(len(table.columns)) if c not in taken}
            profiles = {c: _profile(k) for c, k in list(cells.items())[:_MOST_OPEN]}
            sides.append({c: (cells[c], p) for c, p in profiles.items() if p is not None})
        found: list[tuple[float, ColumnMatch]] = []
        for s, (key, profile) in sides[0].items():
            near = sorted(sides[1], key=lambda o: float(np.abs(sides[1][o][1] - profile).sum()))[:_TRIED]
            for o in near:
                fit = fit_recoding(sides[1][o][0], key)
                if fit is not None and fit.explained >= _EXPLAINED:
                    match = ColumnMatch(o, s, "rows", round(fit.explained, 4), fit.map)
                    found.append((fit.explained, match))
        return _one_to_one(found)


def _profile(key: U64) -> F64 | None:
    """Return the frequencies of the most frequent values; None for a column that does not vary."""
    _, counts = np.unique(key, return_counts=True)
    if len(counts) < 2:
        return None
    top = np.sort(counts)[::-1][:_PROFILE] / len(key)
    return np.pad(top, (0, _PROFILE - len(top)))


def _one_to_one(found: list[tuple[float, ColumnMatch]]) -> list[ColumnMatch]:
    """Take the best pairs first; a column that has two equally good partners keeps none."""
    found.sort(key=lambda f: (-f[0], f[1].suspect, f[1].original))
    used_s: set[int] = set()
    used_o: set[int] = set()
    kept = []
    for _, match in found:
        if match.suspect not in used_s and match.original not in used_o:
            kept.append(match)
            used_s.add(match.suspect)
            used_o.add(match.original)
    return kept
