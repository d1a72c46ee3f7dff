"""Is the promise kept? Innocent keys scored against real votes, compared with the law they must follow.

Anyone who doubts the bound can run this on the votes of a case: keys that were never
issued must give uniform p-values and the variance of the theory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dataguard.stats import NullLaw

__all__ = ["Calibration", "calibrate"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How innocent scores compare with their law.

    Attributes
    ----------
    keys : int
        Innocent keys scored.
    ks : float
        Kolmogorov-Smirnov distance of the randomised exact p-values from uniform.
    log10_p : float
        Bound on the probability of so large a distance: 2 exp(-2 n D**2)
        (Dvoretzky, Kiefer, Wolfowitz with Massart's constant, 1990).
    variance_ratio : float
        Mean of S**2 over the variance of the law; 1 in expectation.
    largest : float
        Smallest exact p-value seen, as log10.
    """

    keys: int
    ks: float
    log10_p: float
    variance_ratio: float
    largest: float


def calibrate(law: NullLaw, scores: I64, uniform: F64) -> Calibration:
    """Compare scores of innocent keys with the law of an innocent score.

    Parameters
    ----------
    law : NullLaw
        Its exact form must be affordable.
    scores : (n,) int64
    uniform : (n,) float64
        Independent uniform numbers; they break the ties of the discrete law, so that
        P(S > s) + u P(S = s) is exactly uniform under the null hypothesis.
    """
    thresholds = np.array([law.threshold(int(s)) for s in scores])
    distinct, where = np.unique(thresholds, return_inverse=True)
    at_least = np.array([float(Fraction(*law.tail(int(t)))) for t in distinct])[where]
    above = np.array([float(Fraction(*law.tail(int(t) + 1))) for t in distinct])[where]
    p = np.sort(above + uniform * (at_least - above))
    n = len(p)
    grid = np.arange(n)
    ks = float(max((p - grid / n).max(), ((grid + 1) / n - p).max()))
    log10_p = min(0.0, (math.log(2) - 2 * n * ks**2) / math.log(10))
    ratio = float(np.mean(scores.astype(np.float64) ** 2) / law.variance)
    return Calibration(n, ks, log10_p, ratio, math.log10(float(at_least.min())))
