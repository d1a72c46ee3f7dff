"""How likely a column of numbers fits functions of groups by chance: two laws, valid for every suspect.

With many groups, the suspect's own numbers paired anew say it; with a handful they cannot (seven groups
have 5,040 pairings), but each sum of a thousand values is a coincidence of its own.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.comparison.nulls import log10_pairing

__all__ = ["log10_concentration", "log10_regrouping", "log10_repairing", "log10_single_rows"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_MOST_PAIRS = 512
"""Pairs of rows that are used per group: more of them would only sharpen the bound."""

_MOST_GROUPS = 200
"""Groups up to which pairs of rows are looked at: with more of them the other law is sharp enough."""


def log10_repairing(suspect: F64, reach: F64, values: F64, hits: int) -> float:
    """Bound log10 P(at least `hits` agreements) if the suspect's numbers are paired with the groups at random.

    Parameters
    ----------
    suspect, reach, values : (m,) float64
        The suspect's numbers, how far each may be from a value, and the values of the groups; no nan.
    hits : int
        Groups that agree.

    Notes
    -----
    The agreeing pairs are counted by sorting; the law is that of
    :func:`dataguard.fingerprints.comparison.nulls.log10_pairing`.
    """
    ordered, wide = np.sort(values), reach * (1 + 1e-6)  # a pair at the very edge counts as agreeing
    pairs = np.searchsorted(ordered, suspect + wide, "right") - np.searchsorted(
        ordered, suspect - wide, "left"
    )
    return log10_pairing(hits, max(hits, int(pairs.sum())), len(suspect))


def log10_concentration(differences: F64, width: float) -> float:
    """Bound the log10 probability that a sum of coin tosses falls into any one window.

    Parameters
    ----------
    differences : (k,) float64
        d. The sum is that of b d over independent fair coins b of 0 or 1.
    width : float
        Length of the closed window.

    Notes
    -----
    Differences within the window's length are left out (their coins are conditioned on), signs do not
    matter, and the others are dealt into chains that rise by more than the window at every step. A subset
    that dominates another in the product of the posets M(k) of the chains has a sum larger by more than
    the window, so that the subsets in it are an antichain. M(k) is Peck (Stanley, "Weyl groups, the hard
    Lefschetz theorem, and the Sperner property", SIAM J. Algebraic Discrete Methods 1, 1980), and so are
    products of Peck posets (Canfield, "A Sperner property preserved by product", Linear Multilinear
    Algebra 9, 1980): the largest antichain is the largest coefficient of the product of (1 + q**i), i up
    to the length of each chain. With one step per chain this is the bound of Erdos (1945).
    """
    d = np.sort(np.abs(differences))
    d = d[d > width]
    if not len(d):
        return 0.0
    if len(d) > _MOST_PAIRS:
        d = d[np.linspace(0, len(d) - 1, _MOST_PAIRS).astype(np.int64)]
    lengths = []
    while len(d):
        free = np.ones(len(d), bool)
        at = 0
        while at < len(d):
            free[at] = False
            at = int(np.searchsorted(d, d[at] + width, "right"))
        lengths.append(len(d) - int(free.sum()))
        d = d[free]
    return _log10_largest(tuple(lengths))


@lru_cache(maxsize=1024)
def _log10_largest(lengths: tuple[int, ...]) -> float:
    law = np.ones(1)
    for length in lengths:
        for i in range(1, length + 1):
            tossed = np.zeros(len(law) + i)
            tossed[: len(law)] = law / 2
            tossed[i:] += law / 2
            law = tossed
    return min(0.0, math.log10(float(law.max())) + 1e-9)  # the slack covers the rounding of 512 additions


def log10_regrouping(numbers: F64, group: I64, hit: B, width: F64) -> float:
    """Bound log10 P(so many sums agree) if values stood in the groups at random, the suspect being what it is.

    Parameters
    ----------
    numbers : (n,) float64
        The original's column; no nan.
    group : (n,) int64
        Group of each row; -1 outside all groups.
    hit : (m,) bool
        Groups whose sum falls into the suspect's window.
    width : (m,) float64
        Length of each window, in units of the sum.

    Returns
    -------
    float
        At most 0; 0 with more than 200 groups.

    Notes
    -----
    Rows of each group are paired, by position, with rows of the next smaller one, the last with rows
    outside; each row is in one pair at most. Given what the two values of every pair are, which of them
    stands where is a fair coin. A group's sum depends on the coins it shares with the one before and on
    its own, so that, given all the coins before, it falls into its window with a probability of at most
    its `log10_concentration`; and at least h of m do with at most binom(m, h) times the product of the h
    largest of these.
    """
    m, h = len(hit), int(hit.sum())
    if h == 0 or m > _MOST_GROUPS:
        return 0.0
    order = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[order], np.arange(-1, m + 1))
    blocks = [order[edges[g + 1] : edges[g + 2]] for g in range(m)]
    falling = sorted(range(m), key=lambda g: (-len(blocks[g]), g))
    bounds, used = [], 0
    for place, g in enumerate(falling):
        last = place + 1 == m
        other = order[: edges[1]] if last else blocks[falling[place + 1]]
        own = blocks[g][used:]
        pairs = min(len(own), len(other) if last else (len(other) + 1) // 2, _MOST_PAIRS)
        bounds.append(log10_concentration(numbers[own[:pairs]] - numbers[other[:pairs]], float(width[g])))
        used = pairs
    choose = math.lgamma(m + 1) - math.lgamma(h + 1) - math.lgamma(m - h + 1)
    return min(0.0, sum(sorted(bounds)[-h:]) + choose / math.log(10))


def log10_single_rows(shares: F64, hits: int) -> float:
    """Bound log10 P(at least `hits` agreements) if every group is shown by one of its rows, drawn at random.

    Parameters
    ----------
    shares : (m,) float64
        Share of each group's rows whose own value agrees with the function.
    hits : int
        Groups that agree.

    Notes
    -----
    Chernoff, for independent trials of unequal chances: for every t >= 0,
    P(X >= h) <= exp(sum log(1 - r + r exp(t)) - t h). Any t is valid; bisection finds a good one.
    """
    if hits <= float(shares.sum()):
        return 0.0
    if hits > int((shares > 0).sum()):
        return -math.inf
    low, high = 0.0, 60.0
    for _ in range(60):
        t = (low + high) / 2
        tilted = float((shares * math.exp(t) / (1 - shares + shares * math.exp(t))).sum())
        low, high = (t, high) if tilted < hits else (low, t)
    bound = float(np.log(1 - shares + shares * math.exp(low)).sum()) - low * hits
    return min(0.0, bound) / math.log(10)
