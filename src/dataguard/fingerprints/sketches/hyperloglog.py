"""HyperLogLog: the number of distinct elements from a few kilobytes, whatever the number.

Registers and merging: Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog", AofA 2007. Estimation: maximum
likelihood under the Poisson model (Ertl, "New cardinality estimation algorithms for HyperLogLog sketches",
arXiv 1702.01284), which needs no empirical tables and no switch between ranges.

Parameter block: uint8 precision p. Payload: 2**p x uint8. Register ``h >> (64 - p)`` holds the largest
``1 + trailing zeros of h``, counted over the lower 64 - p bits, so at most 65 - p; 0 when nothing came.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from dataguard.errors import DecodeError, UsageError
from dataguard.fingerprints.arguments import is_whole, same_class
from dataguard.fingerprints.sketches.elements import checked_hashes, frozen
from dataguard.fingerprints.sketches.envelope import HYPERLOGLOG, pack, same_scheme, unpack
from dataguard.fingerprints.sketches.estimate import CONFIDENCE, Estimate, miss

__all__ = ["PRECISION", "HyperLogLog"]

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

VERSION = 1
PRECISION = 14
"""2**14 registers: 16 KiB, a standard error of 0.81 %."""

_LEAST, _MOST = 4, 18


@dataclass(frozen=True, slots=True, eq=False)
class HyperLogLog:
    """Registers of a set.

    Parameters
    ----------
    registers : ndarray of uint8, shape (2**p,)
        p from 4 to 18. Taken over, and set read-only.
    hash_scheme : int
        How the elements were hashed.
    """

    registers: U8
    hash_scheme: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.registers, np.ndarray):
            raise UsageError("registers are no array", where="HyperLogLog", remedy="use HyperLogLog.build")
        size = self.registers.size
        if self.registers.ndim != 1 or size & (size - 1) or not 1 << _LEAST <= size <= 1 << _MOST:
            raise UsageError(f"{size} registers", where="HyperLogLog", remedy="give 2**4 to 2**18")
        if self.registers.dtype != np.uint8:
            raise UsageError(f"registers {self.registers.dtype}", where="HyperLogLog", remedy="give uint8")
        if int(self.registers.max()) > 65 - self.precision:
            raise UsageError(
                "a register above its range", where="HyperLogLog", remedy="use HyperLogLog.build"
            )
        object.__setattr__(self, "registers", frozen(self.registers))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self.to_bytes(),)

    @property
    def precision(self) -> int:
        """Number p of bits that choose a register."""
        return self.registers.size.bit_length() - 1

    # --- making ---------------------------------------------------------------------------------

    @classmethod
    def build(cls, hashes: U64, precision: int = PRECISION, hash_scheme: int = 0) -> HyperLogLog:
        """Return the sketch of some elements; repeated ones count once.

        Parameters
        ----------
        hashes : ndarray of uint64
        precision : int
            4 to 18; the standard error is about 1.04 / 2**(p / 2).
        """
        if not (is_whole(precision) and _LEAST <= precision <= _MOST):
            raise UsageError(f"precision {precision}", where="HyperLogLog", remedy="use 4 to 18")
        return cls(np.zeros(1 << precision, np.uint8), hash_scheme).add(hashes)

    def add(self, hashes: U64) -> HyperLogLog:
        """Return this sketch with more elements in it."""
        from dataguard.fingerprints.sketches.counting._kernels import hll_add

        registers = self.registers.copy()
        hll_add(registers, checked_hashes(hashes, "HyperLogLog"), self.precision)
        return HyperLogLog(registers, self.hash_scheme)

    def merge(self, other: HyperLogLog) -> HyperLogLog:
        """Return the sketch of the union, the same as if built from all elements.

        Raises
        ------
        SchemeMismatch
            Another precision or hash scheme.
        """
        same_class(self, other)
        same_scheme(
            "HyperLogLog",
            hash_schemes=(self.hash_scheme, other.hash_scheme),
            precisions=(self.precision, other.precision),
        )
        return HyperLogLog(np.maximum(self.registers, other.registers), self.hash_scheme)

    # --- estimate -------------------------------------------------------------------------------

    def cardinality(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the number of distinct elements.

        Notes
        -----
        Under the Poisson model P(K <= k) = exp(-x / 2**k) for a register, x elements coming to each. The value
        is the x that maximises the likelihood, less its second-order bias (Cox and Snell, J. R. Stat. Soc. B
        30, 1968), times the number m of registers. With I the Fisher information of one register, the variance
        at a given number n of elements is m / I - n: the Poisson model's own scatter of n is taken off. Limits:
        every n with n / r - c <= value <= n r + c, where log r = z sd / n + c / m, c = z**2 / 3, and z is the
        normal quantile; the terms with c (as in Bernstein's inequality) cover the few collisions of small sets
        and the skewness of few registers. Never below the number of registers in use.
        """
        z = -NormalDist().inv_cdf(miss(confidence))
        m, top = self.registers.size, 65 - self.precision
        counts = np.bincount(self.registers, minlength=top + 1).tolist()
        if counts[0] == m:
            return Estimate(0.0, 0.0, 0.0, confidence)
        # Start near: the harmonic mean of the registers, up to a factor of about 2.
        mean = m / sum(count * 2.0**-rank for rank, count in enumerate(counts))
        x = _root(lambda x: _score(x, counts) * x, math.log2(mean))
        _, bias = _information(x, top, m)
        used = float(m - counts[0])
        value = max(used, m * (x - bias))

        def reach(n: float) -> float:
            fisher, _ = _information(n / m, top, m)
            spread = math.sqrt(max(0.0, m / fisher - n)) if fisher > 0 else math.inf
            return math.exp(min(700.0, z * spread / n + few / m))

        few, middle = z * z / 3, math.log2(value)
        low = _root(lambda n: value - few - n * reach(n), middle)
        high = _root(lambda n: value + few - n / reach(n), middle)
        return Estimate(value, min(value, max(used, low)), high, confidence)

    # --- bytes ----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the sketch in the common frame, kind 6."""
        return pack(HYPERLOGLOG, VERSION, self.hash_scheme, bytes([self.precision]), self.registers.tobytes())

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> HyperLogLog:
        """Return the sketch that some bytes hold.

        Raises
        ------
        DecodeError, SchemeMismatch
            Not such a sketch, damaged, or of a newer version.
        """
        parts = unpack(data, HYPERLOGLOG, VERSION)
        if len(parts.params) != 1 or parts.payload.nbytes != 1 << min(parts.params[0], 63):
            raise DecodeError("blocks of a wrong length", where="HyperLogLog sketch")
        try:
            return cls(np.frombuffer(parts.payload, np.uint8).copy(), parts.hash_scheme)
        except UsageError as error:
            raise DecodeError(error.what, where="HyperLogLog sketch") from error


def _root(f: Callable[[float], float], start: float) -> float:
    """Return where a decreasing function of 2**t passes zero: steps that double from `start`, then Illinois.

    Dowell and Jarratt, "A modified regula falsi method for computing the root of an equation", BIT 11, 1971.
    """
    low = high = start
    at_low = at_high = f(2.0**start)
    step = 0.25
    while at_low <= 0 and low > -200:
        high, at_high = low, at_low
        low -= step
        at_low, step = f(2.0**low), 2 * step
    while at_high > 0 and high < 200:
        low, at_low = high, at_high
        high += step
        at_high, step = f(2.0**high), 2 * step
    side = 0
    for _ in range(60):
        if high - low < 1e-10 or at_low <= 0 or at_high == 0:
            break
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        value = f(2.0**middle)
        if value > 0:
            low, at_low, at_high, side = middle, value, at_high / (2 if side > 0 else 1), 1
        else:
            high, at_high, at_low, side = middle, value, at_low / (2 if side < 0 else 1), -1
    return float(2.0**high)


def _score(x: float, counts: Sequence[int]) -> float:
    """Return the derivative of the log-likelihood of all registers at x elements a register.

    log p(0) = -x; log p(k) = -a x + log(1 - exp(-a x)), a = 2**-k; the last register value holds all that
    is larger: log(1 - exp(-a x)) with the a of the one before.
    """
    top = len(counts) - 1
    total = -float(counts[0])
    for k in range(1, top + 1):
        if counts[k]:
            a = 2.0 ** -min(k, top - 1)
            total += counts[k] * (a / _expm1(a * x) - (a if k < top else 0.0))
    return total


def _information(x: float, top: int, m: int) -> tuple[float, float]:
    """Return the Fisher information of a register at x, and the bias of the likelihood's maximum for m of them.

    With l the log-probability of a register: I = E l'**2, bias = (E l''' + 2 E l' l'') / (2 m I**2).
    """
    fisher, third, cross = math.exp(-x), 0.0, 0.0
    for k in range(1, top + 1):
        a = 2.0 ** -min(k, top - 1)
        e = _expm1(a * x)
        # Beyond this the register is never so low.
        if e > 1e100:
            continue
        p = e / (1 + e) ** (2 if k < top else 1)
        first = a / e - (a if k < top else 0.0)
        second = -a * a * (1 + e) / (e * e)
        fisher += p * first * first
        third += p * a**3 * (1 + e) * (2 + e) / e**3
        cross += p * first * second
    return fisher, (third + 2 * cross) / (2 * m * fisher * fisher) if fisher > 0 else 0.0


def _expm1(x: float) -> float:
    return math.expm1(min(x, 700.0))
