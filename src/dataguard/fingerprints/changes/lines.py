"""Straight lines through row pairs of which up to a third are wrong.

Random sample consensus (Fischler, Bolles 1981) with lines through two points, chosen by a public hash instead
of chance, and least median of squares (Rousseeuw 1984) for values that carry noise. Frequent values count by
the root of their number: a column that is 0 in nine rows of ten has its say in the tenth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.values import mix64

__all__ = [
    "Points",
    "candidate_lines",
    "monotone",
    "points_of",
    "rank_correlation",
    "refined",
    "weighted_median",
]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MOST = 4096
_SAMPLE = 512
_LINES = 160


@dataclass(frozen=True, slots=True)
class Points:
    """Pairs of numbers, in hashed order.

    Attributes
    ----------
    x, y : (m,) float64
        Finite.
    weight : (m,) float64
        1 / root of how many rows hold this x; their sum is 1.
    sample : (s,) int64
        Positions, drawn evenly by weight.
    at, value : (d,) float64
        Distinct x, ascending, and the (lower) median y of each.
    """

    x: F64
    y: F64
    weight: F64
    sample: I64
    at: F64
    value: F64


def points_of(x: F64, y: F64) -> Points | None:
    """Return the pairs that are there on both sides, thinned out evenly; None for fewer than 8, or a constant."""
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(known) < 8:
        return None
    known = known[np.arange(min(len(known), MOST)) * len(known) // min(len(known), MOST)]
    known = known[np.argsort(mix64(np.arange(len(known), dtype=np.uint64)))]
    x, y = x[known], y[known]
    order = np.lexsort((y, x))
    at, first, group, count = np.unique(x[order], return_index=True, return_inverse=True, return_counts=True)
    if len(at) < 2 or y.min() == y.max():
        return None
    weight = np.empty(len(x))
    weight[order] = 1 / np.sqrt(count)[group]
    weight /= weight.sum()
    places = (np.arange(_SAMPLE) + 0.5) / _SAMPLE
    sample = np.minimum(np.searchsorted(np.cumsum(weight), places), len(x) - 1)
    sample = np.arange(len(x)) if len(x) <= _SAMPLE else sample
    return Points(x, y, weight, sample, at, y[order][first + (count - 1) // 2])


def weighted_median(values: F64, weight: F64) -> float:
    """Return the value at which half of the weight lies below."""
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][min(len(values) - 1, int(np.searchsorted(total, total[-1] / 2)))])


def monotone(points: Points) -> float:
    """Return how far y goes with x, or with its size: the larger absolute rank correlation (Spearman 1904)."""
    few = np.arange(0, len(points.at), max(1, len(points.at) // 1024))
    x, y = points.at[few], points.value[few]
    return max(abs(rank_correlation(x, y)), abs(rank_correlation(np.abs(x), y)))


def rank_correlation(x: F64, y: F64) -> float:
    """Return Spearman's rank correlation of two columns without gaps; 0 where one is constant."""
    a, b = (_ranks(v) for v in (x, y))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def _ranks(v: F64) -> F64:
    _, group, count = np.unique(v, return_inverse=True, return_counts=True)
    middle: F64 = (np.cumsum(count) - (count - 1) / 2)[group]
    return middle


def candidate_lines(points: Points, u: F64, u_at: F64, tolerance: F64) -> list[tuple[float, float, float]]:
    """Return some lines y = a u + b: those that most pairs lie on, and the one with the least median residual.

    Parameters
    ----------
    points : Points
    u, u_at : float64
        Function of ``points.x`` and of ``points.at``; nan where it is not defined.
    tolerance : (m,) float64
        How far a pair may be off.

    Returns
    -------
    list of (a, b, share)
        With the share of the sample within twice the tolerance.
    """
    known = np.flatnonzero(np.isfinite(u_at))
    if len(known) < 3:
        return []
    at, value = u_at[known], points.value[known]
    order = np.argsort(at)
    at, value = at[order], value[order]
    d = len(at)
    h = mix64(np.arange(8 * _LINES, dtype=np.uint64))
    i, j = (h >> np.uint64(32)) % np.uint64(d), (h & np.uint64(2**32 - 1)) % np.uint64(d)
    wide = 0.1 * (at[(d - 1) * 19 // 20] - at[(d - 1) // 20])
    far = np.flatnonzero((np.abs(at[i] - at[j]) >= wide) & (at[i] != at[j]) & (value[i] != value[j]))[:_LINES]
    if not len(far):
        return []
    i, j = i[far], j[far]
    a = (value[j] - value[i]) / (at[j] - at[i])
    b = value[i] - a * at[i]
    few = points.sample[np.isfinite(u[points.sample])]
    off = np.abs(points.y[few] - a[:, None] * u[few] - b[:, None])
    agreed = (off <= 2 * tolerance[few]).mean(axis=1)
    median = np.partition(off, off.shape[1] // 2, axis=1)[:, off.shape[1] // 2]
    best = [*np.argsort(-agreed, kind="stable")[:3].tolist()]
    best = [k for k in best if k != (middle := int(np.argmin(median)))] + [middle]
    return [(float(a[k]), float(b[k]), float(agreed[k])) for k in dict.fromkeys(best)]


def refined(points: Points, u: F64, line: tuple[float, float], tolerance: F64) -> tuple[float, float]:
    """Return the line by least squares over the pairs on it, taken anew three times with less and less patience."""
    a, b = line
    for patience in (2.0, 1.5, 1.05):
        near = np.flatnonzero(np.abs(points.y - a * u - b) <= patience * tolerance)  # nan is not near
        if len(near) < 3 or u[near].min() == u[near].max():
            break
        x, y = u[near], points.y[near]
        middle = x.mean()
        a = float((x - middle) @ (y - y.mean()) / ((x - middle) @ (x - middle)))
        b = float(y.mean() - a * middle)
    return a, b
