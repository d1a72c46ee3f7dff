"""Functions of groups of rows, and how closely a printed number can be held to one.

One sort by group serves all functions of all columns; a suspect's number is compared at the
precision it is printed with, no finer and no coarser.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CODED", "FUNCTIONS", "Groups", "agreement", "largest_of", "printed_step", "reach", "slack"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FUNCTIONS = (
    "count", "sum", "mean", "min", "max", "median", "std", "population-std", "count-distinct", "first",
)  # fmt: skip
"""Functions of the present cells of a group; ``std`` divides by n - 1, ``population-std`` by n."""

CODED = ("count", "count-distinct")
"""The functions that need no numbers."""

_SORTED = {"median", "count-distinct"}
_DECIMALS = 9


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows of the original by group.

    Attributes
    ----------
    rows : (k,) int64
        Rows that belong to a group, group by group, within one in file order.
    group : (k,) int64
        Their groups, ascending.
    count : int
        Number of groups, with or without rows.
    """

    rows: I64
    group: I64
    count: int

    @classmethod
    def of(cls, group: I64, count: int) -> Groups:
        """Sort rows by group, (n,) int64, -1 for rows that belong to none."""
        inside = np.flatnonzero(group >= 0)
        order = np.argsort(group[inside], kind="stable")
        return cls(inside[order], group[inside[order]], count)

    @property
    def sizes(self) -> I64:
        """(count,) int64: rows of each group."""
        return np.bincount(self.group, minlength=self.count).astype(np.int64)

    def only(self, rows: B) -> Groups:
        """Return the groups with only those of their rows that are chosen, (n,) bool over the original's rows."""
        kept = rows[self.rows]
        return Groups(self.rows[kept], self.group[kept], self.count)

    def values(self, functions: Iterable[str], numbers: F64) -> dict[str, F64]:
        """Return functions of a column by group.

        Parameters
        ----------
        functions : iterable of str
            Of `FUNCTIONS`.
        numbers : (n,) float64
            The column, nan where missing; ids of values will do for those of `CODED`.

        Returns
        -------
        mapping of str to (count,) float64
            nan where a function is not defined: no present cell, or fewer than two for ``std``.
        """
        y = numbers[self.rows]
        present = ~np.isnan(y)
        y, group = y[present], self.group[present]
        n = np.bincount(group, minlength=self.count)
        some = np.flatnonzero(n)
        start = (np.cumsum(n) - n)[some]
        wanted = list(functions)
        out = {f: self._one(f, y, group, n, some, start) for f in wanted if f not in _SORTED}
        if _SORTED & set(wanted):
            ordered = y[np.lexsort((y, group))]
            out |= {f: _of_sorted(f, ordered, group, n, some, start) for f in wanted if f in _SORTED}
        return out

    def _one(self, function: str, y: F64, group: I64, n: I64, some: I64, start: I64) -> F64:
        out = np.full(self.count, np.nan)
        if not len(some):
            return out
        with np.errstate(over="ignore", invalid="ignore"):
            if function == "count":
                out[some] = n[some]
            elif function in ("sum", "mean"):
                total = np.bincount(group, y, self.count)[some]
                out[some] = total / n[some] if function == "mean" else total
            elif function == "first":
                out[some] = y[start]
            elif function in ("min", "max"):
                out[some] = (np.minimum if function == "min" else np.maximum).reduceat(y, start)
            else:
                out = _deviation(y, group, n, 1 if function == "std" else 0)
        return np.where(np.isfinite(out), out, np.nan)


def _deviation(y: F64, group: I64, n: I64, less: int) -> F64:
    mean = np.bincount(group, y, len(n)) / np.maximum(1, n)
    square = np.bincount(group, (y - mean[group]) ** 2, len(n))
    return np.where(n > less, np.sqrt(square / np.maximum(1, n - less)), np.nan)


def _of_sorted(function: str, y: F64, group: I64, n: I64, some: I64, start: I64) -> F64:
    out = np.full(len(n), np.nan)
    if not len(some):
        return out
    if function == "median":
        low, high = y[start + (n[some] - 1) // 2], y[start + n[some] // 2]
        out[some] = low + (high - low) / 2
        return out
    new = np.ones(len(y), bool)
    new[1:] = (y[1:] != y[:-1]) | (group[1:] != group[:-1])
    out[some] = np.bincount(group[new], minlength=len(n))[some]
    return out


def printed_step(values: F64) -> float:
    """Return the last decimal place that a column of numbers is printed with, as a step; 0 for more than nine."""
    present = values[np.isfinite(values)]
    for decimals in range(_DECIMALS + 1):
        if np.array_equal(np.round(present, decimals), present):
            return float(10.0**-decimals)
    return 0.0


def largest_of(numbers: F64) -> float:
    """Return the largest absolute value of some numbers; 0 where there is none."""
    return max(0.0, float(np.fmax.reduce(np.abs(numbers), initial=0.0)))


def slack(function: str, largest: float, sizes: F64) -> F64:
    """Return what the order of additions may change in a function, by group; the same for any assignment of values.

    Parameters
    ----------
    function : str
    largest : float
        See `largest_of`; of the original's column.
    sizes : (m,) float64
        Present cells by group.
    """
    if function in CODED:
        return np.zeros(len(sizes))
    return 1e-13 * largest * (sizes if function == "sum" else np.ones(len(sizes)))


def agreement(suspect: F64, step: float | F64, values: F64, more: F64 | float = 0.0) -> B:
    """Return where the suspect's numbers are the given values, as printed.

    Parameters
    ----------
    suspect : (..., m) float64
    step : float or float64
        See `printed_step`; half of it, or 1e-9 of the number, is allowed, whichever is more.
    values : (..., m) float64
    more : (m,) float64 or float
        Allowed besides.

    Returns
    -------
    (..., m) bool
        False where either is nan.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        close: B = np.abs(suspect - values) <= reach(suspect, step) + more
    return close


def reach(suspect: F64, step: float | F64) -> F64:
    """Return how far a value may be from each printed number."""
    return np.maximum(step / 2 * (1 + 1e-6), 1e-9 * np.abs(suspect))
