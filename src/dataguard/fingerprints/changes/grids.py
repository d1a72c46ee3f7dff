"""The precision at which a column is printed: multiples of a step, or significant digits.

Wrong row pairs and marks move values about, but the suspect's own numbers stay on the suspect's own grid: it
is read off them alone, without the original.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["digits_of", "grids_of", "on_grid"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]

ON_GRID = 0.99
"""Share of values that must lie on a grid: a few may have been typed in by hand."""
_PRECISE = 1e10
"""More steps than this within a number, and it is a binary64 number as computed, not a printed one."""
_LOOK = 512
_CLOCK = (
    86_400.0,
    43_200.0,
    21_600.0,
    10_800.0,
    7_200.0,
    3_600.0,
    1_800.0,
    900.0,
    600.0,
    300.0,
    60.0,
    30.0,
    15.0,
)


def on_grid(y: F64, step: float) -> B:
    """Return which values are multiples of a step, but for the last bits."""
    in_steps = y / step
    whole: B = np.abs(in_steps - np.rint(in_steps)) <= 1e-6
    return whole


def grids_of(y: F64) -> list[float]:
    """Return the steps that the values are multiples of: the largest round one, and the largest of all; or [0].

    Parameters
    ----------
    y : (m,) float64
        Finite numbers. The extreme values are not asked where there are others: they may be bounds.

    Returns
    -------
    list of float
        First 1, 2, 2.5 or 5 times a power of ten, or a unit of the clock; then the smallest difference of two
        values, where that is at least twice as large. 0 where there is none.
    """
    inner = y[(y != y.min()) & (y != y.max())] if len(y) else y
    values = np.unique(inner if len(inner) >= 8 else y)
    top = float(np.abs(values).max()) if len(values) else 0.0
    if top == 0 or not math.isfinite(top) or len(values) < 2:
        return [0.0]
    least = float(np.diff(values).min())
    power = math.floor(math.log10(top))
    decimal = [m * 10.0**k for k in range(power, power - 12, -1) for m in (5.0, 2.5, 2.0, 1.0) if k > -10]
    few = values[:: max(1, len(values) // _LOOK)]
    # No step is larger than the smallest difference of two values on its grid, but for strays.
    reach = float(np.quantile(np.diff(values), 0.05)) * (1 + 1e-6)
    found: list[float] = []
    for steps in (sorted({*decimal, *_CLOCK}, reverse=True), [least]):
        for step in steps:
            fits = step <= reach and top / step <= _PRECISE and on_grid(few, step).mean() >= ON_GRID
            if fits and on_grid(values, step).mean() >= ON_GRID:
                found += [step] if not found or step >= 2 * found[0] * (1 - 1e-9) else []
                break
    return found or [0.0]


def digits_of(y: F64, most: int = 6) -> int:
    """Return how many significant digits all values make do with; 0: more than `most`.

    Parameters
    ----------
    y : (m,) float64
        Finite numbers.
    most : int
    """
    size = np.abs(y[y != 0])
    if not len(size):
        return 0
    power = 10.0 ** np.floor(np.log10(size))
    for digits in range(1, most + 1):
        in_steps = size / power * 10.0 ** (digits - 1)
        if (np.abs(in_steps - np.rint(in_steps)) <= 1e-6).mean() >= ON_GRID:
            return digits
    return 0
