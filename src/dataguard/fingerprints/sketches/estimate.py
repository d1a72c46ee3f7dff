"""Estimates with honest limits, and the exact binomial laws behind them.

Every number a sketch gives is an :class:`Estimate`; its interval comes from the law of what was counted
(binomial, hypergeometric), never from a normal approximation of a share near 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dataguard.errors import UsageError
from dataguard.fingerprints.arguments import is_number
from dataguard.stats import round_up

__all__ = [
    "CONFIDENCE",
    "Estimate",
    "binomial_limits",
    "binomial_lower",
    "binomial_upper",
    "first",
    "hypergeometric_limits",
    "log10_binomial_tail",
    "miss",
]

CONFIDENCE = 0.998
"""Confidence of an interval unless told otherwise: each side misses with a chance of at most 0.1 %."""


_EXACT_WHOLE = 10**9
"""Largest whole for hypergeometric sums: beyond, differences of log-gammas lose the digits (at 10**12 the limits
of 50 of 100 come out 4e-5 too narrow, at 10**14 0.01), and the binomial law is the same to six digits."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured number and its limits.

    Attributes
    ----------
    value : float
        Best single number, inside the limits.
    low, high : float
        Two-sided interval.
    confidence : float
        Chance, before the data are seen, that the interval covers the truth: at least this.
    """

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    def __str__(self) -> str:
        return f"{self.value:.6g} ({self.low:.6g} to {self.high:.6g}, {self.confidence:.4g})"


def miss(confidence: float) -> float:
    """Return the chance of a miss on each side, (1 - confidence) / 2.

    Raises
    ------
    UsageError
        The confidence is not strictly between 0 and 1.
    """
    if not (is_number(confidence) and 0 < confidence < 1):
        raise UsageError(f"confidence {confidence} is not between 0 and 1", remedy="use 0.95 or 0.998")
    return (1 - confidence) / 2


def binomial_limits(hits: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact limits of a share; (0, 1) when nothing was tried.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26, 1934: low is the alpha/2 quantile of Beta(hits, trials - hits + 1), high the
    1 - alpha/2 quantile of Beta(hits + 1, trials - hits).
    """
    from scipy.special import betaincinv

    tail = miss(confidence)
    if trials == 0:
        return 0.0, 1.0
    low = float(betaincinv(hits, trials - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, trials - hits, 1 - tail)) if hits < trials else 1.0
    return low, high


def log10_binomial_tail(hits: int, trials: int, chance: float) -> float:
    """Return an upper bound on log10 P(X >= hits), X ~ Binomial(trials, chance), rounded up, at least -30.

    P(X >= hits) = I_chance(hits, trials - hits + 1), the regularised incomplete beta function, down to 1e-250;
    below, the Chernoff bound trials * KL(hits / trials || chance) (Hoeffding, J. Am. Stat. Assoc. 58, 1963).
    """
    if hits <= 0 or chance >= 1:
        return 0.0
    if hits > trials or chance <= 0:
        return round_up(-math.inf)
    exact = binomial_upper(hits, trials, chance)
    if exact > 1e-250:
        # The relative error of betainc measures at most 2e-11 for counts up to 1e9, against sums of 60 digits.
        return round_up(math.log10(exact) + 1e-6)
    share = hits / trials
    if share <= chance:
        return 0.0
    rest = (1 - share) * math.log((1 - share) / (1 - chance)) if share < 1 else 0.0
    return round_up(-trials * (share * math.log(share / chance) + rest) / math.log(10) * (1 - 1e-9))


def binomial_upper(hits: int, trials: int, chance: float) -> float:
    """Return P(X >= hits), X ~ Binomial(trials, chance)."""
    from scipy.special import betainc

    if hits <= 0:
        return 1.0
    return float(betainc(hits, trials - hits + 1, chance)) if hits <= trials else 0.0


def binomial_lower(hits: int, trials: int, chance: float) -> float:
    """Return P(X <= hits), X ~ Binomial(trials, chance)."""
    from scipy.special import betainc

    if hits >= trials:
        return 1.0
    return float(betainc(trials - hits, hits + 1, 1 - chance)) if hits >= 0 else 0.0


def hypergeometric_limits(
    hits: int, drawn: int, whole: int, confidence: float = CONFIDENCE
) -> tuple[int, int]:
    """Return exact limits of how many of `whole` elements are marked, `hits` of `drawn` drawn ones being so.

    Draws without replacement. The limits collect every count that a one-sided test at alpha/2 does not
    reject (the analogue of Clopper and Pearson; J. Buonaccorsi, Am. Statistician 41, 1987). Of more than
    10**9 elements the wider binomial limits are taken.

    Parameters
    ----------
    hits, drawn, whole : int
        0 <= hits <= drawn <= whole.
    """
    if whole > _EXACT_WHOLE:
        low_share, high_share = binomial_limits(hits, drawn, confidence)
        return max(hits, math.floor(low_share * whole)), min(
            whole - (drawn - hits), math.ceil(high_share * whole)
        )
    tail = miss(confidence)
    least, most = hits, whole - (drawn - hits)
    low = first(least, most, lambda k: _hypergeometric_upper(hits, drawn, k, whole) > tail)
    high = first(least, most, lambda k: _hypergeometric_lower(hits, drawn, k, whole) <= tail)
    # `first` gives most + 1 where no count satisfies it.
    return min(low, most), min(high - 1, most)


def _hypergeometric_lower(hits: int, drawn: int, marked: int, whole: int) -> float:
    """Return P(X <= hits) of drawing `drawn` of `whole`, `marked` of them marked."""
    start = max(0, drawn - (whole - marked))
    return min(1.0, _sum_hypergeometric(start, hits, drawn, marked, whole))


def _hypergeometric_upper(hits: int, drawn: int, marked: int, whole: int) -> float:
    """Return P(X >= hits)."""
    return min(1.0, _sum_hypergeometric(hits, min(drawn, marked), drawn, marked, whole))


def _sum_hypergeometric(start: int, stop: int, drawn: int, marked: int, whole: int) -> float:
    import numpy as np
    from scipy.special import gammaln

    if stop < start:
        return 0.0
    x = np.arange(start, stop + 1, dtype=np.float64)

    def log_choose(n: float, k: object) -> object:
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)  # type: ignore[operator]

    logs = log_choose(marked, x) + log_choose(whole - marked, drawn - x) - log_choose(whole, drawn)  # type: ignore[operator]
    return float(np.exp(logs).sum())


def first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the least integer of [low, high] for which a monotone condition holds; high + 1 if none."""
    while low <= high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle - 1
        else:
            low = middle + 1
    return low
