"""Which units a scale and a shift stand for.

Every pair of units of one quantity has its ratio; several may have the same (60 is hours to minutes, and
minutes to seconds), and then all are named. A ratio that is none of them is a constant factor, no more: what
currency, nobody can read off the numbers.
"""

from __future__ import annotations

import itertools
import math

__all__ = ["unit_of", "zone_of"]

_QUANTITIES: tuple[dict[str, float], ...] = (
    {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3, "inch": 0.0254, "foot": 0.3048, "yard": 0.9144, "mile": 1609.344,
     "nautical mile": 1852.0},
    {"m/s": 1.0, "km/h": 1 / 3.6, "mph": 0.44704, "knot": 1852 / 3600},
    {"g": 1e-3, "kg": 1.0, "t": 1e3, "lb": 0.45359237, "oz": 0.028349523125},
    {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86_400.0},
    {"share": 1.0, "percent": 0.01},
    {"radian": 1.0, "degree": math.pi / 180},
    {"litre": 1.0, "ml": 1e-3, "US gallon": 3.785411784, "imperial gallon": 4.54609},
    {"Pa": 1.0, "hPa": 100.0, "kPa": 1e3, "bar": 1e5, "mmHg": 133.322387415, "inHg": 3386.38866667,
     "psi": 6894.75729318},
    {"W": 1.0, "kW": 1e3, "hp": 745.69987158227, "metric hp": 735.49875},
    {"one": 1.0, "thousand": 1e3, "万": 1e4, "million": 1e6, "億": 1e8, "billion": 1e9},
    {"m2": 1.0, "hectare": 1e4, "acre": 4046.8564224, "坪": 400 / 121},
    {"J": 1.0, "kJ": 1e3, "cal": 4.184, "kcal": 4184.0, "kWh": 3.6e6},
    {"piece": 1.0, "dozen": 12.0},
    {"month": 1.0, "year": 12.0},
)  # fmt: skip
"""Size of each unit in one of its kind: the international yard, pound (1959) and nautical mile, the SI brochure,
US and imperial gallon, mmHg and inHg by convention, 坪 of 400/121 m2."""

_TEMPERATURES: dict[str, tuple[float, float]] = {
    "degC": (1.0, 273.15), "K": (1.0, 0.0), "degF": (5 / 9, 459.67 * 5 / 9),
}  # fmt: skip
"""Scale and shift to kelvin."""

_NEAR = 2.5e-4
"""How far a ratio in use (1.609, 3.281) is off the exact one."""
_MOST = 4


def unit_of(scale: float, shift: float, spread: float) -> str | None:
    """Return the units between which values were converted, as "inch -> cm"; None where none are known.

    Parameters
    ----------
    scale, shift : float
        Of y = scale x + shift.
    spread : float
        Standard deviation of y: a shift below a thousandth of it is none.
    """
    if scale == -1 and shift == 0:
        return "sign reversed"
    for (a, (p, q)), (b, (r, s)) in itertools.permutations(_TEMPERATURES.items(), 2):
        if abs(scale * r / p - 1) <= _NEAR and abs(shift - (q - s) / r) <= 0.02 + 1e-3 * abs(q - s):
            return f"{a} -> {b}"
    if scale <= 0 or abs(shift) > 1e-3 * spread or scale == 1:
        return None
    found = [
        (abs(scale * units[b] / units[a] - 1), f"{a} -> {b}")
        for units in _QUANTITIES
        for a, b in itertools.permutations(units, 2)
    ]
    close = [f for f in found if f[0] <= _NEAR]
    best = min((f[0] for f in close), default=0.0)
    names = [name for off, name in close if off <= best + 1e-6]
    return " or ".join(names[:_MOST]) if names else None


def zone_of(shift: float, other: float | None = None) -> str | None:
    """Return the time zones between which moments were shifted, as "UTC+9 -> UTC"; None for any other shift.

    Parameters
    ----------
    shift : float
        Seconds added. Only the difference of two zones is known: one of them is taken for UTC.
    other : float, optional
        A second shift, an hour from the first: daylight saving time.
    """
    shifts = [shift] if other is None else sorted((shift, other), reverse=True)
    if any(s % 900 or abs(s) > 14 * 3600 for s in shifts) or not any(shifts):
        return None
    away = shifts[0] < 0 or shifts[-1] < 0
    names = "/".join(_signed(-s if away else s) for s in shifts)
    told = f"UTC{names} -> UTC" if away else f"UTC -> UTC{names}"
    return told if other is None else f"{told} (daylight saving time)"


def _signed(seconds: float) -> str:
    hours, minutes = divmod(round(abs(seconds)) // 60, 60)
    sign = "-" if seconds < 0 else "+"
    return f"{sign}{hours}" + (f":{minutes:02d}" if minutes else "")
