"""How to cut a signature into bands: what is missed, and what is looked at in vain, before anything is built.

Two signatures of `r` slots a band and similarity s meet in a given band with chance s**r, in at least one of b bands
with chance 1 - (1 - s**r)**b (Broder, Glassman, Manasse and Zweig, "Syntactic clustering of the Web", 1997;
Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4), if slots agree independently.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import UsageError
from dataguard.fingerprints.arguments import is_number, is_whole

__all__ = [
    "MAX_SLOTS",
    "Bands",
    "Expected",
    "bands_within",
    "choose_bands",
    "expected",
    "fewest_bands",
    "width_of",
]

F64 = NDArray[np.float64]
Prior = Callable[[F64], F64]

MAX_SLOTS = 4096
"""Slots of the longest signature that can be indexed."""

_UNROLLED = 64
"""Width of a band up to which the kernel is compiled for it."""

_NODES = 64
_PIECES = 8
"""Gauss-Legendre of 64 nodes on 8 pieces: 1e-12 off for the steepest curve of 4,096 slots."""


@dataclass(frozen=True, slots=True)
class Bands:
    """A cut: band i holds slots ``i * width`` to ``(i + 1) * width - 1``; slots left over are only compared.

    Attributes
    ----------
    count : int
        Bands, at least 1.
    width : int
        Slots of each, at least 1.
    """

    count: int
    width: int

    def __post_init__(self) -> None:
        whole = is_whole(self.count) and is_whole(self.width)
        if not whole or self.count < 1 or self.width < 1 or self.count * self.width > MAX_SLOTS:
            raise UsageError(
                f"{self.count} bands of {self.width} slots cannot be made",
                remedy=f"both are at least 1 and take up at most {MAX_SLOTS} slots",
            )

    def chance(self, similarity: F64 | float) -> F64:
        """Return the chance that two signatures of a similarity in 0..1 meet in some band."""
        share = np.asarray(similarity, np.float64) ** self.width
        with np.errstate(divide="ignore"):
            return np.asarray(-np.expm1(self.count * np.log1p(-share)), np.float64)

    def miss(self, similarity: float) -> float:
        """Return the chance that they meet in none."""
        share = similarity**self.width
        return 0.0 if share >= 1 else math.exp(self.count * math.log1p(-share))


@dataclass(frozen=True, slots=True)
class Expected:
    """What a cut does to pairs whose similarity follows the prior.

    Attributes
    ----------
    bands : Bands
    missed : float
        Share of the pairs at or above the threshold that meet in no band.
    candidates : float
        Share of all pairs that meet in some band, and are then compared.
    vain : float
        Share of all pairs that are compared and lie below the threshold.
    """

    bands: Bands
    missed: float
    candidates: float
    vain: float


def expected(bands: Bands, threshold: float, prior: Prior | None = None) -> Expected:
    """Return what a cut misses and looks at, under a prior of similarities.

    Parameters
    ----------
    bands : Bands
    threshold : float
        In 0..1, ends excluded.
    prior : function, optional
        Density of the similarity of a pair on 0..1, up to a factor: takes and returns float64 arrays of one
        shape. Every similarity alike by default.

    Raises
    ------
    UsageError
        A threshold out of range, or a prior that is negative, not finite or nothing.
    """
    _check_share(threshold, "threshold")
    below, above = _rule(0.0, threshold), _rule(threshold, 1.0)
    low, high = (_mass(rule, prior) for rule in (below, above))
    total = float(low.sum() + high.sum())
    if not total > 0 or not float(high.sum()) > 0:
        raise UsageError("the prior leaves no pair above the threshold", remedy="give a density on 0..1")
    vain = float((low * bands.chance(below[0])).sum())
    found = float((high * bands.chance(above[0])).sum())
    missed = max(0.0, 1 - found / float(high.sum()))
    return Expected(bands, missed, (vain + found) / total, vain / total)


def choose_bands(
    threshold: float,
    size: int = 128,
    *,
    miss_weight: float = 0.5,
    vain_weight: float = 0.5,
    prior: Prior | None = None,
) -> Expected:
    """Return the cut of `size` slots with the least weighted sum of the two errors.

    The sum is miss_weight x P(a pair lies at or above the threshold and is missed) + vain_weight x P(a pair lies
    below it and is looked at). Candidates that are verified cost time only: a small `vain_weight` suits them.

    Parameters
    ----------
    threshold : float
        In 0..1, ends excluded.
    size : int
        Slots of a signature.
    miss_weight, vain_weight : float
        Not negative, not both 0.
    prior : function, optional
        As for `expected`.

    Raises
    ------
    UsageError
        Anything out of range.
    """
    _check_share(threshold, "threshold")
    _check_size(size)
    if not (miss_weight >= 0 and vain_weight >= 0 and 0 < miss_weight + vain_weight < math.inf):
        raise UsageError("the weights must be positive", remedy="both 0.5 weigh the two errors alike")
    below, above = _rule(0.0, threshold), _rule(threshold, 1.0)
    low, high = _mass(below, prior), _mass(above, prior)
    best, least = Bands(1, 1), math.inf
    for width in range(1, size + 1):
        counts = np.arange(1, size // width + 1, dtype=np.float64)[:, None]
        with np.errstate(divide="ignore"):
            stay_low = np.exp(counts * np.log1p(-(below[0] ** width)))
            stay_high = np.exp(counts * np.log1p(-(above[0] ** width)))
        loss = vain_weight * ((1 - stay_low) @ low) + miss_weight * (stay_high @ high)
        place = int(np.argmin(loss))
        if loss[place] < least:
            best, least = Bands(place + 1, width), float(loss[place])
    return expected(best, threshold, prior)


def fewest_bands(similarity: float, miss: float, width: int) -> int:
    """Return the smallest number of bands of `width` slots that miss a pair of a similarity with at most a chance.

    It is the least b with (1 - similarity**width)**b <= miss.

    Raises
    ------
    UsageError
        `similarity` or `miss` not within 0..1, ends excluded; `width` below 1.
    """
    _check_share(similarity, "similarity")
    _check_share(miss, "chance of a miss")
    if width < 1:
        raise UsageError(f"a band of {width} slots cannot be made", remedy="ask for 1 or more")
    share = similarity**width
    if share == 0.0:
        raise UsageError(f"a band of {width} slots hardly ever meets", remedy="make it narrower")
    count = max(1, math.ceil(math.log(miss) / math.log1p(-share)))
    while count > 1 and (count - 1) * math.log1p(-share) <= math.log(miss):
        count -= 1
    while count * math.log1p(-share) > math.log(miss):
        count += 1
    return count


def bands_within(similarity: float, miss: float, size: int = 128) -> Bands:
    """Return the widest bands, and the fewest of them, that keep the chance of a miss at a similarity.

    Of all cuts that keep it, the one with the widest bands looks at the fewest pairs in vain.

    Raises
    ------
    UsageError
        Anything out of range, or no cut of `size` slots that keeps it.
    """
    _check_size(size)
    _check_share(miss, "miss")
    if not (is_number(similarity) and 0 < similarity <= 1):
        raise UsageError(f"a similarity of {similarity} is none", remedy="give a number up to 1")
    for width in range(size, 0, -1):
        if similarity**width > 0.0 and (count := fewest_bands(similarity, miss, width)) * width <= size:
            return Bands(count, width)
    raise UsageError(
        f"{size} slots cannot keep misses at similarity {similarity:g} below {miss:g}",
        remedy="take longer signatures or allow more misses",
    )


def width_of(cut: Bands) -> tuple[int, ...] | NDArray[np.uint8]:
    """Return something as long as a band is wide: a tuple, known to the compiler, or for wide bands an array.

    A tuple of 512 takes 2 s to compile, one of 1,000 is refused.
    """
    return (0,) * cut.width if cut.width <= _UNROLLED else np.zeros(cut.width, np.uint8)


def _rule(low: float, high: float) -> tuple[F64, F64]:
    """Return nodes and weights of composite Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    edges = np.linspace(low, high, _PIECES + 1)
    half = (edges[1:] - edges[:-1])[:, None] / 2
    middle = (edges[1:] + edges[:-1])[:, None] / 2
    return (middle + half * nodes).ravel(), (half * weights).ravel()


def _mass(rule: tuple[F64, F64], prior: Prior | None) -> F64:
    if prior is None:
        return rule[1]
    density = np.asarray(prior(rule[0]), np.float64)
    if density.shape != rule[0].shape or not np.isfinite(density).all() or (density < 0).any():
        raise UsageError(
            "the prior is no density", remedy="return one value of 0 or more for each similarity"
        )
    return rule[1] * density


def _check_share(value: float, what: str) -> None:
    if not (is_number(value) and 0 < value < 1):
        raise UsageError(f"a {what} of {value} cannot be kept", remedy="give a number between 0 and 1")


def _check_size(size: int) -> None:
    if not (is_whole(size) and 1 <= size <= MAX_SLOTS):
        raise UsageError(f"signatures of {size} slots cannot be cut", remedy=f"take 1 to {MAX_SLOTS} slots")
