"""Categories under other names, found from row pairs of which up to a third are wrong.

Codes, pseudonyms and coarser classes keep one thing: rows that held one value hold one value still. Only
values seen more than once can show that, and only beyond what a frequent target would show by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.maps import Recoding

__all__ = ["RecodingFit", "divergence", "fit_recoding"]

U64 = NDArray[np.uint64]

_CONSISTENT = 0.45
"""Least share of rows, beyond chance, that hold the target the other rows of their value point to: nine in ten,
of which up to a third are wrong pairs; at four rows a value, 0.7 of right pairs show as 0.5."""
_NATS = 14.0
_SAME = 0.02


@dataclass(frozen=True, slots=True)
class RecodingFit:
    """A recoding, and how well it does.

    Attributes
    ----------
    map : Recoding
        Of the values seen at least twice that have one usual target.
    explained : float
        Share of the rows of repeated values that hold the target of their value.
    one_to_one : bool
        Whether no two values have one target.
    """

    map: Recoding
    explained: float
    one_to_one: bool


def divergence(p: float, q: float) -> float:
    """Return the Kullback-Leibler divergence of two coins in nats, the exponent of Chernoff's bound (1952).

    Parameters
    ----------
    p, q : float
        Between 0 and 1; 0 is returned unless p > q.
    """
    parts = [a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0 and b > 0]
    return max(0.0, sum(parts)) if p > q else 0.0


def fit_recoding(original_keys: U64, suspect_keys: U64) -> RecodingFit | None:
    """Return how values were renamed, or None if they were not, or not consistently.

    Parameters
    ----------
    original_keys, suspect_keys : (m,) uint64
        Cell keys of paired rows, 0 where missing. Up to a third of the pairs may be wrong.

    Returns
    -------
    RecodingFit or None
        None where the best constant explains nearly as much, or where values kept their names.
    """
    present = np.flatnonzero((original_keys != 0) & (suspect_keys != 0))
    if len(present) < 8:
        return None
    a, b = original_keys[present], suspect_keys[present]
    source, group, rows = np.unique(a, return_inverse=True, return_counts=True)
    order = np.lexsort((b, group))
    g, t = group[order], b[order]
    start = np.flatnonzero(np.concatenate([[True], (g[1:] != g[:-1]) | (t[1:] != t[:-1])]))
    count = np.diff(np.append(start, len(g)))
    # Of each value's runs the longest, the last in order of length within the value.
    by_size = np.lexsort((count, g[start]))
    last = np.flatnonzero(np.diff(np.append(g[start][by_size], len(source))))
    target, usual = t[start][by_size][last], count[by_size][last]
    second = np.where(np.diff(np.concatenate([[-1], last])) > 1, count[by_size][last - 1], 0)
    repeated = rows >= 2
    total, groups = int(rows[repeated].sum()), int(repeated.sum())
    if groups < 2 or total < 8:
        return None
    # Each row is asked whether the others of its value point to its target: a row does not vouch for itself.
    vouched = np.where(usual - 1 > second, 1.0, np.where((usual - 1 == second) & (usual > 1), 0.5, 0.0))
    share = float((usual * vouched)[repeated].sum()) / total
    _, frequency = np.unique(b[repeated[group]], return_counts=True)
    chance = float(frequency.max()) / total
    if chance >= 1 or (share - chance) / (1 - chance) < _CONSISTENT:
        return None
    if (total - groups) * divergence(share, chance) < _NATS:
        return None
    explained = float(usual[repeated].sum()) / total
    if explained - float((a == b)[repeated[group]].mean()) <= _SAME:
        return None
    kept = repeated & (2 * usual > rows)
    made = Recoding(source[kept], target[kept])
    distinct = len(np.unique(made.target)) == len(made.target)
    return RecodingFit(made, explained, distinct)
