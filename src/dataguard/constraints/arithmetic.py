"""Row-wise arithmetic facts: how to evaluate one, and how to tell one from chance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dataguard.constraints.facts import Identity

__all__ = ["clock_minutes", "complete", "confirm", "coverage", "holds", "residual", "top_values"]

B1 = NDArray[np.bool_]
F64 = NDArray[np.float64]

DAY_MINUTES = 1440
MOST_RESIDUALS = 8
_FEW_SHARE = 0.98
_NEAR = 0.99
_SHUFFLE = 7919  # rows are compared with rows far away: any prime beyond the usual block lengths


def clock_minutes(value: F64) -> F64:
    """Return minutes since midnight of HHMM numbers (517 is 5:17); 2400 is midnight, as 0 is."""
    hours = np.floor(value / 100)
    minutes: F64 = np.mod(60 * hours + (value - 100 * hours), DAY_MINUTES)
    return minutes


def residual(identity: Identity, values: Mapping[str, F64]) -> F64:
    """Return target minus right side, (n,) float64; nan where a column is missing.

    Parameters
    ----------
    identity : Identity
        For ``clock`` the residual is in minutes within +-720; for ``order`` it is target - input.
    values : mapping of str to (n,) float64
    """
    target = values[identity.target]
    inputs = [values[x] for x in identity.inputs]
    if identity.kind == "clock":
        late = clock_minutes(target) - clock_minutes(inputs[0]) - inputs[1]
        return np.asarray(np.mod(late + DAY_MINUTES / 2, DAY_MINUTES) - DAY_MINUTES / 2)
    if identity.kind == "product":
        with np.errstate(over="ignore"):
            return np.asarray(target - inputs[0] * inputs[1])
    out = target.copy()
    for coefficient, x in zip(identity.coefficients, inputs, strict=True):
        out = out - coefficient * x
    return out


def complete(identity: Identity, values: Mapping[str, F64]) -> B1:
    """Return the rows, (n,) bool, that have all columns of an identity."""
    return np.asarray(np.logical_and.reduce([np.isfinite(values[c]) for c in identity.columns]))


def holds(identity: Identity, values: Mapping[str, F64]) -> B1:
    """Return the rows, (n,) bool, for which an identity holds (``order``: with its slack)."""
    left = residual(identity, values)
    if identity.kind == "order":
        with np.errstate(invalid="ignore"):
            return np.asarray(left >= identity.slack - identity.tolerance)
    return _among(left, identity.residuals, _allowance(identity, values))


def _allowance(identity: Identity, values: Mapping[str, F64]) -> F64:
    """Half a unit, and the last bits that binary64 loses in large numbers."""
    return identity.tolerance + 4e-16 * np.abs(np.nan_to_num(values[identity.target]))


def _among(left: F64, allowed: tuple[float, ...], tolerance: F64) -> B1:
    out = np.zeros(left.shape, bool)
    with np.errstate(invalid="ignore"):
        for value in allowed:
            out |= np.abs(left - value) <= tolerance
    return out


def top_values(left: F64, grid: float, most: int = MOST_RESIDUALS) -> tuple[tuple[float, ...], float]:
    """Return the most frequent residuals on a grid, and the share of finite rows they cover."""
    steps = np.rint(left[np.isfinite(left)] / grid)
    if len(steps) == 0:
        return (), 0.0
    value, count = np.unique(steps, return_counts=True)
    best = np.argsort(-count, kind="stable")[:most]
    enough = np.cumsum(count[best]) / len(steps)
    need = int(np.searchsorted(enough, 0.9999)) + 1
    return tuple(sorted(float(np.round(value[i] * grid, 9)) for i in best[:need])), float(enough[-1])


def coverage(identity: Identity, values: Mapping[str, F64]) -> float:
    """Return the share of complete rows for which an identity holds; 0 without complete rows."""
    rows = complete(identity, values)
    return float(holds(identity, values)[rows].mean()) if rows.any() else 0.0


def confirm(identity: Identity, values: Mapping[str, F64]) -> Identity | None:
    """Return the identity with its counts over all rows, or None where it does not hold or says nothing.

    It must hold for 99 % of the complete rows (``few``: 98 %), fail for most rows when the
    target is taken from another row, and need each of its inputs where that is not zero.
    """
    rows = complete(identity, values)
    n = int(rows.sum())
    if n < 30:
        return None
    kept = {c: values[c][rows] for c in identity.columns}
    good = holds(identity, kept)
    share = float(good.mean())
    if share < (_FEW_SHARE if identity.kind == "few" else _NEAR):
        return None
    moved = dict(kept)
    moved[identity.target] = np.roll(kept[identity.target], _SHUFFLE % n or 1)
    if _best(identity, moved) > 0.6 or not _needed(identity, kept, good):
        return None
    return Identity(
        identity.kind, identity.target, identity.inputs, identity.coefficients, identity.residuals,
        identity.tolerance, n, n - int(good.sum()),
    )  # fmt: skip


def _best(identity: Identity, values: Mapping[str, F64]) -> float:
    """Coverage when the residuals may be chosen anew (the fair comparison for ``few``)."""
    if identity.kind == "few":
        return top_values(residual(identity, values), 2 * identity.tolerance)[1]
    return coverage(identity, values)


def _needed(identity: Identity, values: Mapping[str, F64], good: NDArray[np.bool_]) -> bool:
    """Whether every input matters: the rows in which it is not neutral hold, and only thanks to it."""
    if identity.kind in {"clock", "scaled"}:
        return True
    uncovered = 1 - float(good.mean())
    for i, name in enumerate(identity.inputs):
        active = values[name] != 0
        if identity.kind == "product":
            active &= (values[name] != 1) & (values[identity.inputs[1 - i]] != 0)
        if active.sum() < 20 or good[active].mean() < 0.9:
            return False
        without = {**values, name: np.zeros(len(good))}
        if identity.kind == "few":
            # A toll that is nearly always 5.76 looks like one more fee: judge by all rows.
            if 1 - _best(identity, without) < 2 * uncovered + 0.005:
                return False
        elif identity.kind == "sum" and holds(identity, without)[active].mean() > 0.9:
            return False
    return True
