"""Kernels of the kinds of data: plain loops, integers, nothing keyed but the words handed in."""

import numpy as np
from numpy.typing import NDArray

from dataguard._jit import kernel

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_TRIES = 24
_SCAN = 256
_WINDOW = 4096


@kernel
def _mix(x: np.uint64) -> np.uint64:
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def _fits(members: F64, tolerance: F64, driver: F64, p: int, q: int) -> bool:
    """Whether two rows differ in the driver and are near in every member."""
    if driver[p] == driver[q]:
        return False
    for m in range(members.shape[0]):
        if abs(members[m, p] - members[m, q]) > tolerance[m]:
            return False
    return True


@kernel
def draw_pairs(
    stratum: I64, driver: F64, members: F64, tolerance: F64, words: U64, ordered: bool, partner: I64
) -> None:
    """Pair rows with a partner drawn from the window of near, unequal values.

    Rows come sorted by (stratum, driver value, keyed word), or by (stratum, keyed word)
    for categories (`ordered` false). Each free row draws a place in its window by its
    keyed word; a taken or unfit place moves the draw on. `partner` (n,) int64 starts at
    -1 and receives the position of the partner.
    """
    n = len(stratum)
    low = 0
    high = 0
    for p in range(n):
        if ordered:
            if low < p:
                low = p
            while low < n and stratum[low] == stratum[p] and driver[low] == driver[p]:
                low += 1
            if high < low:
                high = low
            while high < n and stratum[high] == stratum[p] and driver[high] - driver[p] <= tolerance[0]:
                high += 1
        else:
            low = p + 1
            if high < low:
                high = low
            while high < n and stratum[high] == stratum[p] and high - p <= _WINDOW:
                high += 1
        if partner[p] >= 0 or high <= low:
            continue
        span = np.uint64(high - low)
        found = -1
        for t in range(_TRIES):
            q = low + int(_mix(words[p] + np.uint64(t)) % span)
            if partner[q] < 0 and _fits(members, tolerance, driver, p, q):
                found = q
                break
        if found < 0:
            for q in range(low, min(high, low + _SCAN)):
                if partner[q] < 0 and _fits(members, tolerance, driver, p, q):
                    found = q
                    break
        if found >= 0:
            partner[p] = found
            partner[found] = p
