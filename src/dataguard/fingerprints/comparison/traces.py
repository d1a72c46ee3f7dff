"""Traces that making one column from another leaves: each rule says whether `y` was made from `x`.

A rule returns its counts, or None where it sees nothing. It is run both ways by the caller; where the
answer would be the same both ways it must be None.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dataguard.values import mix64

__all__ = ["decimal_step", "has_residue", "is_rounded", "is_shortened", "merges", "on_foreign_grid"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_LEAST = 30
_NEARLY = 0.99
"""Share of cells that must follow a rule."""

_COARSER = 1.2
"""Times as many distinct values that the finer column has, at least."""

_UNIFORM = 0.289
"""Standard deviation of a uniform value on an interval of length 1."""

_VALUES = 4000
"""Distinct values whose digits are read, those with the smallest hashes."""


def merges(x: U64, y: U64) -> dict[str, int] | None:
    """Return counts if several values of x became one of y, and none of x became several.

    Parameters
    ----------
    x, y : (k,) uint64
        Cell keys of aligned cells, none missing.
    """
    if len(x) < _LEAST:
        return None
    pairs, count = np.unique(np.stack([x, y], axis=1), axis=0, return_counts=True)
    several, off = _spread_of(pairs[:, 0], count)
    joined, mixed = _spread_of(pairs[:, 1], count)
    # Groups of one row are alike by necessity: the rule must be kept in groups of two and more.
    if several < _LEAST or off > (1 - _NEARLY) * several or mixed < max(_LEAST, 5 * off):
        return None
    distinct = len(np.unique(x)), len(np.unique(y))
    if distinct[0] < _COARSER * distinct[1] or distinct[1] < 2:
        return None
    return {"for": mixed, "against": off, "values": distinct[0], "values_left": distinct[1], "rows": joined}


def _spread_of(group: U64, count: I64) -> tuple[int, int]:
    """Return the rows in groups of two and more, and those that are not of the commonest kind of their group."""
    _, place = np.unique(group, return_inverse=True)
    place = place.reshape(-1)
    rows = np.bincount(place, count).astype(np.int64)
    most = np.zeros(len(rows), np.int64)
    np.maximum.at(most, place, count)
    return int(rows[rows >= 2].sum()), int((rows - most).sum())


def _line(x: F64, y: F64) -> tuple[float, float] | None:
    """Return slope and offset of y on x by least squares; None without spread or correlation."""
    with np.errstate(over="ignore", invalid="ignore"):
        scale = float(np.std(x)), float(np.std(y))
        if not all(np.isfinite(s) and s > 0 for s in scale):
            return None
        a, b = (x - x.mean()) / scale[0], (y - y.mean()) / scale[1]
        r = float((a * b).mean())
    if not abs(r) > 0.5:
        return None
    slope = r * scale[1] / scale[0]
    return slope, float(y.mean() - slope * x.mean())


def decimal_step(x: F64) -> float:
    """Return the widest step of 1, 2 or 5 times a power of ten that 99 % of the values keep; 0 without one.

    Parameters
    ----------
    x : (k,) float64
        Finite.
    """
    present = x[x != 0]
    if not len(present):
        return 0.0
    top = int(np.floor(np.log10(np.abs(present).max())))
    for power in range(min(top, 15), max(top - 14, -12) - 1, -1):
        for digit in (5.0, 2.0, 1.0):
            step = digit * 10.0**power if power >= 0 else digit / 10.0**-power
            in_steps = present / step
            # A decimal read into binary64 and divided is off by a few of its own last bits, no more.
            off = np.abs(in_steps - np.rint(in_steps))
            if float((off <= 4e-15 * np.abs(in_steps) + 1e-12).mean()) >= _NEARLY:
                return step
    return 0.0


def is_rounded(x: F64, y: F64) -> dict[str, int] | None:
    """Return counts if y is x (or a x + b) on a coarser grid.

    What rounding takes away is spread evenly over a step. Noise put on a coarse column leaves as many new
    values, but piles up at its old ones or goes beyond the step, and is told from it by that.
    """
    fine, coarse = np.unique(x), np.unique(y)
    if len(coarse) < 3 or len(fine) < _COARSER * len(coarse):
        return None
    line = (1.0, 0.0) if _is_near(x, y) else _line(y, x)
    if line is None:
        return None
    step = decimal_step(y)
    width = abs(line[0]) * step
    if step == 0 or width == 0:
        return None
    left = (x - line[0] * y - line[1]) / width
    # Truncation takes away up to a whole step, on one side: what counts is the spread of what is left.
    middle = float(np.median(left))
    inside = np.abs(left - middle) <= 0.55 if abs(middle) < 0.2 else np.abs(left) <= 1.05
    kept = left[inside]
    if len(kept) < _NEARLY * len(left) or not 0.8 * _UNIFORM <= float(kept.std()) <= 1.2 * _UNIFORM:
        return None
    return {
        "for": int(inside.sum()),
        "against": int((~inside).sum()),
        "values": len(fine),
        "values_left": len(coarse),
    }


def _is_near(x: F64, y: F64) -> bool:
    """Whether y is x but for less than a tenth of its spread, in nearly all rows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(
            (np.abs(x - y) <= 0.3 * np.std(x)).mean() >= _NEARLY and abs(np.mean(x - y)) <= 0.2 * np.std(x)
        )


def on_foreign_grid(x: F64, y: F64) -> dict[str, int] | None:
    """Return counts if y = a x + b one to one, x fills its own decimal grid and y leaves most of its own empty.

    Inches turned to centimetres lie on multiples of 2.54; lengths measured in centimetres do not.
    """
    first, last = np.unique(x), np.unique(y)
    if len(first) != len(last) or len(first) < 10:
        return None
    line = _line(x, y)
    if line is None:
        return None
    steps = decimal_step(first), decimal_step(last)
    if 0 in steps or np.abs(y - line[0] * x - line[1]).max() > steps[1]:
        return None
    room = [float(v[-1] - v[0]) / s + 1 for v, s in zip((first, last), steps, strict=True)]
    filled = [len(v) / r for v, r in zip((first, last), room, strict=True)]
    # A whole factor (minutes to seconds) makes the step wider with it: both are filled alike.
    if filled[0] < 3 * filled[1]:
        return None
    return {
        "values": len(first),
        "room": int(min(room[0], 2.0**62)),
        "room_after": int(min(room[1], 2.0**62)),
    }


def has_residue(x: F64, y: F64) -> dict[str, int] | None:
    """Return counts if y holds numbers such as 27.600000000000005, which arithmetic leaves, and x does not.

    Most of the long numbers of y must be like that: of numbers without any decimal grid one in fifty is, too. And y
    must be a x + b to the last digits, and not x: rounding takes such residues away again.
    """
    line = _line(x, y)
    if line is None or _is_near(x, y):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        exact = np.abs(y - line[0] * x - line[1]) <= 1e-9 * float(np.abs(y).max())
    if float(exact.mean()) < _NEARLY:
        return None
    (before, _), (after, long) = (_residues(v) for v in (x, y))
    if after < 10 or before > 0.05 * after or after < 0.5 * long:
        return None
    return {"for": after, "against": before}


def _residues(x: F64) -> tuple[int, int]:
    """Count distinct values that are within rounding of one of at most 12 digits, and those that have more than 12."""
    distinct = np.unique(x)
    if len(distinct) > _VALUES:
        distinct = distinct[np.argsort(mix64(distinct.view(np.uint64)), kind="stable")[:_VALUES]]
    short = np.array([float(f"{v:.12g}") for v in distinct.tolist()])
    long = short != distinct
    return int((long & (np.abs(short - distinct) <= 1e-14 * np.abs(distinct))).sum()), int(long.sum())


def is_shortened(x: Sequence[str], y: Sequence[str]) -> dict[str, int] | None:
    """Return counts if nearly every text of y is the beginning of its text of x, and many are shorter."""
    begins = [a.startswith(b) for a, b in zip(x, y, strict=True)]
    shorter = sum(len(b) < len(a) for a, b, good in zip(x, y, begins, strict=True) if good)
    if sum(begins) < _NEARLY * len(x) or shorter < _LEAST:
        return None
    return {"for": shorter, "against": len(x) - sum(begins)}
