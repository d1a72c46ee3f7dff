"""A fitted map put into words: which of its parts did anything, and what units they are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dataguard.fingerprints.changes.calendars import CLOCK_STEPS
from dataguard.fingerprints.changes.change import Change
from dataguard.fingerprints.changes.grids import on_grid
from dataguard.fingerprints.changes.units import unit_of, zone_of
from dataguard.maps import ValueMap

__all__ = ["explained_by", "map_changes"]

B = NDArray[np.bool_]
F64 = NDArray[np.float64]

_MERGED = 0.98
"""Rounding that keeps this share of the distinct values apart is how a converted number is printed, no more."""

_SIGMAS = 5.0
"""Of a Gaussian, 1 value in 2 million lies beyond: none of the 20,000 looked at."""


def explained_by(made: ValueMap, x: F64, y: F64) -> B:
    """Return which of the suspect's numbers a map gives: to 1e-9, or within five standard deviations of its noise.

    Parameters
    ----------
    made : ValueMap
    x, y : (m,) float64
        Numbers of the original and of the suspect.
    """
    with np.errstate(all="ignore"):
        off = np.abs(y - made.apply(x))
        slack = 1e-9 * np.abs(y) + 1e-14 * float(np.nanmax(np.abs(y), initial=0.0))
        if made.step:
            slack = np.minimum(slack, 1e-3 * made.step)
        hits: B = off <= (_SIGMAS * made.noise if made.noise else slack)
        if made.step and not made.noise and made.rule in {"nearest", "half-away"}:
            # Programs do not agree on halves: either neighbour is the nearest.
            bare = np.abs(y - replace(made, step=0.0).apply(x))
            hits |= (bare <= 0.5 * made.step * (1 + 1e-7)) & on_grid(y, made.step)
    return hits


def map_changes(made: ValueMap, x: F64, y: F64, time: bool) -> tuple[Change, ...]:
    """Return the changes that a map stands for.

    Parameters
    ----------
    made : ValueMap
    x, y : (m,) float64
        Numbers of the original and of the suspect, both present.
    time : bool
        Whether both are moments, in seconds.
    """
    hits = explained_by(made, x, y)
    changes: list[Change] = []
    exact = replace(made, step=0.0, digits=0, low=-math.inf, high=math.inf, noise=0.0)
    changes += _scaled(made, exact, x[hits], y[hits], time)
    if change := _rounded(made, exact, x[hits], y[hits], time):
        changes.append(change)
    bounds = {n: b for n, b in (("low", made.low), ("high", made.high)) if math.isfinite(b)}
    if bounds:
        unbound = replace(made, low=-math.inf, high=math.inf).apply(x)
        beyond = hits & ((unbound < made.low) | (unbound > made.high))
        changes.append(Change("clipped", {**bounds, "share": round(float(beyond.mean()), 4)}))
    if made.noise:
        spread = float(np.nanstd(made.apply(x)))
        relative = made.noise / spread if spread > 0 else math.nan
        detail = {"sd": made.noise, "relative_sd": relative if math.isfinite(relative) else None}
        changes.append(Change("noise", {**detail, "share": round(float(hits.mean()), 4)}))
    return tuple(changes)


def _scaled(made: ValueMap, exact: ValueMap, x: F64, y: F64, time: bool) -> list[Change]:
    plain = made.scale == 1 and made.shift == 0
    off = y - exact.apply(x)
    inside = np.isfinite(off) & (y > made.low) & (y < made.high)
    residual = float(np.sqrt(np.mean(off[inside] ** 2))) if inside.any() else 0.0
    if made.function == "table":
        return [Change("function", {"name": "monotone", "knots": len(made.knots), "residual": residual})]
    if made.function:
        name, scale = _logarithm(made.function, made.scale)
        detail = {"name": name}
        more = {} if scale == 1 and made.shift == 0 else {"scale": scale, "offset": made.shift}
        return [Change("function", {**detail, **more, "residual": residual})]
    if plain:
        return []
    spread = float(np.std(y)) if len(y) else 0.0
    unit = (
        zone_of(made.shift) if time and made.scale == 1 else unit_of(made.scale, made.shift, spread)
    )  # fmt: skip
    detail_ = {"scale": made.scale, "offset": made.shift, "unit": unit, "residual": residual}
    if unit is None and made.shift == 0:
        detail_["said"] = "constant factor"
    if made.step and not made.noise:
        detail_["printed_to"] = made.step
    return [Change("affine", detail_)]


def _logarithm(function: str, scale: float) -> tuple[str, float]:
    """Return the base that leaves no scale."""
    for name, base in (("log10", math.log(10)), ("log2", math.log(2))):
        if function == "log" and abs(scale * base - 1) < 1e-6:
            return name, 1.0
    return function, scale


def _rounded(made: ValueMap, exact: ValueMap, x: F64, y: F64, time: bool) -> Change | None:
    if not (made.step or made.digits) or not len(x):
        return None
    bounded = (y > made.low) & (y < made.high)
    if not bounded.any():
        return None
    source, shown = np.unique(exact.apply(x[bounded])), np.unique(y[bounded])
    keeps_apart = len(shown) >= _MERGED * len(source)
    if keeps_apart and not exact.is_plain:
        return None
    if explained_by(replace(exact, low=made.low, high=made.high), x, y).mean() > 0.999:
        return None
    if made.digits:
        return Change("rounded", {"digits": made.digits, "rule": made.rule})
    step: float | str = CLOCK_STEPS.get(made.step, made.step) if time else made.step
    return Change("rounded", {"step": step, "rule": made.rule})
