"""Numbers that people convert by: a fitted scale or shift is read as one of them where the data allow it.

A least-squares slope of 2.5399998 says less than 2.54, and undoes the conversion less well. Candidates are
ordered from simple to contrived; whoever fits takes the first that explains the rows.
"""

from __future__ import annotations

import math

__all__ = ["FACTORS", "OFFSETS", "near_constants"]

FACTORS: tuple[float, ...] = (
    2.54, 0.0254, 25.4, 0.3048, 30.48, 0.9144, 91.44, 1.609344, 1609.344, 1.852, 1852.0, 1.852 / 1.609344,
    1852 / 3600, 1.609344 / 3.6, 3.6, 0.45359237, 0.028349523125, 28.349523125, 453.59237, 3.785411784, 4.54609,
    33.8638866667, 1.33322387415, 68.9475729318, 0.0689475729318, 101.325, 1.01325, 745.69987158227, 0.74569987158227,
    735.49875, 0.73549875, math.pi / 180, math.log10(math.e), math.log2(math.e),
    4.1868, 4.184, 4046.8564224, 0.40468564224, 3.305785, 7.0,
)  # fmt: skip
"""Exact by definition (international yard and pound of 1959, SI brochure) or to all digits of binary64 that
matter; the other direction of each is its reciprocal."""

_ROUNDED: tuple[float, ...] = (
    3.28084, 3.2808, 3.281, 0.514444, 0.5144, 1.94384, 1.9438, 0.44704, 0.621371, 0.62137, 0.6214, 2.20462, 2.2046,
    2.205, 0.453592, 0.4536, 0.393701, 0.3937, 0.539957, 0.54, 1.15078, 1.1508, 0.264172, 2.23694, 2.237,
)  # fmt: skip
"""The same in the shorter forms that are in use."""

OFFSETS: tuple[float, ...] = (
    32.0,
    -160 / 9,
    273.15,
    -273.15,
    459.67,
    -459.67,
    459.67 * 5 / 9,
    -459.67 * 5 / 9,
)
"""Of the temperature scales."""

_DENOMINATORS = (2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 24, 28, 30, 36, 40, 48, 52, 60, 64, 72, 90, 96, 120, 144, 360,
                 365, 1440, 3600, 86400)  # fmt: skip


def _rounded_to(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")


def near_constants(value: float, window: float, offsets: bool = False) -> list[float]:
    """Return constants close to a fitted number, the simplest first, the number itself last.

    Parameters
    ----------
    value, window : float
        The number, and how far off a constant may be.
    offsets : bool
        Whether it is a shift: then 0 and `OFFSETS` are asked, and no reciprocals.
    """
    if not (math.isfinite(value) and math.isfinite(window)):
        return []
    found = [0.0] if offsets and abs(value) <= window else []
    size, sign = abs(value), -1.0 if value < 0 else 1.0
    if size == 0:
        return found or [0.0]
    shorts = [sign * _rounded_to(size, digits) for digits in (1, 2)]
    found += [c for c in shorts if abs(c - value) <= window]
    if offsets:
        found += [c for c in OFFSETS if abs(c - value) <= window]
    if not offsets:
        for known in ([c for f in FACTORS for c in (f, 1 / f)], _ROUNDED):
            close = sorted((abs(c - size), c) for c in known if abs(c - size) <= window)
            found += [sign * c for _, c in close[:2]]
        found += _fractions(value, window)
    found += _decimals(value, window, inverses=not offsets)
    return list(dict.fromkeys([*found, value]))


def _fractions(value: float, window: float) -> list[float]:
    """Return the simplest fraction of the denominators in use within the window."""
    for q in _DENOMINATORS:
        p = round(value * q)
        if p and abs(p) < 1000 and abs(p / q - value) <= window:
            return [p / q]
    return []


def _decimals(value: float, window: float, inverses: bool) -> list[float]:
    """Return decimals of three to ten digits within the window, and reciprocals of decimals, by length."""
    found = []
    for digits in range(2, 11):
        tries = [_rounded_to(value, digits)] if digits > 2 else []
        tries += [1 / _rounded_to(1 / value, digits - 1)] if inverses else []
        found += [c for c in tries if abs(c - value) <= window]
    return found[:3]
