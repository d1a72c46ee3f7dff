"""One column as the miners see it: dense codes, numbers, grid and spread.

Everything the miners ask of a column more than once is worked out here, once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataguard.cells import BIG, TEXT
from dataguard.values import Canonical, mix64

__all__ = [
    "CLOCK_PARTS",
    "Codes",
    "Column",
    "dense",
    "examine",
    "finite",
    "floor_to",
    "partnered",
    "spread",
    "view",
]

B1 = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

CLOCK_PARTS = ("date", "clock", "weekday")
"""Views of a time that other columns may repeat."""

_DAY = 86_400_000_000
_MOST_DECIMALS = 9
_TAIL = 0.005  # share cut at either end: one absurd price must not widen everybody's tolerance


@dataclass(frozen=True, slots=True)
class Codes:
    """A column, or a view of one, as small integers.

    Attributes
    ----------
    codes : (n,) int64
        0 .. levels - 1; -1 where missing.
    levels : int
    counts : (levels,) int64
        Rows per code.
    """

    codes: I64
    levels: int
    counts: I64

    @property
    def present(self) -> int:
        """Rows that are not missing."""
        return int(self.counts.sum())

    @property
    def collision(self) -> float:
        """Chance that two different present rows, drawn at random, are equal."""
        n = self.present
        return float((self.counts * (self.counts - 1.0)).sum() / (n * (n - 1.0))) if n > 1 else 0.0

    @property
    def repeats(self) -> float:
        """Share of rows equal to the row before, both present."""
        a, b = self.codes[1:], self.codes[:-1]
        both = (a >= 0) & (b >= 0)
        return float((a[both] == b[both]).mean()) if both.any() else 0.0


@dataclass(frozen=True, slots=True)
class Column:
    """A column examined.

    Attributes
    ----------
    name : str
    kind : str
        ``number, time, text`` or ``empty``, as in :class:`dataguard.values.Canonical`.
    canonical : Canonical
    coded : Codes
    value : (n,) float64
        Numbers, times in seconds; nan elsewhere.
    unit : float
        One in the last decimal printed; a millionth of the largest value where unrounded.
    step : float
        Grid of the distinct values; 0 where they are not on one.
    sd : float
        Standard deviation after cutting half a per cent at either end to its quantile.
    whole : bool
        Whether all values are integers.
    big : bool
        Whether any value is beyond 2**53.
    """

    name: str
    kind: str
    canonical: Canonical
    coded: Codes
    value: F64
    unit: float
    step: float
    sd: float
    whole: bool
    big: bool

    @property
    def numeric(self) -> bool:
        """Whether values are numbers or times."""
        return self.kind in {"number", "time"}

    @property
    def distinct(self) -> F64:
        """(levels,) float64: the distinct values, ascending."""
        found: F64 = np.unique(self.value[~np.isnan(self.value)])
        return found


def spread(n: int, size: int) -> I64:
    """Return `size` of the row numbers 0 .. n - 1, well mixed and always the same."""
    if n <= size:
        return np.arange(n)
    mixed = mix64(np.arange(n, dtype=np.uint64))
    return np.sort(np.argpartition(mixed, size)[:size])


def dense(values: NDArray[np.generic], missing: B1) -> Codes:
    """Return dense codes of an (n,) array, in order of first appearance."""
    encoded = pc.dictionary_encode(pa.array(values, mask=missing))
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    levels = len(encoded.dictionary)
    return Codes(codes, levels, np.bincount(codes[codes >= 0], minlength=levels).astype(np.int64))


def finite(canonical: Canonical) -> F64:
    """Return the numbers of a column, (n,) float64, times in seconds; nan for all else, infinities too."""
    value = canonical.number
    value[~np.isfinite(value)] = np.nan
    return value


def examine(name: str, canonical: Canonical) -> Column:
    """Return a column examined."""
    coded = dense(canonical.key, canonical.key == 0)
    kind = canonical.kind
    value = finite(canonical) if kind in {"number", "time"} else np.full(len(canonical), np.nan)
    unit, step, whole = _grid(np.unique(value[~np.isnan(value)]))
    big = bool((canonical.tag == BIG).any())
    return Column(name, kind, canonical, coded, value, unit, step, _scale(value), whole, big)


def _grid(distinct: F64) -> tuple[float, float, bool]:
    """Return unit in the last decimal, step between values, and whether all are integers."""
    if len(distinct) == 0:
        return 0.0, 0.0, False
    largest = float(np.abs(distinct).max())
    for decimals in range(_MOST_DECIMALS + 1):
        if largest * 10.0**decimals >= 2**53:
            break
        scaled = distinct * 10.0**decimals
        near = np.rint(scaled)
        # A decimal read into binary64 is off by a few of its own last bits, no more.
        if float(np.mean(np.abs(scaled - near) <= 2e-15 * np.abs(scaled) + 1e-12)) >= 0.999:
            steps = np.diff(np.unique(near)).astype(np.int64)
            common = int(np.gcd.reduce(steps)) if len(steps) else 1
            return 10.0**-decimals, common * 10.0**-decimals, decimals == 0
    gaps = np.diff(distinct)
    gaps = gaps[gaps > 1e-9 * max(largest, 1e-300)]
    return 1e-6 * largest, float(gaps.min()) if len(gaps) else 0.0, False


def _scale(value: F64) -> float:
    present = value[~np.isnan(value)]
    if len(present) < 2:
        return 0.0
    low, high = np.quantile(present, [_TAIL, 1 - _TAIL])
    cut = float(np.clip(present, low, high).std())
    return cut if cut > 0 else float(present.std())


def view(column: Column, part: str) -> Codes:
    """Return the codes of a column, or of a part of it.

    Parameters
    ----------
    column : Column
    part : str
        Empty (the value), ``prefix``, ``date``, ``clock``, ``weekday`` or ``sign``.
    """
    missing = column.coded.codes < 0
    if part == "prefix":
        return _prefixes(column.canonical, missing)
    if part == "sign":
        return dense(np.sign(np.nan_to_num(column.value)), np.isnan(column.value))
    if part in CLOCK_PARTS:
        micros = column.canonical.word.view(np.int64)
        days = micros // _DAY
        parts: dict[str, I64] = {"date": days, "clock": micros - days * _DAY, "weekday": days % 7}
        return dense(parts[part], missing)
    return column.coded


def _prefixes(canonical: Canonical, missing: B1) -> Codes:
    """Codes of the letters before the first digit; a plain number has the empty prefix."""
    if len(canonical.texts) == 0:
        return dense(np.zeros(len(missing), np.int64), missing)
    heads = pc.struct_field(pc.extract_regex(canonical.texts, r"(?P<h>^[^0-9]*)"), "h")
    table = pc.dictionary_encode(pc.fill_null(heads, ""))
    index = table.indices.to_numpy(zero_copy_only=False).astype(np.int64) + 1
    empty = [i for i, t in enumerate(table.dictionary.to_pylist()) if not t]
    index[np.isin(index, np.array(empty, np.int64) + 1)] = 0
    codes = np.zeros(len(missing), np.int64)
    text = canonical.tag == TEXT
    codes[text] = index[canonical.word[text].astype(np.int64)]
    return dense(codes, missing)


def partnered(column: Column, amount: float) -> float:
    """Return the share of rows that find enough rows with another value within `amount`.

    Enough is as many as share the row's own value. Values of more than 30 % of the rows do
    not count: they do not move.
    """
    value, count = np.unique(column.value[~np.isnan(column.value)], return_counts=True)
    reach = amount * (1 + 1e-9)
    total = np.concatenate([[0], np.cumsum(count)])
    first = np.searchsorted(value, value - reach)
    last = np.searchsorted(value, value + reach, side="right")
    enough = total[last] - total[first] - count >= count
    moving = count <= 0.3 * count.sum()
    return float(count[enough & moving].sum() / max(count[moving].sum(), 1))


def floor_to(amount: float, step: float) -> float:
    """Return `amount` rounded down to whole steps; the small excess forgives binary fractions."""
    return math.floor(amount / step + 1e-9) * step if step > 0 else amount
