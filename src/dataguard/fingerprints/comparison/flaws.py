"""Cells of an original that are probably wrong, found in it alone: natural canaries.

Independent sources that say the same are mostly right; that two sources are wrong in the same place in the
same way is hard to explain without copying (Dong, Berti-Equille and Srivastava, "Integrating conflicting
data: the role of source dependence", PVLDB 2, 2009). What breaks a rule that nearly all rows keep is a candidate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dataguard.cells import NULL, TEXT
from dataguard.constraints.arithmetic import complete, holds, residual
from dataguard.constraints.columns import Codes, Column, dense, examine, finite, spread
from dataguard.constraints.dependencies import fit, joined, mine_dependencies, usual_values
from dataguard.constraints.facts import Dependency, Identity
from dataguard.constraints.identities import mine_identities
from dataguard.constraints.roles import roles, words
from dataguard.fingerprints.comparison.spelling import misspelt
from dataguard.values import Canonical, CanonicalTable

__all__ = ["KINDS", "Flaws", "find_flaws"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

KINDS = ("dependency", "conflict", "identity", "date", "misspelt", "type", "sign", "grid", "range")
"""Rules that a cell may break, the most telling first; a cell counts under one of them."""

_RARELY = 0.005
"""A rule that more rows break is none."""

_MINED = 20_000
"""Rows in which rules are looked for."""

_ROWS = 400_000
"""Rows in which exceptions are looked for, at most; chosen by a public hash."""

_MOST = 500
"""Cells kept per rule; chosen by a public hash."""

_MINED_COLUMNS, _COLUMNS, _MOST_RULES = 32, 256, 24
"""Columns in which rules between columns, and rules of one column, are looked for; rules checked."""

_FEW = 0.001
"""Share of rows that may differ in sign, grid, range or kind of value and still count as wrong."""

_FAR = 3.0
"""Widths of the middle 99.8 % of values that a value must lie outside of them."""


@dataclass(frozen=True, slots=True)
class Flaws:
    """Cells of one column that break one rule.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    column : int
        Position in the original.
    rule : str
        What is broken, in the original's column names.
    rows : (k,) int64
        Ascending.
    like : (k,) int64
        An original row that shows what was expected in this column; -1 where there is none.
    number : (k,) float64
        The number that was expected; nan where none is known.
    """

    kind: str
    column: int
    rule: str
    rows: I64
    like: I64
    number: F64


def find_flaws(original: CanonicalTable, columns: Sequence[int] | None = None) -> tuple[Flaws, ...]:
    """Return cells that break rules which nearly all rows of the original keep; each cell once.

    Deterministic: samples are the same for the same number of rows and columns.

    Parameters
    ----------
    original : CanonicalTable
    columns : sequence of int, optional
        Positions of the columns to look at; all by default.
    """
    wanted = list(range(len(original.columns))) if columns is None else sorted(set(columns))
    wanted = [wanted[i] for i in spread(len(wanted), _COLUMNS)]
    if not wanted or original.rows < 2:
        return ()
    rows = spread(original.rows, _ROWS)
    table = _Table(original, rows)
    with np.errstate(over="ignore", invalid="ignore"):  # values of 1e308 have no variance
        found = [
            *table.between([wanted[i] for i in spread(len(wanted), _MINED_COLUMNS)]),
            *table.within(wanted),
        ]
    found.sort(key=lambda f: (KINDS.index(f.kind), f.column, f.rule))
    return tuple(_once(found, rows))


def _once(found: Iterable[Flaws], rows: I64) -> Iterator[Flaws]:
    """Yield flaws in row numbers of the original, without cells that were yielded before."""
    taken: dict[int, I64] = {}
    for flaws in found:
        before = taken.get(flaws.column, np.empty(0, np.int64))
        new = np.flatnonzero(~np.isin(flaws.rows, before))
        taken[flaws.column] = np.concatenate([before, flaws.rows[new]])
        new = new[spread(len(new), _MOST)]
        if len(new):
            like = flaws.like[new]
            like = np.where(like >= 0, rows[np.maximum(like, 0)], -1)
            yield replace(flaws, rows=rows[flaws.rows[new]], like=like, number=flaws.number[new])


class _Table:
    """Some rows of a table; columns are coded when first asked for."""

    def __init__(self, table: CanonicalTable, rows: I64) -> None:
        self.names = table.names
        whole = len(rows) == table.rows
        self.columns = [c if whole else _take(c, rows) for c in table.columns]
        self.rows = len(rows)
        self._codes: dict[int, Codes] = {}

    def codes(self, at: int) -> Codes:
        if at not in self._codes:
            key = self.columns[at].key
            self._codes[at] = dense(key, key == 0)
        return self._codes[at]

    # --- rules between columns ---------------------------------------------------------------------

    def between(self, wanted: Sequence[int]) -> Iterator[Flaws]:
        """Yield the exceptions of dependencies, keys and arithmetic."""
        sample = spread(self.rows, _MINED)
        # Names may repeat: the position behind them makes them different, and leaves their words as they are.
        at = {f"{self.names[i]} {i}": i for i in wanted}
        columns = [examine(name, _take(self.columns[i], sample)) for name, i in at.items()]
        given = roles(columns)
        yield from self._dates(at)
        yield from self._conflicts(columns, at)
        plain = [d for d in mine_dependencies(columns, given) if not (d.part or d.of)]
        plain.sort(key=lambda d: d.exceptions == 0)
        for dependency in plain[:_MOST_RULES]:
            yield from self._dependency(dependency, at)
        values = {name: finite(self.columns[i]) for name, i in at.items()}
        for identity in mine_identities(columns, given)[:_MOST_RULES]:
            yield from self._identity(identity, values, at)

    def _label(self, fact: Dependency | Identity, at: dict[str, int]) -> str:
        if isinstance(fact, Dependency):
            left = tuple(self.names[at[c]] for c in fact.determinants)
            return replace(fact, determinants=left, dependent=self.names[at[fact.dependent]]).label
        inputs = tuple(self.names[at[c]] for c in fact.inputs)
        return replace(fact, inputs=inputs, target=self.names[at[fact.target]]).label

    def _dependency(self, fact: Dependency, at: dict[str, int]) -> Iterator[Flaws]:
        """Yield values that differ from what at least four in five rows of their group say."""
        x = joined([self.codes(at[c]) for c in fact.determinants])
        y = self.codes(at[fact.dependent])
        usual = usual_values(x, y)
        both = (x.codes >= 0) & (y.codes >= 0)
        expected = usual[x.codes]
        odd = both & (y.codes != expected)
        size = np.bincount(x.codes[both], minlength=x.levels)
        wrong = np.bincount(x.codes[odd], minlength=x.levels)
        odd &= ((size >= 5) & (wrong <= 0.2 * size))[x.codes]
        rows = np.flatnonzero(odd)
        if not 0 < len(rows) <= _RARELY * self.rows or not fit(x, y).holds:
            return
        usual_rows = np.flatnonzero(both & ~odd)
        groups, first = np.unique(x.codes[usual_rows], return_index=True)
        like = usual_rows[first[np.searchsorted(groups, x.codes[rows])]]
        # The first row of the group that is not odd may still be a minority of its own.
        like = np.where(y.codes[like] == expected[rows], like, -1)
        yield _flaws("dependency", at[fact.dependent], self._label(fact, at), rows, like)

    def _conflicts(self, columns: Sequence[Column], at: dict[str, int]) -> Iterator[Flaws]:
        """Yield cells in which two rows differ that bear the same name and are equal in most others."""
        for column in columns:
            if column.coded.levels < 0.9 * max(1, column.coded.present) or column.kind == "empty":
                continue
            key = self.codes(at[column.name])
            if key.levels == key.present or key.levels < (1 - _RARELY) * key.present or key.present < 100:
                continue
            twice = np.flatnonzero((key.codes >= 0) & (key.counts[key.codes] == 2))
            pairs = twice[np.argsort(key.codes[twice], kind="stable")].reshape(-1, 2)
            others = [i for i in at.values() if i != at[column.name]]
            cells = (
                np.stack([self.columns[i].key for i in others])
                if others
                else np.empty((0, self.rows), np.uint64)
            )
            a, b = cells[:, pairs[:, 0]], cells[:, pairs[:, 1]]
            differ = (a != b) & (a != 0) & (b != 0)
            alike = (differ.sum(0) > 0) & (2 * (a == b).sum(0) >= len(others))
            for i, odd in zip(others, differ & alike, strict=True):
                if odd.any():
                    yield _flaws("conflict", i, f"key({self.names[at[column.name]]})", np.sort(pairs[odd, 1]))

    def _identity(self, fact: Identity, values: dict[str, F64], at: dict[str, int]) -> Iterator[Flaws]:
        part = {c: values[c] for c in fact.columns}
        rows = np.flatnonzero(complete(fact, part) & ~holds(fact, part))
        if not 0 < len(rows) <= _RARELY * self.rows:
            return
        odd = {c: v[rows] for c, v in part.items()}
        number = np.full(len(rows), np.nan)
        if fact.kind in {"sum", "scaled", "product"} and len(fact.residuals) == 1:
            number = odd[fact.target] - residual(fact, odd) + fact.residuals[0]
        yield _flaws("identity", at[fact.target], self._label(fact, at), rows, number=number)

    def _dates(self, at: dict[str, int]) -> Iterator[Flaws]:
        """Yield days that their month does not have."""
        part = {w: [i for i in at.values() if words(self.names[i]) == (w,)] for w in ("year", "month", "day")}
        if any(len(p) != 1 for p in part.values()):
            return
        year, month, day = (finite(self.columns[part[w][0]]) for w in ("year", "month", "day"))
        with np.errstate(invalid="ignore"):
            real = (
                (year >= 1)
                & (year <= 9998)
                & (year % 1 == 0)
                & (month % 1 == 0)
                & (month >= 1)
                & (month <= 12)
            )
        first = np.where(real, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
        length = ((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(np.int64)
        rows = np.flatnonzero(real & ((day < 1) | (day > length)))
        if 0 < len(rows) <= _RARELY * self.rows:
            yield _flaws("date", part["day"][0], "day of its month", rows)

    # --- rules of one column ------------------------------------------------------------------------

    def within(self, wanted: Sequence[int]) -> Iterator[Flaws]:
        """Yield values that are unlike all others of their column."""
        for at in wanted:
            column, name = self.columns[at], self.names[at]
            yield from self._types(at)
            if column.kind in {"number", "time"}:
                yield from _odd_numbers(at, name, finite(column), timed=column.kind == "time")
            elif column.kind == "text":
                yield from self._misspelt(at)

    def _types(self, at: int) -> Iterator[Flaws]:
        """Yield texts among numbers or times (a 30th of February stays a text), and numbers among texts."""
        tag = self.columns[at].tag
        count = np.bincount(tag[tag != NULL], minlength=8)
        most = int(count.argmax())
        rows = np.flatnonzero((tag != NULL) & (tag != most))
        if 0 < len(rows) <= _FEW * int(count.sum()):
            yield _flaws("type", at, f"kind of value of {self.names[at]}", rows)

    def _misspelt(self, at: int) -> Iterator[Flaws]:
        column = self.columns[at]
        text = np.flatnonzero(column.tag == TEXT)
        word = column.word[text].astype(np.int64)
        count = np.bincount(word, minlength=len(column.texts))
        right = misspelt(column.texts, count)
        if not right:
            return
        wrong = np.zeros(len(count), np.int64) - 1
        wrong[list(right)] = list(right.values())
        _, first, place = np.unique(word, return_index=True, return_inverse=True)
        at_word = np.full(len(count), -1, np.int64)
        at_word[word] = text[first][place.reshape(-1)]
        odd = wrong[word] >= 0
        yield _flaws("misspelt", at, f"spelling in {self.names[at]}", text[odd], at_word[wrong[word[odd]]])


def _take(column: Canonical, rows: I64) -> Canonical:
    """Return some rows; the source, which nobody reads here, stays whole."""
    return Canonical(column.tag[rows], column.word[rows], column.key[rows], column.texts, column.source)


def _flaws(
    kind: str, column: int, rule: str, rows: I64, like: I64 | None = None, number: F64 | None = None
) -> Flaws:
    """Return flaws with what was expected left open by default."""
    like = np.full(len(rows), -1, np.int64) if like is None else like
    return Flaws(kind, column, rule, rows, like, np.full(len(rows), np.nan) if number is None else number)


def _odd_numbers(at: int, name: str, value: F64, *, timed: bool) -> Iterator[Flaws]:
    """Yield numbers of the wrong sign, off the grid of the others, or far from them."""
    present = np.flatnonzero(np.isfinite(value))
    if len(present) < 1 / _FEW:
        return
    x, place, count = np.unique(value[present], return_inverse=True, return_counts=True)
    place, total = place.reshape(-1), len(present)

    def rows_of(odd: B) -> I64:
        return present[odd[place]]

    if not timed:
        for wrong, right in ((x < 0, x > 0), (x > 0, x < 0)):
            if 0 < count[wrong].sum() <= _FEW * total and count[right].sum() >= 0.5 * total:
                rows = rows_of(wrong)
                yield _flaws("sign", at, f"sign of {name}", rows, number=-value[rows])
        grid = _grid(x, count)
        if grid > 0:
            rows = rows_of(~_on_grid(x, grid))
            yield _flaws(
                "grid", at, f"{name} in steps of {grid:g}", rows, number=np.rint(value[rows] / grid) * grid
            )
    share = np.cumsum(count) / total
    low, high = x[np.searchsorted(share, _FEW)], x[min(len(x) - 1, int(np.searchsorted(share, 1 - _FEW)))]
    reach = _FAR * (high - low)
    far = (x > high + reach) | (x < low - reach)
    if reach > 0 and far.any():
        yield _flaws("range", at, f"range of {name}", rows_of(far))


def _on_grid(x: F64, grid: float) -> B:
    steps = x / grid
    on: B = np.abs(steps - np.rint(steps)) <= 1e-9 * np.maximum(1.0, np.abs(steps))
    return on


def _grid(x: F64, count: I64) -> float:
    """Return the widest usual step that all but a few values keep; 0 where none is broken."""
    for grid in (100.0, 50.0, 25.0, 10.0, 5.0, 1.0, 0.5, 0.1, 0.05, 0.01, 0.001, 1e-4):
        off = int(count[~_on_grid(x, grid)].sum())
        if off == 0:
            return 0.0
        if off <= _FEW * count.sum():
            return grid
    return 0.0
