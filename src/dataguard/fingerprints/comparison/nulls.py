"""Probabilities behind "these rows were copied": two laws in plain Python.

Both are statements about counts, so that anyone can recompute them from the integers in
a finding; no numpy here.
"""

from __future__ import annotations

import math

__all__ = ["log10_more_hits", "log10_pairing"]


def log10_more_hits(hits: int, rows: int, control_hits: int, controls: int) -> float:
    """Return log10 of the probability of so many hits if rows and controls were drawn alike.

    Fisher's exact test, one-sided: of the ``hits + control_hits`` hits among all rows and
    controls, at least `hits` fall on the rows, with every choice equally likely
    (hypergeometric; Fisher, "The Design of Experiments", 1935). Summed in integers.

    Parameters
    ----------
    hits, rows : int
        Rows that were found in the original, of how many.
    control_hits, controls : int
        The same for control rows.

    Returns
    -------
    float
        At most 0; not rounded.
    """
    total = hits + control_hits
    tail = 0
    for h in range(hits, min(rows, total) + 1):
        tail += math.comb(rows, h) * math.comb(controls, total - h)
    whole = math.comb(rows + controls, total)
    return min(0.0, math.log10(tail) - math.log10(whole))


def log10_pairing(hits: int, agreeing: int, rows: int) -> float:
    """Return an upper bound on log10 P(X >= hits) when two halves of m rows are paired at random.

    X counts the pairs (i, pi(i)) with a(i, pi(i)) = 1, for a fixed 0/1 matrix a with
    `agreeing` ones and a uniformly random permutation pi of m rows; E X = agreeing / m.

    Parameters
    ----------
    hits : int
        Observed X.
    agreeing : int
        Ones of the matrix.
    rows : int
        m.

    Returns
    -------
    float
        At most 0; not rounded.

    Notes
    -----
    The smaller of two bounds, both valid whatever the matrix:

    - Chatterjee, "Stein's method for concentration inequalities" (Probab. Theory Relat. Fields
      138, 2007), Proposition 1.1: P(abs(X - E X) >= t) <= 2 exp(-t**2 / (4 E X + 2 t)).
    - Markov on a factorial moment: P(X >= x) <= E binom(X, k) / binom(x, k) for every k <= x.
      E binom(X, k) is the number of k ones in distinct rows and columns over m! / (m - k)!; they
      number at most e_k(row sums) <= binom(m, k) (E X)**k (Maclaurin), so that
      E binom(X, k) <= (E X)**k / k!.
    """
    if rows == 0 or hits * rows <= agreeing:
        return 0.0
    mean = agreeing / rows
    t = hits - mean
    bounds = [math.log(2) - t * t / (4 * mean + 2 * t)]
    for k in range(1, hits + 1):
        choose = math.lgamma(hits + 1) - math.lgamma(k + 1) - math.lgamma(hits - k + 1)
        bounds.append(k * math.log(mean) - math.lgamma(k + 1) - choose)
    return min(0.0, *bounds) / math.log(10)
