"""The probability behind an accusation: scores, their exact law, and bounds on it.

Given the votes, an innocent recipient's symbols are independent coins of known bias that
never saw the suspect. So P(S >= s) is a property of the votes alone: no model of the
data, the attack or the leaker enters. Everything here is plain integers and floats, so
that anyone can recompute it; logarithms are rounded upwards, towards the innocent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from dataguard.model import LOG10_FLOOR, ONE

__all__ = [
    "BENTKUS",
    "Coins",
    "NullLaw",
    "holm",
    "round_up",
    "score",
]

BENTKUS = 3.1787
"""Constant of Bentkus and Dzindzalieta (Bernoulli 21, 2015, Theorem 1.1), rounded upwards:
P(sum a_i e_i >= z) <= c Q(z) for signs e_i, sum a_i**2 = 1, Q the normal tail, and
c = 1 / (4 Q(sqrt 2)) = 3.17866..., reached by two equal votes. (3.178 is too small there.)"""

_EXACT_BITS = 12_000_000
"""Largest packed law, in bits, that is multiplied out. Measured: 0.4 s at this size."""

_EXACT_FROM = -2.0
"""The exact law is worked out only for bounds below this log10: nobody is named above it."""


@dataclass(frozen=True, slots=True, order=True)
class Coins:
    """Votes of one bias and one weight.

    Attributes
    ----------
    bias : int
        P: symbol 1 has probability P / 65536 under the null hypothesis.
    weight : int
        Vote weight in 1/64 nat, non-zero.
    count : int
        Number of votes.
    """

    bias: int
    weight: int
    count: int


def score(coins: Sequence[Coins], ones: Sequence[int]) -> int:
    """Return S = sum of w (65536 s - P) over all votes (DESIGN 4.4).

    Parameters
    ----------
    coins : sequence of Coins
    ones : sequence of int
        For each entry of `coins`, how many of its votes meet a symbol 1.
    """
    return sum(c.weight * (ONE * k - c.bias * c.count) for c, k in zip(coins, ones, strict=True))


_LEAST = -1e6
"""Stands for the logarithm of an impossible event, so that sums stay finite."""


def round_up(log10: float, floor: float = LOG10_FLOOR) -> float:
    """Return a base-10 logarithm rounded upwards to four decimals and kept within [floor, 0].

    The slack of 1e-9, added before rounding, covers the rounding errors of the float arithmetic before it.
    """
    finite = max(_LEAST, log10)
    return min(0.0, max(floor, math.ceil((finite + 1e-9) * 1e4) / 1e4))


class NullLaw:
    """The law of the score S of an innocent recipient, given the votes.

    Parameters
    ----------
    coins : sequence of Coins

    Notes
    -----
    A vote of weight w < 0 agrees with symbol 0. Writing G_c for the number of agreeing
    votes among those of size a_c = abs(w) and agreement probability q_c, the event
    S >= s is the event sum a_c G_c >= t with independent binomials G_c.
    """

    def __init__(self, coins: Sequence[Coins]) -> None:
        merged: dict[tuple[int, int], int] = {}
        for c in coins:
            agree = c.bias if c.weight > 0 else ONE - c.bias
            key = (abs(c.weight), agree)
            merged[key] = merged.get(key, 0) + c.count
        self.coins = tuple(coins)
        self.unit = math.gcd(*(w for w, _ in merged)) if merged else 1
        self.classes = tuple(sorted((w // self.unit, q, n) for (w, q), n in merged.items()))
        self.count = sum(c.count for c in coins)
        self.variance = sum(c.weight**2 * c.bias * (ONE - c.bias) * c.count for c in coins)

    def threshold(self, s: int) -> int:
        """Return t with {S >= s} = {sum a_c G_c >= t}, in units of the weights' greatest common divisor."""
        # S = 65536 * unit * sum a_c G_c - sum a_c q_c n_c * unit, so the least T with S >= s:
        base = sum(w * q * n for w, q, n in self.classes) * self.unit
        return -((-s - base) // (ONE * self.unit))

    # --- bounds ---------------------------------------------------------------------------------

    def log10_bound(self, s: int) -> float:
        """Return an upper bound on log10 P(S >= s), not rounded.

        Chernoff for any bias; for fair coins also Hoeffding exp(-z**2 / 2) and the bound of
        Bentkus and Dzindzalieta; z is S over its standard deviation.
        """
        if s <= 0 or self.variance == 0:
            return 0.0 if s <= 0 else -math.inf
        bounds = [self._log_chernoff(s)]
        if all(2 * c.bias == ONE for c in self.coins):
            z = s / math.sqrt(self.variance)
            bounds += [-z * z / 2, math.log(BENTKUS) + _log_normal_tail(z)]
        return min(0.0, *bounds) / math.log(10)

    def _log_chernoff(self, s: int) -> float:
        # Any t >= 0 gives a valid bound; bisection on the derivative only makes it a good one.
        scale = 1 / max(w * self.unit for w, _, _ in self.classes) / ONE
        low, high = 0.0, 1.0
        while self._tilted_mean(high * scale) < s and high < 2**20:
            high *= 2
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self._tilted_mean(middle * scale) < s else (low, middle)
        return self._log_mgf(low * scale) - low * scale * s

    def _log_mgf(self, t: float) -> float:
        total = 0.0
        for w, q, n in self.classes:
            a, p = w * self.unit, q / ONE
            # E exp(t a (65536 g - q)) = exp(t a (65536 - q)) (p + (1 - p) exp(-65536 t a)).
            total += n * (t * a * (ONE - q) + math.log(p + (1 - p) * math.exp(-ONE * t * a)))
        return total

    def _tilted_mean(self, t: float) -> float:
        total = 0.0
        for w, q, n in self.classes:
            a, p = w * self.unit, q / ONE
            agree = p / (p + (1 - p) * math.exp(-ONE * t * a))
            total += n * a * (ONE * agree - q)
        return total

    # --- the exact law --------------------------------------------------------------------------

    @cached_property
    def is_exact_affordable(self) -> bool:
        """Whether the exact law is small enough to be multiplied out."""
        span = sum(w * n for w, _, n in self.classes) + 1
        return span * (self._denominator_bits + 1) <= _EXACT_BITS

    @cached_property
    def _denominator_bits(self) -> int:
        # Denominators are powers of two, so their logarithms are whole numbers.
        return sum(n * (_reduced(q)[1].bit_length() - 1) for _, q, n in self.classes)

    @cached_property
    def _packed(self) -> tuple[int, int, int]:
        """The law as one integer: coefficient t in `field` bits at t * field; and the denominator."""
        field = self._denominator_bits + 1
        law, denominator = 1, 1
        for w, q, n in self.classes:
            hit, whole = _reduced(q)
            law *= ((whole - hit) + (hit << (field * w))) ** n
            denominator *= whole**n
        return law, denominator, field

    def tail(self, t: int) -> tuple[int, int]:
        """Return P(sum a_c G_c >= t) as an exact fraction (numerator, denominator)."""
        law, denominator, field = self._packed
        if t <= 0:
            return denominator, denominator
        return _sum_fields(law >> (field * t), field), denominator

    def log10_exact(self, s: int) -> float:
        """Return log10 P(S >= s) from the exact integer law, not rounded; -inf when impossible."""
        numerator, denominator = self.tail(self.threshold(s))
        if numerator == 0:
            return -math.inf
        return _log10_ratio(numerator, denominator)

    # --- what is reported -----------------------------------------------------------------------

    def log10_raw(self, s: int) -> float:
        """Return log10 of P(S >= s): exact where affordable, else a bound; rounded up, without the floor.

        What is paid for many tests is paid on this value; the floor of -30 is for display only.

        Parameters
        ----------
        s : int
            Score of one recipient, see :func:`score`.
        """
        bound = self.log10_bound(s)
        if bound < _EXACT_FROM and self.is_exact_affordable:
            bound = min(bound, self.log10_exact(s))
        return round_up(bound, _LEAST)

    def log10_p(self, s: int) -> float:
        """Return :meth:`log10_raw` as it is reported: not below -30."""
        return round_up(self.log10_raw(s))

    @property
    def method(self) -> str:
        """Name of what :meth:`log10_p` rests on."""
        return "exact integer law" if self.is_exact_affordable else "upper bound"


def _reduced(q: int) -> tuple[int, int]:
    common = math.gcd(q, ONE)
    return q // common, ONE // common


def _sum_fields(packed: int, field: int) -> int:
    # Halving keeps every addition on large integers: n log n instead of n**2 bit moves.
    fields = -(-packed.bit_length() // field)
    while fields > 1:
        half = (fields + 1) // 2
        packed = (packed & ((1 << (half * field)) - 1)) + (packed >> (half * field))
        fields = half
    return packed


def _log10_ratio(numerator: int, denominator: int) -> float:
    return math.log10(numerator) - math.log10(denominator)


def _log_normal_tail(z: float) -> float:
    """Return the natural logarithm of the normal tail Q(z), z >= 0, from above."""
    if z < 30:
        return math.log(math.erfc(z / math.sqrt(2)) / 2)
    # Mills: Q(z) <= exp(-z**2 / 2) / (z sqrt(2 pi)).
    return -z * z / 2 - math.log(z * math.sqrt(2 * math.pi))


def holm(log10_p: Sequence[float], extra: float = 0.0) -> list[float]:
    """Return Holm's step-down adjusted values (Holm 1979), as log10, at most 0.

    Parameters
    ----------
    log10_p : sequence of float
        One per hypothesis.
    extra : float
        log10 of any further factor, e.g. what earlier runs have spent.
    """
    order = sorted(range(len(log10_p)), key=lambda i: log10_p[i])
    adjusted, running = [0.0] * len(log10_p), -math.inf
    for rank, i in enumerate(order):
        running = max(running, log10_p[i] + math.log10(len(log10_p) - rank) + extra)
        adjusted[i] = min(0.0, running)
    return adjusted
