"""Simple predicates over one column, or over row positions: found, evaluated and put into words.

Each kind has few constants, so that it can be said in a line and paid for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.cells import BIG, NULL, NUMBER, TIME, Cell
from dataguard.values import CanonicalTable

__all__ = [
    "MOST_VALUES",
    "Predicate",
    "best_of_column",
    "best_of_positions",
    "covers",
    "holds",
    "predicate_words",
]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MOST_VALUES = 5
"""Values that ``column in (...)`` may list."""

Value = str | int | float | None


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition on a row.

    Attributes
    ----------
    kind : str
        ``equal``, ``in``, ``between`` (ends included), ``rows`` (a run of positions from `low` to `high`, both
        included) or ``every`` (positions that leave `low` when divided by `high`).
    column : int
        Column position; -1 for the kinds of positions.
    values : tuple
        What ``equal`` and ``in`` list: numbers, texts, times as texts, None for a missing cell.
    low, high : float, int or str
        Of the other kinds; times as texts.
    log10_choices : float
        log10 of the number of predicates of this kind on this column.
    keys : tuple of int
        Cell keys of `values`.
    limits : (float, float)
        `low` and `high` as numbers, times in seconds since 1970.
    """

    kind: str
    column: int
    values: tuple[Value, ...]
    low: Value
    high: Value
    log10_choices: float
    keys: tuple[int, ...] = ()
    limits: tuple[float, float] = (0.0, 0.0)

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the predicate as JSON types, with column names."""
        out: dict[str, Any] = {"kind": self.kind}
        if self.column >= 0:
            out["column"] = names[self.column]
        if self.kind in ("equal", "in"):
            return out | {"values": list(self.values)}
        return out | {"low": self.low, "high": self.high}


def predicate_words(predicate: Predicate, names: Sequence[str]) -> str:
    """Return a predicate in words; positions count from 1."""
    name = names[predicate.column] if predicate.column >= 0 else ""
    shown = ["missing" if v is None else str(v) for v in predicate.values]
    if predicate.kind == "equal":
        return f"{name} is missing" if predicate.values[0] is None else f"{name} = {shown[0]}"
    if predicate.kind == "in":
        return f"{name} is one of {', '.join(shown)}"
    if predicate.kind == "between":
        return f"{name} is between {predicate.low} and {predicate.high}"
    low, high = int(predicate.limits[0]), int(predicate.limits[1])
    if predicate.kind == "rows":
        return f"row is {low + 1:,} to {high + 1:,}"
    return f"row is every {high}th from {low + 1}"


def holds(table: CanonicalTable, predicate: Predicate, rows: I64 | None = None) -> B:
    """Return which rows satisfy a predicate: (rows,) bool, of all or some rows."""
    at = np.arange(table.rows) if rows is None else rows
    low, high = predicate.limits
    if predicate.kind == "rows":
        run: B = (at >= low) & (at <= high)
        return run
    if predicate.kind == "every":
        turn: B = at % int(high) == int(low)
        return turn
    column = table.columns[predicate.column]
    if predicate.kind == "between":
        x = column.number if rows is None else column.take(rows).number
        with np.errstate(invalid="ignore"):
            inside: B = (x >= low) & (x <= high)
        return inside
    keys = column.key if rows is None else column.key[rows]
    listed: B = np.isin(keys, np.array(predicate.keys, np.uint64))
    return listed


# --- finding them ----------------------------------------------------------------------------------


def _shown(cell: Cell) -> Value:
    if cell.tag == NULL:
        return None
    if cell.tag == BIG:
        return int(cell.text)
    if cell.tag != NUMBER or not math.isfinite(float(cell.text)):
        return cell.text
    number = float(cell.text)
    return int(number) if number == int(number) else number


def _choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(10) if n > k else 0.0


def _values(
    table: CanonicalTable, column: int, rows: I64, keys: NDArray[np.uint64], distinct: int
) -> Predicate:
    """Return ``equal`` or ``in`` for some values; `rows` holds a row of each."""
    cells = table.columns[column].cells(rows)
    shown = sorted(zip(map(_shown, cells), keys.tolist(), strict=True), key=lambda v: _order(v[0]))
    kind = "equal" if len(shown) == 1 else "in"
    return Predicate(
        kind, column, tuple(v for v, _ in shown), None, None, _choose(distinct, len(shown)) + math.log10(MOST_VALUES),
        tuple(k for _, k in shown),
    )  # fmt: skip


def _order(value: Value) -> tuple[int, float, str]:
    return (0, float(value), "") if isinstance(value, (int, float)) else (1, 0.0, value or "")


@dataclass(frozen=True, slots=True)
class _Coded:
    """Some cells of a column by value: a key and a row of each value, and the value of each cell."""

    keys: NDArray[np.uint64]
    first: I64
    ids: I64

    @classmethod
    def of(cls, table: CanonicalTable, column: int, rows: I64) -> _Coded:
        encoded = pc.dictionary_encode(pa.array(table.columns[column].key[rows]))
        ids = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        keys = encoded.dictionary.to_numpy(zero_copy_only=False)
        first = np.zeros(len(keys), np.int64)
        first[ids[::-1]] = rows[::-1]
        return cls(keys, first, ids)


def best_of_column(table: CanonicalTable, column: int, rows: I64, weight: F64) -> list[Predicate]:
    """Return the predicates on a column that hold the most weight, at most one of each kind.

    Parameters
    ----------
    table : CanonicalTable
    column : int
    rows : (k,) int64
        Rows that are looked at.
    weight : (k,) float64
        Positive for rows to be selected, negative for others.

    Returns
    -------
    list of Predicate
    """
    if not len(rows):
        return []
    coded = _Coded.of(table, column, rows)
    value_weight = np.bincount(coded.ids, weight, len(coded.keys)).astype(np.float64)
    yes = np.bincount(coded.ids, np.maximum(0.0, weight), len(coded.keys))
    out = []
    wanted = np.flatnonzero(value_weight > 0)
    best = wanted[np.argsort(-value_weight[wanted], kind="stable")][:MOST_VALUES]
    # As few values as do: those that add less than a thousandth are left out.
    best = best[yes[best] >= 0.001 * yes.sum()]
    if len(best) and len(coded.keys) > len(best):
        out.append(_values(table, column, coded.first[best], coded.keys[best], len(coded.keys)))
    interval = _segment(table, column, coded, value_weight)
    return out if interval is None else [*out, interval]


def _segment(table: CanonicalTable, column: int, coded: _Coded, weight: F64) -> Predicate | None:
    """Return ``between`` the values whose weights have the largest sum (Kadane's segment, Bentley 1984)."""
    kind = table.columns[column].take(coded.first)
    numeric = np.isin(kind.tag, (NUMBER, BIG, TIME))
    numbers = kind.number
    present = np.flatnonzero(numeric & np.isfinite(numbers))
    if len(present) < 3:
        return None
    order = present[np.argsort(numbers[present], kind="stable")]
    low, high = _largest_segment(weight[order])
    return _between(table, column, coded.first[order[low]], coded.first[order[high]], len(order))


def _between(table: CanonicalTable, column: int, low: int, high: int, distinct: int) -> Predicate:
    ends = np.array([low, high], np.int64)
    shown = [_shown(cell) for cell in table.columns[column].cells(ends)]
    x = table.columns[column].take(ends).number
    choices = math.log10(max(1, distinct * (distinct + 1) // 2))
    return Predicate("between", column, (), shown[0], shown[1], choices, (), (float(x[0]), float(x[1])))


def _largest_segment(weight: F64) -> tuple[int, int]:
    """Return first and last of the run with the largest sum; of equal ones that begin apart, the shortest."""
    total = np.concatenate([[0.0], np.cumsum(weight)])
    least = np.minimum.accumulate(total[:-1])
    last = int(np.argmax(total[1:] - least))
    first = int(np.flatnonzero(total[: last + 1] == least[last])[-1])
    return first, last


def best_of_positions(found: B, among: B) -> list[Predicate]:
    """Return the run of rows, and the rows at equal distances, that fit the rows found best.

    Parameters
    ----------
    found, among : (n,) bool
        Rows to be selected, and rows that count at all.

    Returns
    -------
    list of Predicate
    """
    n = len(found)
    low, high = _largest_segment(np.where(among, np.where(found, 1.0, -1.0), 0.0))
    at = np.flatnonzero(found & among)
    out = [_run(low, high, n)]
    steps = np.diff(at)
    if len(steps):
        step, count = np.unique(steps, return_counts=True)
        k = int(step[np.argmax(count)])
        rest, times = np.unique(at % k, return_counts=True)
        if k > 1:
            r = int(rest[np.argmax(times)])
            out.append(Predicate("every", -1, (), r, k, 2 * math.log10(max(2, n)), (), (float(r), float(k))))
    return out


def _run(low: int, high: int, rows: int) -> Predicate:
    choices = math.log10(max(1, rows * (rows + 1) // 2))
    return Predicate("rows", -1, (), low, high, choices, (), (float(low), float(high)))


def covers(table: CanonicalTable, column: int, rows: I64, wanted: B) -> list[Predicate]:
    """Return the narrowest predicates on a column, or on positions (-1), that nearly all wanted rows satisfy.

    Parameters
    ----------
    table : CanonicalTable
    column : int
    rows : (k,) int64
    wanted : (k,) bool
    """
    mine = rows[wanted]
    if not len(mine):
        return []
    if column < 0:
        return [_run(int(mine.min()), int(mine.max()), table.rows)]
    coded = _Coded.of(table, column, rows)
    times = np.bincount(coded.ids[wanted], minlength=len(coded.keys))
    order = np.argsort(-times, kind="stable")
    enough = int(np.searchsorted(np.cumsum(times[order]), 0.995 * len(mine))) + 1
    out = []
    if enough <= MOST_VALUES and enough < len(coded.keys):
        best = order[:enough]
        out.append(_values(table, column, coded.first[best], coded.keys[best], len(coded.keys)))
    x = table.columns[column].take(coded.first).number
    held = np.flatnonzero((times > 0) & np.isfinite(x))
    if len(held) and times[held].sum() >= 0.995 * len(mine):
        low, high = held[np.argmin(x[held])], held[np.argmax(x[held])]
        out.append(_between(table, column, coded.first[low], coded.first[high], int(np.isfinite(x).sum())))
    return out
