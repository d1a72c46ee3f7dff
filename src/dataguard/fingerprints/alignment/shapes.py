"""Which numeric columns may be which, by distribution alone: a guess for rows to confirm.

Noise on every cell, or another unit, leaves no value in common; the shape of a distribution and the
correlations between columns survive both. Shapes are cheap and prove nothing: sibling data
share them, so a column found here counts only once aligned rows back it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dataguard.carrier import ColumnMatch
from dataguard.fingerprints.alignment.columns import fold_name
from dataguard.maps import ValueMap
from dataguard.values import Canonical, CanonicalTable

__all__ = ["guess_columns", "rank_correlations", "with_noise"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_SAMPLE = 4096
_POINTS = (np.arange(129) + 0.5) / 129
"""Quantiles compared."""

_HUGE = 1e150
"""Numbers beyond which squares overflow: they have no part in a shape."""

_DISTINCT = 8
"""Distinct values below which a column has no shape to speak of."""

_TRIED = {"": 2.0, "log": 4.0, "log1p": 4.0, "sqrt": 4.0, "square": 4.0, "exp": 5.0, "reciprocal": 5.0}
"""Functions tried before an affine map, and what each costs in nats against the identity."""

_FLIPPED, _RANKED, _NAMED = 1.0, 5.0, 3.0
"""What a falling map and ranks cost, and an equal name is worth, in nats."""

_WORST = -12.0
"""Nats below which a pair is not even a guess."""

_MANY = 250_000
"""Pairs of columns beyond which only the identity and affine maps are tried."""

_ROUNDS = 4

_NOISES = (0.05, 0.02, 0.005)
"""Standard deviations of noise that are tried for guessed columns, in those of the column."""


@dataclass(frozen=True, slots=True)
class _Shapes:
    """Numeric columns of one table: positions, quantiles, and a sample of their rows."""

    columns: I64  # (k,)
    quantiles: F64  # (k, points)
    missing: F64  # (k,) share of missing cells
    sample: F64  # (k, rows) for correlations, nan where missing

    @classmethod
    def of(cls, table: CanonicalTable, columns: Sequence[int], allowed: I64 | None = None) -> _Shapes:
        rows = np.arange(table.rows) if allowed is None else allowed
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(np.int64)]
        kept, quantiles, missing, samples = [], [], [], []
        for c in columns:
            values = _numbers(table.columns[c], rows)
            values[np.abs(values) > _HUGE] = np.nan
            present = values[np.isfinite(values)]
            if len(present) >= _DISTINCT and len(np.unique(present)) >= _DISTINCT:
                kept.append(c)
                quantiles.append(np.quantile(present, _POINTS))
                missing.append(1 - len(present) / len(values))
                samples.append(values)
        empty = np.empty((0, len(_POINTS)))
        return cls(
            np.array(kept, np.int64), np.stack(quantiles) if kept else empty, np.array(missing),
            np.stack(samples) if kept else np.empty((0, len(rows))),
        )  # fmt: skip


def _numbers(column: Canonical, rows: I64) -> F64:
    return column.take_cells(rows).number


def guess_columns(
    original: CanonicalTable, suspect: CanonicalTable, columns: Sequence[ColumnMatch], learning: I64
) -> tuple[ColumnMatch, ...]:
    """Return further columns that may correspond, by the shapes of their distributions.

    Parameters
    ----------
    original, suspect : CanonicalTable
    columns : sequence of ColumnMatch
        Columns already matched: they are left out, and their correlations with the others help.
    learning : (k,) int64
        Suspect rows to learn from.

    Returns
    -------
    tuple of ColumnMatch
        With ``by="shape"`` and a rough map where the values are not on one scale.
    """
    from scipy.optimize import linear_sum_assignment

    taken_o, taken_s = {c.original for c in columns}, {c.suspect for c in columns}
    left = _Shapes.of(suspect, [i for i in range(len(suspect.columns)) if i not in taken_s], learning)
    right = _Shapes.of(original, [i for i in range(len(original.columns)) if i not in taken_o])
    if not (len(left.columns) and len(right.columns)):
        return ()
    few = left.sample.shape[1]
    worth, maps = _worth(left, right, 0.02 + 1.0 / np.sqrt(few))
    for i, s in enumerate(left.columns):
        for j, o in enumerate(right.columns):
            if fold_name(suspect.names[s]) == fold_name(original.names[o]):
                worth[i, j] += _NAMED
    anchors = _anchors(original, suspect, columns, learning)
    consistent = _Consistency(left, right, maps, anchors, 0.05 + 1.5 / np.sqrt(few))
    total, chosen = worth, np.full(len(left.columns), -1)
    for _ in range(_ROUNDS):
        usable: B = total > _WORST + np.minimum(0.0, total - worth)
        rows, cols = linear_sum_assignment(np.where(usable, total - 2 * _WORST, 0.0), maximize=True)
        before, chosen = chosen, np.full(len(left.columns), -1)
        chosen[rows] = np.where(usable[rows, cols], cols, -1)
        if np.array_equal(before, chosen):
            break
        total = worth + consistent.of(chosen)
    return tuple(
        ColumnMatch(int(right.columns[o]), int(left.columns[s]), "shape", 0.0, maps[s][o])
        for s, o in enumerate(chosen.tolist())
        if o >= 0 and worth[s, o] > _WORST
    )


def with_noise(suspect: CanonicalTable, guess: Sequence[ColumnMatch]) -> Iterator[tuple[ColumnMatch, ...]]:
    """Yield guessed columns with noise of several sizes: how near is near is not known before rows are."""
    rows = np.linspace(0, suspect.rows - 1, min(suspect.rows, _SAMPLE)).astype(np.int64)
    spread = []
    for c in guess:
        x = _numbers(suspect.columns[c.suspect], rows)
        spread.append(float(np.std(x[np.abs(x) <= _HUGE])))  # nan is not small
    for share in _NOISES:
        yield tuple(
            replace(c, through=replace(c.through or ValueMap(), noise=share * sd))
            if isinstance(c.through, ValueMap | None)
            else c
            for c, sd in zip(guess, spread, strict=True)
        )


def _worth(left: _Shapes, right: _Shapes, tolerance: float) -> tuple[F64, list[list[ValueMap | None]]]:
    """Return nats for every pair of columns by the best map, and that map."""
    shape = (len(left.columns), len(right.columns))
    worth = np.full(shape, -np.inf)
    maps: list[list[ValueMap | None]] = [[None] * shape[1] for _ in range(shape[0])]
    tried = _TRIED if shape[0] * shape[1] <= _MANY else {"": _TRIED[""]}
    seen = {f: ValueMap(f).curve(right.quantiles) for f in tried}
    ranks = np.tile(_POINTS, (shape[1], 1))
    for s in range(shape[0]):
        q = left.quantiles[s]
        spread = float(np.abs(q - np.median(q)).mean()) or 1.0
        plain = np.abs(right.quantiles - q).mean(1) / spread
        worth[s] = -0.5 * (plain / tolerance) ** 2
        for function, cost in (*tried.items(), ("table", _RANKED)):
            x = ranks if function == "table" else seen[function]
            for flipped in (False, True):
                y = q[::-1] if flipped else q
                scale, shift, off = _line(x, y)
                nats = -0.5 * (off / spread / tolerance) ** 2 - cost - (_FLIPPED if flipped else 0.0)
                for o in np.flatnonzero(nats > worth[s]):
                    worth[s, o] = nats[o]
                    maps[s][o] = _map(function, float(scale[o]), float(shift[o]), right.quantiles[o])
        worth[s] -= 2 * np.abs(left.missing[s] - right.missing) / 0.1
    return worth, maps


def _line(x: F64, y: F64) -> tuple[F64, F64, F64]:
    """Least squares of y on every row of x: scale, shift, mean absolute residual; inf where undefined."""
    defined: B = np.asarray(np.isfinite(x).all(1), np.bool_)
    z = np.where(defined[:, None], x, 0.0)
    mean = z.mean(1, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        power = ((z - mean) ** 2).sum(1)
        defined &= np.isfinite(power) & (power > 0)
        scale = ((z - mean) @ (y - y.mean())) / np.where(defined, power, 1.0)
        shift = y.mean() - scale * mean[:, 0]
        off = np.abs(scale[:, None] * z + shift[:, None] - y).mean(1)
    return scale, shift, np.where(defined & (scale != 0) & np.isfinite(off), off, np.inf)


def _map(function: str, scale: float, shift: float, quantiles: F64) -> ValueMap:
    if function != "table":
        return ValueMap(function, scale, shift)
    x, first = np.unique(quantiles, return_index=True)
    knots = zip(x.tolist(), (scale * _POINTS[first] + shift).tolist(), strict=True)
    return ValueMap("table", knots=tuple(knots))


# --- correlations ----------------------------------------------------------------------------------


def rank_correlations(x: F64, y: F64) -> F64:
    """Return Spearman's rank correlations of the rows of x with the rows of y, missing cells at the mean.

    Parameters
    ----------
    x : (a, m) float64
    y : (b, m) float64

    Returns
    -------
    (a, b) float64
        0 where a row is constant.
    """
    left, right = _ranks(x), _ranks(y)
    return left @ right.T


def _ranks(x: F64) -> F64:
    out = np.zeros(x.shape)
    for i, row in enumerate(x):
        present = np.isfinite(row)
        if not present.any():
            continue
        _, at, counts = np.unique(row[present], return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - (counts - 1) / 2.0
        rank = middle[at] - middle[at].mean()
        size = float(np.sqrt((rank**2).sum()))
        out[i, present] = rank / size if size > 0 else 0.0
    return out


@dataclass(frozen=True, slots=True)
class _Anchors:
    """Matched numeric columns: samples of both sides."""

    suspect: F64
    original: F64


def _anchors(
    original: CanonicalTable, suspect: CanonicalTable, columns: Sequence[ColumnMatch], learning: I64
) -> _Anchors:
    """Return samples of the matched columns that have a shape, at most 64."""
    pairs = []
    for c in columns:
        a = _Shapes.of(suspect, [c.suspect], learning)
        b = _Shapes.of(original, [c.original]) if len(a.columns) else a
        if len(a.columns) and len(b.columns):
            pairs.append((a.sample[0], b.sample[0]))
        if len(pairs) == 64:
            break
    if not pairs:
        return _Anchors(np.empty((0, 1)), np.empty((0, 1)))
    return _Anchors(np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs]))


class _Consistency:
    """How well a pair of columns fits the correlations of the pairs chosen so far."""

    def __init__(
        self,
        left: _Shapes,
        right: _Shapes,
        maps: list[list[ValueMap | None]],
        anchors: _Anchors,
        tolerance: float,
    ) -> None:
        self._left = rank_correlations(left.sample, left.sample)
        self._right = rank_correlations(right.sample, right.sample)
        self._falling = np.array(
            [[-1.0 if m is not None and m.scale < 0 else 1.0 for m in row] for row in maps]
        )
        self._tolerance = tolerance
        self._fixed = np.zeros(self._falling.shape)
        if len(anchors.suspect):
            a = rank_correlations(left.sample, anchors.suspect)
            b = rank_correlations(right.sample, anchors.original)
            self._fixed = -_capped(a[:, None, :] - self._falling[:, :, None] * b[None], tolerance).sum(2)

    def of(self, chosen: I64) -> F64:
        """Return nats (at most 0) of every pair, given the original column (-1: none) of each suspect column."""
        total = self._fixed.copy()
        for s, o in enumerate(chosen.tolist()):
            if o < 0:
                continue
            expected = self._falling * self._falling[s, o] * self._right[:, o][None]
            off = _capped(self._left[:, s][:, None] - expected, self._tolerance)
            off[s] = 0.0
            total -= off
        return total


def _capped(off: F64, tolerance: float) -> F64:
    nats: F64 = np.minimum(4.0, 0.5 * (off / tolerance) ** 2)
    return nats
