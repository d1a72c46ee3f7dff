"""How a suspect column shows an original column's values: the map of an alignment.

A copy in other units, rounded or with its categories renamed is still a copy. Whatever was done is
written as a map from the original's values to what the suspect would show, so that alignment,
rarity and null hypotheses work on the original *as seen through it*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FUNCTIONS", "RULES", "Recoding", "ValueMap"]

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]

FUNCTIONS = ("", "log", "log10", "log2", "log1p", "exp", "sqrt", "square", "reciprocal", "table")
"""What a value may have gone through before scale and shift; ``table`` interpolates between knots."""

RULES = ("nearest", "half-away", "floor", "ceil", "truncate")
"""How a value may get on a grid."""


@dataclass(frozen=True, slots=True)
class ValueMap:
    """``y = snap(clip(scale * f(x) + shift))`` for numbers and times (in seconds since 1970).

    Attributes
    ----------
    function : str
        f, one of `FUNCTIONS`; empty: x itself.
    scale, shift : float
        In the suspect's unit; scale is not 0.
    step : float
        The suspect's values are multiples of it; 0: no grid.
    rule : str
        How values get on the grid, one of `RULES`: ``nearest`` (halves to even), ``half-away`` (halves away
        from 0, as spreadsheets and SQL do), ``floor, ceil`` or ``truncate`` (towards 0).
    digits : int
        Significant digits kept; 0: all.
    low, high : float
        Values beyond are set to these.
    noise : float
        Standard deviation of what the map leaves unexplained, in the suspect's unit; 0: nothing.
    knots : tuple of (x, y)
        Of the function ``table``, x ascending; values beyond the ends keep the end's y.
    """

    function: str = ""
    scale: float = 1.0
    shift: float = 0.0
    step: float = 0.0
    rule: str = "nearest"
    digits: int = 0
    low: float = -math.inf
    high: float = math.inf
    noise: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether values come out as they went in, but for noise."""
        plain = self.function == "" and self.scale == 1 and self.shift == 0
        return (
            plain and self.step == 0 and self.digits == 0 and self.low == -math.inf and self.high == math.inf
        )

    def apply(self, x: F64) -> F64:
        """Return what the suspect shows of some numbers, without the noise; nan stays nan.

        Parameters
        ----------
        x : (n,) float64

        Returns
        -------
        (n,) float64
            nan where the function is not defined (the logarithm of 0).
        """
        with np.errstate(over="ignore", invalid="ignore"):
            y = self.scale * self.curve(x) + self.shift
        y = np.clip(y, self.low, self.high)
        if self.digits:
            with np.errstate(divide="ignore", invalid="ignore"):
                power = 10.0 ** (np.floor(np.log10(np.abs(y))) - self.digits + 1)
                y = np.where(np.isfinite(power) & (power > 0), np.round(y / power) * power, y)
        return y if self.step == 0 else self._snap(y)

    def curve(self, x: F64) -> F64:
        """Return f of some numbers, before scale and shift; nan where it is not defined."""
        if self.function == "":
            return x
        if self.function == "table":
            at, value = np.array(self.knots).T
            return np.where(np.isnan(x), np.nan, np.interp(x, at, value))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.function == "square":
                y = x * x
            elif self.function == "reciprocal":
                y = 1.0 / x
            else:
                y = getattr(np, self.function)(x)
        return np.where(np.isfinite(y), y, np.nan)

    def _snap(self, y: F64) -> F64:
        # 7 * 0.1 is not 0.7, 7 / 10 is: where the step divides 1, the nearest binary64 number to the
        # decimal comes from a division. Multiplying by 10 first is also what numpy and Arrow do.
        inverse = round(1 / self.step) if self.step < 1 else 0
        whole = inverse > 0 and abs(inverse * self.step - 1) < 1e-12
        in_steps = y * inverse if whole else y / self.step
        # A product such as 0.29 * 100 falls short of its integer by one unit in the last place.
        near = np.rint(in_steps)
        exact = np.abs(in_steps - near) <= 1e-9 * np.maximum(1.0, np.abs(in_steps))
        snapped = np.where(exact, near, _ON_GRID[self.rule](in_steps))
        return snapped / inverse if whole else snapped * self.step


def _half_away(y: F64) -> F64:
    # 0.285 * 100 is 28.499999999999996: what is a half but for its last bits is one.
    halves: F64 = np.trunc(y + np.copysign(0.5 + 1e-9, y))
    return halves


_ON_GRID: dict[str, Callable[[F64], F64]] = {
    "nearest": np.rint,
    "half-away": _half_away,
    "floor": np.floor,
    "ceil": np.ceil,
    "truncate": np.trunc,
}


@dataclass(frozen=True, slots=True)
class Recoding:
    """Values that were given other names, one for one or several for one.

    Attributes
    ----------
    source, target : (k,) uint64
        Cell keys of the original and of the suspect; `source` ascending and distinct.
    """

    source: U64
    target: U64

    def apply(self, keys: U64) -> U64:
        """Return what the suspect shows of some cell keys; 0 where nothing is known of one, and for missing cells."""
        at = np.minimum(np.searchsorted(self.source, keys), max(0, len(self.source) - 1))
        if not len(self.source):
            return np.zeros(len(keys), np.uint64)
        return np.where(self.source[at] == keys, self.target[at], np.uint64(0))
