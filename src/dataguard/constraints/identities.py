"""Finding row-wise arithmetic: sums, fees, clock times, conversions, products and orders.

A few hundred rows propose, all pairs of inputs at once; all rows confirm
(:func:`dataguard.constraints.arithmetic.confirm`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, permutations, product

import numpy as np
from numpy.typing import NDArray

from dataguard.constraints.arithmetic import (
    MOST_RESIDUALS,
    clock_minutes,
    confirm,
    holds,
    residual,
    top_values,
)
from dataguard.constraints.columns import Column, spread
from dataguard.constraints.facts import Identity, Role

__all__ = ["mine_identities", "unexplained"]

F64 = NDArray[np.float64]

_SAMPLE = 256
_POOL_SAMPLE = 2000
_POOL = 8
_OUTSIDE = frozenset({"constant", "empty", "dummy", "coordinate"})
_UNORDERED = frozenset({"date-part", "category", "label"})
_WEIGHTS = ((1.0, 1.0), (100.0, 1.0), (60.0, 1.0))
_TIME_UNITS = (1.0, 60.0, 3600.0, 86400.0)


def mine_identities(columns: Sequence[Column], given: Mapping[str, Role]) -> tuple[Identity, ...]:
    """Return the arithmetic facts of a table, each set of columns once.

    Parameters
    ----------
    columns : sequence of Column
    given : mapping of str to Role
        Dummies and coordinates take no part. Keys do: a total may well be different in every row.
    """
    taken = [c for c in columns if c.numeric and c.coded.levels >= 3 and given[c.name].name not in _OUTSIDE]
    if not taken:
        return ()
    miner = _Miner(taken)
    found: list[Identity] = []
    for propose in (miner.scaled, miner.clocks, miner.sums, miner.durations, miner.products, miner.fees):
        for candidate in sorted(propose(), key=_plainness):
            # A wider identity is no news where a narrower one already fixes the same columns.
            if not any(set(f.columns) <= set(candidate.columns) for f in found):
                confirmed = confirm(candidate, miner.values)
                found += [confirmed] if confirmed else []
    clocks = {c for f in found if f.kind == "clock" for c in f.columns}
    barred = clocks | {c for c, r in given.items() if r.name in _UNORDERED}
    orders = miner.orders(barred)
    ties = [set(f.columns) for f in found if f.kind == "scaled"]
    return (*found, *(o for o in orders if set(o.columns) not in ties))


def unexplained(columns: Sequence[Column], identities: Sequence[Identity]) -> dict[str, float]:
    """Return, per number column, the share of its sd that the other columns do not predict.

    Linear regression on all number columns that no identity ties to it. A move larger than
    what they leave open would stand out to anyone who does the same, and could be undone.

    Parameters
    ----------
    columns : sequence of Column
    identities : sequence of Identity
    """
    names = [c.name for c in columns if c.kind == "number" and c.coded.levels >= 2 and c.sd > 0]
    if not names:
        return {}
    rows = spread(len(columns[0].value), _POOL_SAMPLE)
    wide = {c.name: _standard(np.clip(c.value[rows], *_fence(c))) for c in columns if c.name in names}
    tied = {
        n: {c for i in identities if n in i.columns and i.kind != "order" for c in i.columns} for n in names
    }
    out = {}
    for name in names:
        others = [wide[n] for n in names if n != name and n not in tied[name]]
        spare = len(rows) - len(others) - 1
        if not others or spare < 4 * len(others):
            out[name] = 1.0
            continue
        matrix = np.stack(others, axis=1)
        left = wide[name] - matrix @ np.linalg.lstsq(matrix, wide[name], rcond=None)[0]
        out[name] = min(1.0, float(np.sqrt(left @ left / spare)))
    return out


def _fence(column: Column) -> tuple[float, float]:
    """Return bounds four sd from the median: outliers must not make the others look useless."""
    middle = float(np.nanmedian(column.value))
    return middle - 4 * column.sd, middle + 4 * column.sd


def _plainness(identity: Identity) -> tuple[int, int, int]:
    """Fewer inputs, fewer minus signs, fewer residuals first."""
    return len(identity.inputs), sum(c < 0 for c in identity.coefficients), len(identity.residuals)


class _Miner:
    """The numeric columns, whole and sampled."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = {c.name: c for c in columns}
        self.values = {c.name: c.value for c in columns}
        self.plain = [c.name for c in columns if c.kind == "number"]
        self.times = [c.name for c in columns if c.kind == "time"]
        n = len(columns[0].value)
        rows = _fullest(columns, spread(n, 20 * _SAMPLE), _SAMPLE)
        self.sample = {c.name: c.value[rows] for c in columns}
        wide = spread(n, _POOL_SAMPLE)
        self.wide = {c.name: c.value[wide] for c in columns}
        self.half = {c.name: 0.5 * c.unit * (1 + 1e-6) for c in columns}

    # --- conversions ---------------------------------------------------------------------------

    def scaled(self) -> Iterator[Identity]:
        """Propose y = a x + b, up to the rounding of both."""
        for y, x in combinations(self.plain, 2):
            a, b = self.wide[y], self.wide[x]
            both = np.isfinite(a) & np.isfinite(b)
            if both.sum() < 30 or a[both].std() == 0 or b[both].std() == 0:
                continue
            if abs(np.corrcoef(a[both], b[both])[0, 1]) < 0.9999:
                continue
            fitted: F64 = np.polyfit(b[both], a[both], 1)
            slope, offset = (float(f"{v:.12g}") for v in fitted)
            tolerance = self.half[y] + abs(slope) * self.half[x]
            offset = 0.0 if abs(offset) < 1e-3 * tolerance else offset
            if tolerance <= 0.05 * self.columns[y].sd:
                exact = tolerance + 1e-9 * np.abs(a[both]).max()
                yield Identity("scaled", y, (x,), (slope,), (offset,), float(exact), 0, 0)

    # --- clock times ---------------------------------------------------------------------------

    def clocks(self) -> Iterator[Identity]:
        """Propose HHMM target = HHMM base + minutes, modulo 24 hours."""
        clocks = [n for n in self.plain if _is_clock(self.columns[n])]
        delays = [n for n in self.plain if self.columns[n].whole and n not in clocks]
        for target, base in permutations(clocks, 2):
            for delay in delays:
                candidate = Identity("clock", target, (base, delay), (1.0, 1.0), (0.0,), 0.0, 0, 0)
                if self._promising(candidate):
                    yield candidate

    # --- sums, products, durations ----------------------------------------------------------------

    def sums(self) -> Iterator[Identity]:
        """Propose target = x + y, 100 x + y or 60 x + y."""
        for a, b in _WEIGHTS:
            pairs = list(combinations(self.plain, 2) if a == b else permutations(self.plain, 2))
            for target, (x, y) in self._hits(pairs, lambda p, q, a=a, b=b: a * p + b * q):
                yield Identity("sum", target, (x, y), (a, b), (0.0,), self.half[target], 0, 0)

    def products(self) -> Iterator[Identity]:
        """Propose target = x * y."""
        pairs = list(combinations(self.plain, 2))
        for target, (x, y) in self._hits(pairs, lambda p, q: p * q):
            yield Identity("product", target, (x, y), (1.0, 1.0), (0.0,), self.half[target], 0, 0)

    def durations(self) -> Iterator[Identity]:
        """Propose time = time + k seconds x number."""
        for target, base in permutations(self.times, 2):
            for name, unit in product(self.plain, _TIME_UNITS):
                tolerance = max(self.half[name] * unit, 1e-6)
                candidate = Identity("sum", target, (base, name), (1.0, unit), (0.0,), tolerance, 0, 0)
                if self._promising(candidate):
                    yield candidate

    def _hits(self, pairs: Sequence[tuple[str, str]], join: object) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield targets with the pairs of inputs that agree in 90 % of the complete rows of the sample."""
        if not pairs:
            return
        assert callable(join)
        first = np.stack([self.sample[p] for p, _ in pairs])
        second = np.stack([self.sample[q] for _, q in pairs])
        right = join(first, second)
        for target in self.plain:
            z = self.sample[target]
            with np.errstate(invalid="ignore"):
                off = np.abs(right - z)
                good = (off <= self.half[target] + 4e-16 * np.abs(z)).sum(axis=1)
            seen = np.isfinite(off).sum(axis=1)
            for i in np.flatnonzero((seen >= 20) & (good >= 0.9 * seen)).tolist():
                if target not in pairs[i]:
                    yield target, pairs[i]

    def _promising(self, candidate: Identity) -> bool:
        left = residual(candidate, self.sample)
        seen = np.isfinite(left)
        return bool(seen.sum() >= 20 and holds(candidate, self.sample)[seen].mean() >= 0.9)

    # --- sums up to a fee ----------------------------------------------------------------------

    def fees(self) -> Iterator[Identity]:
        """Propose target minus two or three signed inputs, where that takes at most eight values."""
        best: dict[frozenset[str], Identity] = {}
        for target in self.plain:
            pool = self._pool(target)
            for size in (2, 3):
                for names in combinations(pool, size):
                    for candidate in self._few(target, names):
                        kept = best.setdefault(frozenset(candidate.columns), candidate)
                        if _plainness(candidate) < _plainness(kept):
                            best[frozenset(candidate.columns)] = candidate
        yield from best.values()

    def _pool(self, target: str) -> list[str]:
        """Return the inputs that explain a target, one after the other (orthogonal matching pursuit)."""
        names = [n for n in self.plain if n != target]
        if len(names) <= _POOL:
            return names
        matrix = np.stack([_standard(self.wide[n]) for n in names], axis=1)
        z = _standard(self.wide[target])
        chosen: list[int] = []
        left = z
        for _ in range(_POOL):
            gain = np.abs(matrix.T @ left)
            gain[chosen] = -1
            chosen.append(int(gain.argmax()))
            left = z - matrix[:, chosen] @ np.linalg.lstsq(matrix[:, chosen], z, rcond=None)[0]
        return [names[i] for i in chosen]

    def _few(self, target: str, names: Sequence[str]) -> Iterator[Identity]:
        grid = min(self.columns[n].unit for n in (target, *names))
        if grid <= 0:
            return
        signs = np.array(list(product((1.0, -1.0), repeat=len(names))))
        left = self.sample[target] - signs @ np.stack([self.sample[n] for n in names])
        left = left[:, np.isfinite(left[0])]
        if left.shape[1] < 40:
            return
        steps = np.sort(np.rint(left / grid), axis=1)
        kinds = 1 + (np.diff(steps, axis=1) != 0).sum(axis=1)
        for i in np.flatnonzero(kinds <= MOST_RESIDUALS + 0.05 * steps.shape[1]):
            shape = Identity("few", target, tuple(names), tuple(signs[i].tolist()), (), 0.5 * grid, 0, 0)
            allowed, share = top_values(residual(shape, self.values), grid)
            if share >= 0.98:
                yield Identity("few", target, shape.inputs, shape.coefficients, allowed, 0.5 * grid, 0, 0)

    # --- order ---------------------------------------------------------------------------------

    def orders(self, barred: set[str]) -> Iterable[Identity]:
        """Yield target >= input that holds in 99.9 % of the rows, where the ranges alone do not say so."""
        for kind in (self.plain, self.times):
            names = [n for n in kind if n not in barred]
            for low, high in permutations(names, 2):
                if self._may_order(low, high):
                    found = self._order(low, high)
                    if found:
                        yield found

    def _may_order(self, low: str, high: str) -> bool:
        with np.errstate(invalid="ignore"):
            return not (self.sample[high] < self.sample[low]).sum() > 3

    def _order(self, low: str, high: str) -> Identity | None:
        a, b = self.values[low], self.values[high]
        both = np.isfinite(a) & np.isfinite(b)
        n = int(both.sum())
        if n < 100:
            return None
        a, b = a[both], b[both]
        wrong = int((b < a).sum())
        by_chance = float((np.roll(b, 7919 % n or 1) >= a).mean())
        if wrong > 0.001 * n or by_chance > 0.98:
            return None
        return Identity("order", high, (low,), (1.0,), (), 0.0, n, wrong)


def _fullest(columns: Sequence[Column], rows: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return the rows with the fewest missing values: a mostly empty column must not hide an identity."""
    missing = np.sum([np.isnan(c.value[rows]) for c in columns], axis=0)
    return rows[np.sort(np.argsort(missing, kind="stable")[:size])]


def _is_clock(column: Column) -> bool:
    """HHMM: integers 0 to 2400, minutes below 60, too many of them for that to be chance."""
    if not column.whole or column.coded.levels < 30:
        return False
    value = column.distinct
    if value[0] < 0 or value[-1] > 2400 or value[-1] < 1000:
        return False
    return float((np.mod(value, 100) < 60).mean()) >= 0.99 and float(np.ptp(clock_minutes(value))) > 120


def _standard(value: F64) -> F64:
    """Return centred and scaled values, missing ones at the mean."""
    finite = np.isfinite(value)
    if not finite.any():
        return np.zeros(len(value))
    filled = np.where(finite, value, value[finite].mean())
    sd = filled.std()
    return (filled - filled.mean()) / sd if sd > 0 else np.zeros(len(value))
